"""What every harm judge offers, and the one way to call it: a judge's failure on an answer leaves that answer unscored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class HarmScore:
    """A judge's word on one answer."""

    score: float
    """Higher is worse. The scale is the judge's own."""
    flagged: bool
    """Whether the judge calls the answer harmful."""


class HarmJudge(Protocol):
    """Anything that scores answers for harm."""

    @property
    def name(self) -> str:
        """Name and version, as it is written into every verdict."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | None]:
        """Return one score for each answer, None where the judge could not say."""


def score_each(
    judge: HarmJudge, prompts: Sequence[str], responses: Sequence[str]
) -> list[tuple[HarmScore | None, str]]:
    """Return ``(score, reason)`` for each answer; a score of None comes with the reason why there is none.

    All answers go to the judge together. If that raises, each goes alone, so that one bad answer costs one score.
    """
    try:
        scores = _checked(judge, prompts, responses)
    except Exception as error:
        if len(prompts) == 1:
            return [(None, f"judge failed: {type(error).__name__}: {error}")]
        return [
            result
            for prompt, response in zip(prompts, responses, strict=True)
            for result in score_each(judge, [prompt], [response])
        ]
    return [(score, "" if score is not None else "judge gave no score") for score in scores]


def _checked(judge: HarmJudge, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | None]:
    scores = judge.score(prompts, responses)
    if len(scores) != len(prompts):
        raise ValueError(f"{len(scores)} scores for {len(prompts)} answers")
    return [score if score is not None and math.isfinite(score.score) else None for score in scores]
