"""The answers of language models, read out of the protocol's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer of a language model."""

    text: str
    """A refusal that the server sends apart from the content counts as the text."""
    finish_reason: str
    """``stop``, ``length``, or another word of the server's."""
    tokens: int | None
    """New tokens as the server counts them, the end-of-sequence token mostly with them. None: it does not count."""
    top_logprobs: Sequence[Mapping[str, float]] | None = None
    """For each new token the likeliest tokens with their log-probabilities, where they were asked for."""


def chat_reply(answer: Any) -> Reply:
    choice = answer["choices"][0]
    message = choice["message"]
    text = message["content"]
    places = (choice.get("logprobs") or {}).get("content")
    return Reply(
        text=_text(message.get("refusal") or "" if text is None else text),
        finish_reason=_text(choice["finish_reason"]),
        tokens=_tokens(answer),
        top_logprobs=places and [{top["token"]: top["logprob"] for top in place["top_logprobs"]} for place in places],
    )


def completion_reply(answer: Any) -> Reply:
    choice = answer["choices"][0]
    return Reply(
        text=_text(choice["text"]),
        finish_reason=_text(choice["finish_reason"]),
        tokens=_tokens(answer),
        top_logprobs=(choice.get("logprobs") or {}).get("top_logprobs"),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {type(value).__name__} where a text belongs")
    return value


def _tokens(answer: Any) -> int | None:
    return (answer.get("usage") or {}).get("completion_tokens")
