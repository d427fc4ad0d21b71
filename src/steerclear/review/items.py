"""The answers of a file, in any of the shapes that this package writes or reads, as items to review."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.data.files import read_objects
from steerclear.errors import DataError, one_of
from steerclear.records import OUTCOMES, Messages, text_of
from steerclear.review.decisions import answer_key

JUDGED = dict(zip(OUTCOMES, ("", "broken", "unsafe", "safe"), strict=True))
"""Outcome of a verdict -> what a person would call it; empty for no verdict."""

DETAILS = ("reason", "refused", "language", "score", "harm_score", "judge", "category", "suite", "source", "finish")
"""Fields that are shown beside an answer, if it has them."""

SHAPES = (
    "prompt and response (with outcome, is_safe or flagged, if known), prompt and completion (with label), "
    "instruction and output, or prompt with safe, unsafe or both"
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One answer to look at."""

    key: str
    """`answer_key` of the two texts as shown."""
    id: str
    prompt: str
    """What is shown: the prompt, or a conversation's turns with their roles."""
    asked: str
    """The prompt as the judges read it: of a conversation the last words of the user."""
    response: str
    judged: str
    """``unsafe``, ``safe``, ``broken``, or empty where the file does not say."""
    source: str
    details: tuple[tuple[str, str], ...]
    """Name and value of what else the file says of it."""


def read_items(path: Path) -> list[Item]:
    """Read the answers of a ``.jsonl`` file, or of a ``.json`` file with a list. An answer that is there twice comes once.

    Raises:
        DataError: the file cannot be read, has no answers, or a row has none of the known shapes.
    """
    suffix = path.suffix.lower()
    if suffix not in (".jsonl", ".json"):
        raise DataError(f"{one_of('review: kind of file', suffix, ('.jsonl', '.json'))} Convert it: steerclear import.")
    rows = read_objects(path)
    items: dict[str, Item] = {}
    for number, row in rows:
        try:
            for item in _items(row, f"line-{number}", path.stem):
                items.setdefault(item.key, item)
        except _ShapeError as error:
            raise DataError(f"{path}:{number}: {error}") from error
    if not items:
        raise DataError(f"{path}: holds no answers. Give a file with at least one.")
    return list(items.values())


class _ShapeError(Exception):
    """A row is none that can be reviewed; carries what is wrong."""


def _items(row: dict[str, Any], place: str, source: str) -> Iterator[Item]:
    asked_in = next((name for name in ("prompt", "instruction") if name in row), None)
    answers = [(name, "") for name in ("response", "completion", "output") if row.get(name) is not None][:1]
    answers = answers or [(name, f"-{name}") for name in ("unsafe", "safe") if row.get(name) is not None]
    if asked_in is None or not answers:
        raise _ShapeError(f"got the fields {', '.join(sorted(row)) or 'none'}, expected {SHAPES}.")
    prompt = _conversation(row[asked_in], asked_in)
    asked = text_of(prompt)
    for name, side in answers:
        shown, response = _shown(prompt), _answer(row[name], name)
        if row.get("input"):
            shown = asked = f"{shown}\n\n{_text(row['input'], 'input')}"
        yield Item(
            key=answer_key(shown, response),
            id=f"{row.get('id', place)}{side}",
            prompt=shown,
            asked=asked,
            response=response,
            judged=side[1:] or _judged(row),
            source=str(row.get("source") or source),
            details=tuple(_details(row)),
        )


def _conversation(value: Any, name: str) -> str | Messages:
    if isinstance(value, str):
        return value
    turns = value if isinstance(value, list) else None
    if not turns or not all(isinstance(t, dict) and {"role", "content"} <= set(t) for t in turns):
        raise _ShapeError(
            f"{name}: got {value!r:.60}, expected a text or a list of messages "
            '[{"role": "user", "content": "..."}, ...].'
        )
    return [{part: _text(turn[part], f"{name}.{part}") for part in ("role", "content")} for turn in turns]


def _shown(prompt: str | Messages) -> str:
    if isinstance(prompt, str):
        return prompt
    if [turn["role"] for turn in prompt] == ["user"]:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def _answer(value: Any, name: str) -> str:
    answer = _conversation(value, name)
    return answer if isinstance(answer, str) else "\n\n".join(turn["content"] for turn in answer)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _ShapeError(f"{name}: got a value of type {type(value).__name__}, expected a text.")
    return value


def _judged(row: dict[str, Any]) -> str:
    outcome = row.get("outcome")
    if outcome is not None:
        if outcome not in JUDGED:
            raise _ShapeError(one_of("outcome", outcome, JUDGED))
        return JUDGED[outcome] if _agreed(row, outcome) else ""
    for name, safe in (("is_safe", True), ("label", True), ("flagged", False)):
        value = row.get(name)
        if isinstance(value, bool):
            return "safe" if value is safe else "unsafe"
        if value is not None:
            raise _ShapeError(f"{name}: got {value!r:.60}, expected true, false or null.")
    return ""


def _agreed(row: dict[str, Any], outcome: str) -> bool:
    """Whether all judges of a harvest say what the first one says, and it is not said of a refusal that it is harmful."""
    flags = row.get("flags")
    if outcome not in ("harmful", "safe") or not isinstance(flags, dict):
        return True
    return all(flag is (outcome == "harmful") for flag in flags.values()) and not (
        outcome == "harmful" and row.get("refused") is True
    )


def _details(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    words = {True: "unsafe", False: "safe", None: "no verdict"}
    flags, scores = row.get("flags"), row.get("scores")
    for judge, flag in flags.items() if isinstance(flags, dict) else ():
        score = scores.get(judge) if isinstance(scores, dict) else None
        yield (
            judge,
            words[flag if isinstance(flag, bool) else None] + (f" ({score:.3g})" if isinstance(score, float) else ""),
        )
    for name in DETAILS:
        value = row.get(name)
        if isinstance(value, float):
            yield name, f"{value:.3g}"
        elif value not in (None, "", {}, []):
            yield name, str(value)
