"""What every harm judge offers, and the one way to call it: a judge's failure on an answer leaves that answer unscored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steerclear.errors import SteerClearError


@dataclass(frozen=True, kw_only=True)
class HarmScore:
    """A judge's word on one answer."""

    score: float
    """Higher is worse. The scale is the judge's own."""
    flagged: bool
    """Whether the judge calls the answer harmful."""
    categories: Mapping[str, float] = field(default_factory=dict)
    """Kind of harm -> score, for judges that tell kinds apart."""
    refused: bool | None = None
    """Whether the judge calls the answer a refusal. None: it does not say."""


@dataclass(frozen=True)
class Unscored:
    """A judge that could not say."""

    reason: str


class HarmJudge(Protocol):
    """Anything that scores answers for harm."""

    @property
    def name(self) -> str:
        """Name and version, as it is written into every verdict. Another name means other scores."""

    @property
    def batch_size(self) -> int:
        """Answers that it takes together; what is finished is kept batch by batch."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        """Return one score for each answer."""


def score_each(
    judge: HarmJudge,
    prompts: Sequence[str],
    responses: Sequence[str],
    keep: Callable[[list[int], list[HarmScore | Unscored]], None] | None = None,
) -> list[HarmScore | Unscored]:
    """Return a score or its lack for each answer.

    Answers go to the judge by the batch. If a batch raises, each of its answers goes alone: one bad answer costs one score.

    Args:
        keep: called with the indices and the scores of every batch as soon as it is done.

    Raises:
        SteerClearError: the judge says that it can score nothing, such as for a wrong key.
    """
    results: list[HarmScore | Unscored] = []
    for start in range(0, len(prompts), judge.batch_size):
        batch = slice(start, start + judge.batch_size)
        scores = _score_batch(judge, prompts[batch], responses[batch])
        if keep is not None:
            keep(list(range(start, start + len(scores))), scores)
        results += scores
    return results


def _score_batch(judge: HarmJudge, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
    try:
        scores = judge.score(prompts, responses)
        if len(scores) != len(prompts):
            raise ValueError(f"{len(scores)} scores for {len(prompts)} answers")
    except SteerClearError:
        raise
    except Exception as error:
        if len(prompts) == 1:
            return [Unscored(f"judge failed: {type(error).__name__}: {error}")]
        alone = zip(prompts, responses, strict=True)
        return [score for prompt, response in alone for score in _score_batch(judge, [prompt], [response])]
    return [finite(score) for score in scores]


def finite(score: HarmScore | Unscored) -> HarmScore | Unscored:
    """Return a score, or that it is no number."""
    if isinstance(score, HarmScore) and not math.isfinite(score.score):
        return Unscored(f"judge's score is {score.score}")
    return score
