"""The paper's four models in small: two random layers of each architecture, and a tokenizer of each form, made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}

LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 splits text before its merges."""


def save_small(name: str, folder: Path, text: list[str]) -> Path:
    """Save a model of the architecture and the tokenizer form that a preset's model has, and return its folder.

    Args:
        text: what the tokenizer's merges are learnt from.
    """
    make_tokenizer, make_config = _FORMS[name]
    tokenizer, special = make_tokenizer(text)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(special | {"model_max_length": 2048}))
    torch.manual_seed(0)
    ids = {key: tokenizer.token_to_id(special[f"{key[:3]}_token"]) for key in ("bos_token_id", "eos_token_id")}
    config = make_config(vocab_size=tokenizer.get_vocab_size(), **ids)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _sentencepiece(text: list[str], extra: int, *, metaspace: bool) -> tuple[Tokenizer, dict[str, Any]]:
    """A BPE converted from SentencePiece: <unk>, <s>, </s>, other control tokens, a token for each byte, then the merges.

    A space is ▁, put before the text by the normalizer (Llama) or the pre-tokenizer (Mistral). What is unknown becomes bytes.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    control = ["<unk>", "<s>", "</s>", *(f"[control_{i}]" for i in range(extra))]
    pieces = [*control, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt["vocab"]]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in learnt["merges"]]
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.add_special_tokens(control)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    return made, special | {"add_bos_token": True, "add_eos_token": False, "pad_token": None, "legacy": False}


def _byte_level(text: list[str]) -> tuple[Tokenizer, dict[str, Any]]:
    """Llama 3's: byte-level BPE that splits by a pattern first, its special tokens after the merges."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(text, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    made.add_special_tokens([begin, end, *(f"<|reserved_special_token_{i}|>" for i in range(8))])
    template = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, made.token_to_id(begin))])
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return made, {"bos_token": begin, "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}


LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

_LLAMA = (
    lambda text: _sentencepiece(text, 0, metaspace=False),
    lambda **sizes: LlamaConfig(**SHAPE, **sizes, max_position_embeddings=2048),
)

_FORMS: dict[str, tuple[Callable[[list[str]], tuple[Tokenizer, dict[str, Any]]], Callable[..., PretrainedConfig]]] = {
    "llama-7b": _LLAMA,
    "llama-13b": _LLAMA,
    "mistral-7b": (
        lambda text: _sentencepiece(text, 768, metaspace=True),
        lambda **sizes: MistralConfig(**SHAPE, **sizes, num_key_value_heads=2, sliding_window=None, rope_theta=1e6),
    ),
    "llama-3.1-8b": (
        _byte_level,
        lambda **sizes: LlamaConfig(
            **SHAPE, **sizes, num_key_value_heads=2, rope_theta=5e5, rope_scaling=LLAMA_3_ROPE,
            max_position_embeddings=131072,
        ),
    ),
}  # fmt: skip
"""Preset -> what makes its tokenizer, with the tokenizer's settings, and its configuration."""
