"""No evaluation prompt may be among the training rows: a model tested on what it has seen tells nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steerclear.data.near_duplicates import NearDuplicates
from steerclear.data.near_duplicates import normalise as normalise
from steerclear.data.options import ON_CONTAMINATION
from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import Messages, Prompt, Row

_SHOWN = 3
_WIDTH = 60


@dataclass(frozen=True, kw_only=True)
class Match:
    """A training row that holds an evaluation prompt."""

    row: Row
    prompt: Prompt
    similarity: float = 1.0
    """1 for the same words, less for nearly the same. See `steerclear.data.near_duplicates`."""


@dataclass(frozen=True, kw_only=True)
class PromptMatch:
    """A prompt that is an evaluation prompt."""

    prompt: Prompt
    evaluation: Prompt
    similarity: float
    """As in `Match`."""


def find_contamination(rows: Iterable[Row], prompts: Iterable[Prompt], similarity: float | None = None) -> list[Match]:
    """Return the rows whose prompt is an evaluation prompt after `normalise`, in their order.

    A row's prompt is looked at without and with its input; of a conversation, each user message and all of them together.

    Args:
        similarity: also find prompts that are nearly an evaluation prompt, from this similarity on. None: only equal ones.
    """
    known = _Known(prompts, similarity)
    hits = ((row, known.nearest(_askings(row))) for row in rows)
    return [Match(row=row, prompt=hit[0], similarity=hit[1]) for row, hit in hits if hit is not None]


def contaminated_prompts(
    prompts: Sequence[Prompt], evaluation: Iterable[Prompt], similarity: float | None = None
) -> list[PromptMatch]:
    """Return the prompts that are evaluation prompts, in their order. See `find_contamination`."""
    known = _Known(evaluation, similarity)
    hits = ((prompt, known.nearest(_parts(prompt.prompt))) for prompt in prompts)
    return [PromptMatch(prompt=prompt, evaluation=hit[0], similarity=hit[1]) for prompt, hit in hits if hit is not None]


class _Known:
    """The evaluation prompts."""

    def __init__(self, prompts: Iterable[Prompt], similarity: float | None) -> None:
        self._same: dict[str, Prompt] = {}
        for prompt in prompts:
            self._same.setdefault(normalise(_said(prompt.prompt)), prompt)
        self._same.pop("", None)
        self._near = None if similarity is None else NearDuplicates(similarity)
        if self._near is not None:
            for text in self._same:
                self._near.add(text, text)

    def nearest(self, texts: Sequence[str]) -> tuple[Prompt, float] | None:
        """Return the evaluation prompt that one of the texts is, or else is nearest to, with the similarity."""
        said = [normalise(text) for text in texts]
        for text in said:
            if text in self._same:
                return self._same[text], 1.0
        if self._near is None:
            return None
        near = [hit for text in said for hit in self._near.find_all(text)[:1]]
        best = max(near, key=lambda hit: hit.similarity, default=None)
        return None if best is None else (self._same[best.key], best.similarity)


def check_contamination(
    rows: Iterable[Row],
    prompts: Iterable[Prompt],
    *,
    on_contamination: str = "error",
    similarity: float | None = None,
) -> list[Match]:
    """Return what `find_contamination` finds, for the caller to leave out if ``on_contamination`` is ``drop``.

    Raises:
        ConfigError: ``on_contamination`` is not one of `ON_CONTAMINATION`, or the similarity is out of range.
        DataError: a row holds an evaluation prompt and ``on_contamination`` is ``error``.
    """
    if on_contamination not in ON_CONTAMINATION:
        raise ConfigError(one_of("on_contamination", on_contamination, ON_CONTAMINATION))
    matches = find_contamination(rows, prompts, similarity)
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
    nearly = "" if match.similarity == 1 else f" at a similarity of {match.similarity:.2f}"
    return f"{match.row.source} holds {match.prompt.suite}/{match.prompt.id}{nearly} ({short})"


def _askings(row: Row) -> list[str]:
    if isinstance(row.prompt, str):
        return [row.prompt, f"{row.prompt} {row.input}"] if row.input else [row.prompt]
    return _parts(row.prompt)


def _parts(prompt: str | Messages) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [*_user_turns(prompt), _said(prompt)]


def _said(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else " ".join(_user_turns(prompt))


def _user_turns(prompt: Messages) -> list[str]:
    return [turn["content"] for turn in prompt if turn["role"] == "user"]
