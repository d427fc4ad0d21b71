"""The demo's base model: a Llama of 0.37 million parameters, pre-trained from scratch on the world's text in under a minute."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steerclear.demo.world import corpus, split, vocabulary
from steerclear.errors import StorageError
from steerclear.records import sha256_of, write_json

RECIPE_VERSION = 1
"""Raised when the code below trains another model from the same options."""

CONTEXT = 64
"""Longest text in tokens; a question with its answer has at most 39."""

_TRAINING = "training.json"
_PAD, _BOS, _EOS, _UNK = "<pad>", "<s>", "</s>", "<unk>"


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """What determines the base model."""

    seed: int = 0
    """Seed of the split, the text, the weights and the order."""
    refusal_share: float = 0.13
    """Share of the harmful questions in the text that are refused."""
    documents: int = 14000
    """Questions with answers in the text, each read once."""
    batch_size: int = 32
    """Documents in an optimizer step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    hidden_size: int = 96
    """Width of the model."""
    layers: int = 3
    """Depth of the model."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer: one token a word or punctuation mark, ``<s>`` in front."""
    words = [_PAD, _BOS, _EOS, _UNK, *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=_UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)  # joins words, with no space before punctuation
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A", special_tokens=[(_BOS, words.index(_BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_PAD, bos_token=_BOS, eos_token=_EOS, unk_token=_UNK
    )


def pretrain(
    options: BaseOptions, on_step: Callable[[int, int], None]
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train the base model on the world's text, all tokens alike. The same options give the same weights on a machine.

    Args:
        options: text, shape and schedule.
        on_step: called with (steps done, steps in all).
    """
    tokenizer = build_tokenizer()
    documents = _tokenize(tokenizer, _text(options))
    model = _new_model(tokenizer, options)
    steps = len(documents) // options.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps, pct_start=0.1)
    random.Random(f"order {options.seed}").shuffle(documents)
    for step in range(steps):
        ids_BT = _padded(documents[step * options.batch_size : (step + 1) * options.batch_size])
        # The pad token's id is 0 and padding is on the right, where a causal model sees it only after the document.
        logits_BTV = model(input_ids=ids_BT).logits
        loss = cross_entropy(logits_BTV[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps)
    return model.eval(), tokenizer


def _text(options: BaseOptions) -> list[tuple[str, str]]:
    train, _ = split(options.seed)
    return corpus(train, documents=options.documents, refusal_share=options.refusal_share, seed=options.seed)


def _tokenize(tokenizer: PreTrainedTokenizerFast, text: Sequence[tuple[str, str]]) -> list[Tensor]:
    encoded = tokenizer([f"{question} {answer}{_EOS}" for question, answer in text])["input_ids"]
    return [torch.tensor(ids) for ids in encoded]


def _padded(documents: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(documents), batch_first=True, padding_value=0)


def _new_model(tokenizer: PreTrainedTokenizerFast, options: BaseOptions) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden_size,
        intermediate_size=options.hidden_size * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return LlamaForCausalLM(config)


def cache_folder() -> Path:
    """Return where base models are kept by default: ``steerclear/demo`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerclear" / "demo"


def base_model(options: BaseOptions, cache: Path, on_step: Callable[[int, int], None]) -> Path:
    """Return the folder of the base model, pre-training it unless ``cache`` has it. See `pretrain`.

    Raises:
        StorageError: the cache cannot be written.
    """
    determined_by = {
        "recipe": RECIPE_VERSION,
        "options": dataclasses.asdict(options),
        "text": _text(options),
        "torch": torch.__version__,
    }
    folder = cache / sha256_of(determined_by)[:16]
    if not folder.is_dir():
        started = time.monotonic()
        model, tokenizer = pretrain(options, on_step)
        save_folder(folder, model, tokenizer, seconds=time.monotonic() - started)
    return folder


def save_folder(folder: Path, model: Any, tokenizer: Any, *, seconds: float) -> None:
    """Save a model, its tokenizer and the seconds its training took, so that the folder exists only if it is complete.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            write_json(temporary / _TRAINING, {"seconds": round(seconds, 1)})
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"{folder}: the model cannot be saved ({error.strerror or error}). Free some space or choose another folder."
        ) from error


def training_seconds(folder: Path) -> float:
    """Return how long the training of a saved model took, in seconds."""
    return json.loads((folder / _TRAINING).read_text(encoding="utf-8"))["seconds"]
