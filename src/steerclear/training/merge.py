"""Folding a trained adapter into its base model, so that any tool can load the result as a plain model."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from steerclear.errors import StorageError
from steerclear.models import attach_adapter, load_base, load_tokenizer


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
    stored_dtype = load_base(base, "auto").dtype
    merged: Any = attach_adapter(load_base(base, torch.float32), adapter)
    merged = merged.merge_and_unload().to(stored_dtype)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.", delete=False) as folder:
            pass
    except OSError as error:
        raise error
