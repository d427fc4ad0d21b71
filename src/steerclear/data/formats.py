"""The formats that training rows may have: which fields tell them, and what the fields mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from steerclear.records import Messages

PROBLEM_KINDS = ("empty", "duplicate", "unlabelled", "type", "weight")
"""Why a row is faulty: blank text, the same text twice, no label, a value of the wrong type, a weight out of range."""

LEFT_OUT = ("filtered", "other_label", *PROBLEM_KINDS)
"""Why a row is left out: ``where`` does not hold, its label is that of the other role, or it is faulty."""

MIN_WEIGHT, MAX_WEIGHT = 1e-5, 1000.0
"""The range of positive weights that signed labels can carry."""


@dataclass(frozen=True)
class Content:
    """A raw row's texts and label, whatever its format."""

    prompt: str | Messages
    completion: str | Messages
    label: bool
    input: str = ""
    side: str = ""
    """Suffix of the row's id that tells the side of a pair."""
    context: str = ""
    """The beginning of the answer, before the completion."""


class LeftOutError(Exception):
    """A raw row is left out; carries why, one of `LEFT_OUT`, and what to say of it if it is faulty."""

    def __init__(self, kind: str, what: str = "") -> None:
        super().__init__(what)
        self.kind = kind


@dataclass(frozen=True)
class Format:
    """A set of fields that a data set may have."""

    required: tuple[str, ...]
    """A row with all of these fields is of this format."""
    fields: str
    """All fields as the documentation writes them; optional ones carry a question mark."""
    content: Callable[[dict[str, Any], str], Content]
    """Takes a raw row and the role apart."""

    def unread(self, raw: dict[str, Any]) -> set[str]:
        """Return the columns of `MEANINGFUL` that a raw row has a value in and that this format does not read."""
        own = {name.strip(" ?") for name in self.fields.split(",")}
        return {name for name in MEANINGFUL if raw.get(name) and name not in own}


def _alpaca(raw: dict[str, Any], role: str) -> Content:
    label = _label(raw, "label", default=role == "benign")
    asked, extra = _text(raw, "instruction"), _text(raw, "input")
    before = _before(raw)
    if not before:
        return Content(asked, _text(raw, "output"), label, input=extra)
    question = f"{asked}\n\n{extra}" if extra.strip() else asked
    return Content([*before, {"role": "user", "content": question}], _text(raw, "output"), label)


def _before(raw: dict[str, Any]) -> Messages:
    """Return the turns of the columns ``system`` and ``history``, as LLaMA-Factory's alpaca rows have them."""
    system, history = _text(raw, "system"), raw.get("history") or []
    turns = [{"role": "system", "content": system}] if system.strip() else []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in history
    ):
        raise LeftOutError("type", "history: expected a list of pairs of texts, each a question and its answer.")
    for asked, answered in history:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return turns


def _triple(raw: dict[str, Any], role: str) -> Content:  # noqa: ARG001 (the label says it)
    return Content(_text(raw, "prompt"), _text(raw, "response"), _label(raw, "is_safe"))


def _pair(raw: dict[str, Any], role: str) -> Content:
    side = "safe" if role == "benign" else "unsafe"
    return Content(_text(raw, "prompt"), _text(raw, side), role == "benign", side=f"-{side}")


def _conversation(raw: dict[str, Any], role: str) -> Content:
    turns = _turns(raw, "messages")
    if turns and turns[-1]["role"] != "assistant":
        raise LeftOutError("type", f"messages: the last one is of role {turns[-1]['role']!r}, expected assistant.")
    if turns and raw["messages"][-1].get("weight") == 0:
        raise LeftOutError("weight", "messages: the last answer has weight 0, so there is nothing to learn.")
    return Content(turns[:-1], turns[-1:], _label(raw, "label", default=role == "benign"))


def _canonical(raw: dict[str, Any], role: str) -> Content:  # noqa: ARG001 (the label says it)
    label = _label(raw, "label")
    if not isinstance(raw["prompt"], list) and not isinstance(raw["completion"], list):
        texts = {name: _text(raw, name) for name in ("input", "context")}
        return Content(_text(raw, "prompt"), _text(raw, "completion"), label, **texts)
    prompt, completion = _turns(raw, "prompt"), _turns(raw, "completion")
    if completion and completion[-1]["role"] != "assistant":
        raise LeftOutError(
            "type", f"completion: the last message is of role {completion[-1]['role']!r}, expected assistant."
        )
    if _text(raw, "input").strip():
        raise LeftOutError("type", "input: got text beside a prompt of messages, expected it in the messages.")
    return Content(prompt, completion, label, context=_text(raw, "context"))


MEANINGFUL = ("system", "system_prompt", "history", "tools", "chat_template_kwargs", "images")
"""Columns that change what a row means; where a format does not read one, the user is told."""

FORMATS = {
    "alpaca": Format(("instruction", "output"), "instruction, input?, output, label?, system?, history?", _alpaca),
    "triples": Format(("prompt", "response"), "prompt, response, is_safe", _triple),
    "pairs": Format(("prompt", "unsafe", "safe"), "prompt, unsafe, safe", _pair),
    "messages": Format(("messages",), "messages, label?", _conversation),
    "canonical": Format(("prompt", "completion"), "prompt, completion, label, input?, context?", _canonical),
}
"""Every format that is read, by name. All of them may also have ``id`` and ``weight``; other fields are ignored."""


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LeftOutError("type", f"{name}: got {_kind(value)}, expected text.")
    if not is_unicode(value):
        raise LeftOutError("type", f"{name}: got half of a surrogate pair, expected valid Unicode.")
    return value


def _turns(raw: dict[str, Any], name: str) -> Messages:
    """Return role and content of each message; other keys of a message are dropped."""
    value = raw[name]
    if not isinstance(value, list):
        raise LeftOutError("type", f"{name}: got {_kind(value)}, expected a list of messages.")
    for turn in value:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            raise LeftOutError("type", f"{name}: each message needs a role and a content, both text.")
    return [{key: _text(turn, key) for key in ("role", "content")} for turn in value]


def _label(raw: dict[str, Any], name: str, default: bool | None = None) -> bool:
    value = raw.get(name)
    if value is None:
        value = default
    if value is None:
        raise LeftOutError("unlabelled", f"the field {name} is missing, allowed: true or false.")
    if not isinstance(value, bool):
        raise LeftOutError("type", f"{name}: got {_kind(value)}, allowed: true or false.")
    return value


def read_weight(value: object) -> float:
    """Return a row's weight; 1 where it has none.

    Raises:
        LeftOutError: it is no number, or not one that signed labels can carry.
    """
    if value is None:
        return 1.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise LeftOutError("type", f"weight: got {_kind(value)}, expected a number.")
    if not math.isfinite(value) or (value != 0 and not MIN_WEIGHT <= value <= MAX_WEIGHT):
        raise LeftOutError("weight", f"weight: got {value}, allowed: 0, or {MIN_WEIGHT:g} to {MAX_WEIGHT:g}.")
    return float(value)


def is_unicode(text: str) -> bool:
    """Whether the text can be written: JSON can spell half of a surrogate pair, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
