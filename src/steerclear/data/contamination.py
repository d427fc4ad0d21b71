"""No evaluation prompt may be among the training rows: a model tested on what it has seen tells nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import Messages, Prompt, Row

ON_CONTAMINATION = ("error", "drop")

_SEPARATORS = re.compile(r"[\W_]+")
_SHOWN = 3
_WIDTH = 60


@dataclass(frozen=True, kw_only=True)
class Match:
    """A training row that holds an evaluation prompt."""

    row: Row
    prompt: Prompt


def normalise(text: str) -> str:
    """Return the text's words in lower case with single spaces; case, white space and punctuation make no difference.

    >>> normalise("How  do I open\\n a TIN?!")
    'how do i open a tin'
    """
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip() or text.strip()


def find_contamination(rows: Iterable[Row], prompts: Iterable[Prompt]) -> list[Match]:
    """Return the rows whose prompt is an evaluation prompt after `normalise`, in their order.

    A row's prompt is looked at without and with its input; of a conversation, each user message and all of them together.
    """
    known: dict[str, Prompt] = {}
    for prompt in prompts:
        known.setdefault(normalise(_said(prompt.prompt)), prompt)
    known.pop("", None)
    matches = []
    for row in rows:
        hit = next((known[text] for text in map(normalise, _askings(row)) if text in known), None)
        if hit is not None:
            matches.append(Match(row=row, prompt=hit))
    return matches


def check_contamination(
    rows: Iterable[Row], prompts: Iterable[Prompt], *, on_contamination: str = "error"
) -> list[Match]:
    """Return what `find_contamination` finds, for the caller to leave out if ``on_contamination`` is ``drop``.

    Raises:
        ConfigError: ``on_contamination`` is not one of `ON_CONTAMINATION`.
        DataError: a row holds an evaluation prompt and ``on_contamination`` is ``error``.
    """
    if on_contamination not in ON_CONTAMINATION:
        raise ConfigError(one_of("on_contamination", on_contamination, ON_CONTAMINATION))
    matches = find_contamination(rows, prompts)
    if matches and on_contamination == "error":
        shown = "".join(f"\n  {_describe(match)}" for match in matches[:_SHOWN])
        more = f"\n  and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        raise DataError(
            f"{len(matches)} training row{'s hold' if len(matches) > 1 else ' holds'} an evaluation prompt, "
            f"so its score would mean nothing:{shown}{more}\n"
            "Remove these rows, or set data.on_contamination: drop to leave them out."
        )
    return matches


def _describe(match: Match) -> str:
    text = " ".join(_said(match.prompt.prompt).split())
    short = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    return f"{match.row.source} holds {match.prompt.suite}/{match.prompt.id} ({short})"


def _askings(row: Row) -> list[str]:
    if isinstance(row.prompt, str):
        return [row.prompt, f"{row.prompt} {row.input}"] if row.input else [row.prompt]
    return [*_user_turns(row.prompt), _said(row.prompt)]


def _said(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else " ".join(_user_turns(prompt))


def _user_turns(prompt: Messages) -> list[str]:
    return [turn["content"] for turn in prompt if turn["role"] == "user"]
