"""What a person decided about answers: one line a decision, the last one on an answer counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import DataError
from steerclear.records import sha256_of

DECISIONS = ("unsafe", "safe", "broken", "unsure")
"""``unsafe`` and ``safe``: the label. ``broken``: not an answer at all, of no use. ``unsure``: left as the judges have it."""

UNDECIDED = "undecided"
"""Written when a person takes a first decision back: the answer counts as never looked at."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A person's word on one answer."""

    key: str
    """`answer_key` of the prompt and the response: a decision holds for the text, wherever it turns up again."""
    id: str
    """The answer's id in the file that was reviewed."""
    decision: str
    """One of `DECISIONS`, or `UNDECIDED`."""
    judged: str
    """What the file said of it before: ``unsafe``, ``safe``, ``broken``, or empty for nothing."""
    at: str
    """When, in UTC, ISO 8601."""


def answer_key(prompt: str, response: str) -> str:
    """Return what names an answer: a hash of its two texts."""
    return sha256_of([prompt, response])


def decisions_file(reviewed: Path) -> Path:
    """Return where the decisions on a file lie: beside it, ``NAME.decisions.jsonl``."""
    return reviewed.with_name(f"{reviewed.stem}.decisions.jsonl")


def read_decisions(path: Path) -> dict[str, Decision]:
    """Return the last decision on each answer by its key, none where it was taken back or there is no file yet.

    The file is left as it is, since a review may be writing it: a line without its end is one that is not yet decided.

    Raises:
        DataError: the file cannot be read or has other lines than decisions.
    """
    if not path.is_file():
        return {}
    try:
        *lines, _unfinished = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    last = {}
    for number, line in enumerate(lines, start=1):
        decision = _parsed(line, f"{path}:{number}")
        last[decision.key] = decision
    return {key: decision for key, decision in last.items() if decision.decision != UNDECIDED}


def _parsed(line: str, place: str) -> Decision:
    try:
        decision = Decision(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: not a decision ({error}). Mend or remove this line.") from error
    if decision.decision not in (*DECISIONS, UNDECIDED):
        raise DataError(
            f"{place}: decision: got {decision.decision!r}, allowed: {', '.join((*DECISIONS, UNDECIDED))}. Mend this line."
        )
    return decision
