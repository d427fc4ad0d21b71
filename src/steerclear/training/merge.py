"""Folding a trained adapter into its base model, so that any tool can load the result as a plain model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from steerclear.errors import StorageError
from steerclear.generation.weights import attach_adapter, load_base, load_tokenizer


def merge_adapter(base: str, adapter: str, output: Path) -> None:
    """Write the base model with the adapter folded in: safetensors, tokenizer and generation config.

    The sum is taken in float32 and stored in the base's own data type, so it is rounded once. The folder appears
    complete or not at all.

    Args:
        base: folder or Hub name of the base model.
        adapter: folder or Hub name of the adapter that was trained on it.
        output: a new or empty folder.

    Raises:
        ModelError: the base or the adapter cannot be loaded, or they do not belong together.
        StorageError: the output holds files already, or cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise StorageError(f"{output}: exists and is not an empty folder. Choose another output, or remove it.")
    tokenizer = load_tokenizer(base)
    model = load_base(base, "auto")
    stored_dtype = model.dtype
    merged: Any = attach_adapter(model.float(), adapter)
    _save(merged.merge_and_unload().to(stored_dtype), tokenizer, output)


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    # Saving refuses generation configs that many published models have (a temperature without sampling, say);
    # the base's is kept as it is all the same.
    generation_config = model.generation_config
    model.generation_config = GenerationConfig()
    folder: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        generation_config.to_json_file(folder / "generation_config.json")
        folder.chmod(0o755)  # A temporary folder is its owner's alone.
        folder.replace(output)
    except OSError as error:
        raise StorageError(
            f"{output}: cannot be written ({error.strerror or error}). Free some space or choose another output."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
