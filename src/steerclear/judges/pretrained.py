"""What the judges that are local neural models share: opening a model for inference, its identity, batches of like length.

Weights are read from safetensors only and no code from a model's folder is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from steerclear.errors import ModelError
from steerclear.judges.options import LocalJudgeOptions
from steerclear.records import sha256_of, sha256_of_file

Result = TypeVar("Result")

WINDOW = 8
"""A judge takes so many batches at once, to make batches of like length of them."""

SPEED_ONLY = ("batch_size", "device")
"""Options that change no score."""

_IDENTIFYING = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "*.safetensors",
)
"""Files of a model's folder on which its scores depend."""


def load_judge(auto_class: Any, options: LocalJudgeOptions) -> tuple[Any, PreTrainedTokenizerBase]:
    """Open a model with its tokenizer for inference.

    Args:
        auto_class: transformers' class that opens it, such as ``AutoModelForCausalLM``.

    Raises:
        ModelError: it cannot be read, has no safetensors, lacks weights, or the device cannot be used.
    """
    try:
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        place = place if options.device == "auto" else torch.empty(0, device=options.device).device
        automatic = torch.float32 if place.type == "cpu" else torch.bfloat16
        model, found = auto_class.from_pretrained(
            options.model,
            dtype=automatic if options.dtype == "auto" else getattr(torch, options.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, AssertionError, SafetensorError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"judge '{options.model}' cannot be loaded: {detail} Give a folder with config.json, a tokenizer and "
            "*.safetensors, or the name of a model on the Hub that may be downloaded here."
        ) from error
    if found["missing_keys"]:
        raise ModelError(
            f"judge '{options.model}': {len(found['missing_keys'])} weights are missing from its files, such as "
            f"{min(found['missing_keys'])}, and would be random. Give the trained judge, not the model it was made of."
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"tokenizer of '{options.model}': neither a padding nor an end-of-sequence token.")
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(place).eval(), tokenizer


def judge_name(kind: str, model: Any, options: LocalJudgeOptions, **asked: Any) -> str:
    """Return ``kind:model@version#settings``.

    The version is the start of the commit of a Hub model, or of the hash of a folder's configuration, tokenizer and weights;
    ``settings`` is the start of the hash of the options that change scores.

    Args:
        asked: texts of this package that the model reads, as far as they are not in its own files.
    """
    settings = {k: v for k, v in asdict(options).items() if k not in SPEED_ONLY} | {"dtype": str(model.dtype), **asked}
    folder = Path(options.model)
    if folder.is_dir():
        files = {file for pattern in _IDENTIFYING for file in folder.glob(pattern) if file.is_file()}
        version = sha256_of({file.name: sha256_of_file(file) for file in files})
        identity = f"{folder.resolve().name}@{version[:12]}"
        del settings["model"]  # a moved folder is the same judge
    else:
        commit = getattr(model.config, "_commit_hash", None)
        identity = f"{options.model}@{commit[:12] if commit else 'unknown'}"
    return f"{kind}:{identity}#{sha256_of(settings)[:8]}"


def in_batches(
    encoded: Sequence[list[int]], size: int, ask: Callable[[list[list[int]]], Sequence[Result]]
) -> list[Result]:
    """Return what is found for each text, asked in batches of like length.

    The longest come first: a batch too large for the memory fails at once.

    Args:
        ask: returns one result for each text of a batch.
    """
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]), reverse=True)
    found: dict[int, Result] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        found.update(zip(batch, ask([encoded[index] for index in batch]), strict=True))
    return [found[index] for index in range(len(encoded))]
