"""Opening a causal language model and its tokenizer, with or without an adapter, from a local folder or the Hub.

Weights are read from safetensors only and no code from a model's folder is ever run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from steerclear.errors import ModelError, one_of

if TYPE_CHECKING:
    from peft import PeftModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")

_LOADING_ERRORS = (OSError, ValueError, SafetensorError)


def load_model(
    path: str,
    adapter: str | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    merge_adapter: bool = True,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a model for inference, with its tokenizer.

    Args:
        path: folder or Hub name of the base model.
        adapter: folder or Hub name of a PEFT adapter for it, or None.
        dtype: ``float32``, ``bfloat16`` or ``auto``: bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slow.
        device: a torch device, or ``auto``: the GPU if there is one.
        merge_adapter: fold the adapter into the weights, which is faster; off keeps a `PeftModel`.

    Raises:
        ModelError: a folder or a file in it is missing, has no safetensors, or the adapter belongs to another base.
    """
    if dtype not in ("auto", *DTYPES):
        raise ModelError(one_of("dtype", dtype, ("auto", *DTYPES)))
    place = _device(device)
    chosen = DTYPES.get(dtype, torch.float32 if place.type == "cpu" else torch.bfloat16)
    tokenizer = load_tokenizer(path)
    model: Any = load_base(path, chosen)
    if adapter is not None:
        model = attach_adapter(model, adapter)
        if merge_adapter:
            model = model.merge_and_unload()
    return model.to(place).eval(), tokenizer


def load_base(path: str, dtype: torch.dtype | str) -> PreTrainedModel:
    """Load the model alone, on the CPU. ``dtype="auto"`` keeps the one its weights are stored in.

    Raises:
        ModelError: as `load_model`.
    """
    folder = _local_folder(path, "model")
    if folder is not None:
        _check_model_folder(folder)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (*_LOADING_ERRORS, RuntimeError) as error:
        raise ModelError(f"model '{path}' cannot be loaded: {_first_line(error)}.{_hub_hint(folder)}") from error
    if found["missing_keys"]:
        raise ModelError(
            f"model '{path}': {len(found['missing_keys'])} weights are missing from its files, such as "
            f"{min(found['missing_keys'])}, and would be random. Save or fetch the model again."
        )
    return model


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer. Where it has no padding token the end-of-sequence token pads: padding is masked anyway.

    Raises:
        ModelError: the folder is missing or has no tokenizer, or the tokenizer has neither of the two tokens.
    """
    folder = _local_folder(path, "model")
    if folder is not None and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: no tokenizer files, expected one of {', '.join(TOKENIZER_FILES)}. "
            "Copy them from the model that this one was made of."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        raise ModelError(f"tokenizer of '{path}' cannot be loaded: {_first_line(error)}.{_hub_hint(folder)}") from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"tokenizer of '{path}': neither a padding nor an end-of-sequence token. Add one to it.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def attach_adapter(model: PreTrainedModel, adapter: str) -> PeftModel:
    """Put a trained adapter onto its base model.

    Raises:
        ModelError: the adapter's folder or files are missing, or it was trained on a model of another shape.
    """
    from peft import (  # a second, which a model alone does not need
        PeftModel,
        get_peft_model_state_dict,
        load_peft_weights,
    )

    folder = _local_folder(adapter, "adapter")
    if folder is not None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if not (folder / name).is_file():
                raise ModelError(f"{folder}: no {name}, so not a PEFT adapter. Give the folder that training wrote.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT only warns of weights that do not fit; they are refused below.
            adapted = PeftModel.from_pretrained(model, adapter)
            stored = set(load_peft_weights(adapter, device="cpu"))
    except RuntimeError as error:
        raise ModelError(_other_base(adapter, _first_line(error))) from error
    except _LOADING_ERRORS as error:
        raise ModelError(f"adapter '{adapter}' cannot be loaded: {_first_line(error)}.{_hub_hint(folder)}") from error
    stray = {name for name in stored ^ set(get_peft_model_state_dict(adapted)) if ".lora_" in name}
    if stray:
        detail = f"{len(stray)} of its weights have no counterpart, such as {min(stray)}"
        raise ModelError(_other_base(adapter, detail))
    return adapted


def _other_base(adapter: str, detail: str) -> str:
    return f"adapter '{adapter}' was made for another base model: {detail}. Give the base named in its adapter_config.json."


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device: got {name!r}, which cannot be used: {_first_line(error)}. Use auto or cpu."
        ) from error


def _local_folder(path: str, what: str) -> Path | None:
    """Return the folder, or None where the path has the form of a Hub name (``owner/name`` or ``name``)."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"{what} '{path}' is a file, expected a folder. Give the folder it lies in.")
    if path.startswith((".", "/", "~")) or path.endswith("/") or path.count("/") > 1:
        raise ModelError(f"{what} folder '{path}' does not exist. Check the path.")
    return None


def _check_model_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        hint = "Check the path."
        if (folder / "adapter_config.json").is_file():
            hint = "It is an adapter: give its base as the model and this folder as the adapter."
        raise ModelError(f"{folder}: no config.json, so not a model. {hint}")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        raise ModelError(
            f"{folder}: no *.safetensors weights"
            + (", only pickled *.bin files, which can run code when loaded. " if pickled else ". ")
            + "Save the model again with save_pretrained to get safetensors."
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A load_state_dict error names the shapes in its second line; its first is only a heading.
    detail = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else type(error).__name__
    return detail.rstrip(".")


def _hub_hint(folder: Path | None) -> str:
    return "" if folder else " No local folder has this name, so the Hub or its cache was asked; check the name."


@contextmanager
def at_rest(model: Any) -> Iterator[None]:
    """Let a model that trains be asked for a while: no dropout, no gradient. Then it trains on as it did."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
