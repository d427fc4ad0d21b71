"""How well a harm judge does on labelled rows: ranking, errors at its threshold, calibration, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from steerclear.judges.base import HarmJudge, HarmScore, score_each
from steerclear.stats.judge_error import JudgeErrors
from steerclear.stats.rates import Rate
from steerclear.stats.resampling import Weights, bootstrap_over_prompts

BINS = 10
"""Bins of equal width between the scores 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % bootstrap interval over prompts; None where it has no value."""

    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows whose scores lie between two marks."""

    start: float
    end: float
    """Not in the bin, but for the last, which holds a score of 1."""
    mean_score: float | None
    """None without rows."""
    harmful: Rate
    """Truly harmful rows of the bin's rows; a calibrated judge has this rate at the mean score."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row on which the judge's flag and the label differ."""

    id: str
    prompt: str
    response: str
    score: float


@dataclass(frozen=True, kw_only=True)
class SetMeasures:
    """A judge on one labelled set. Harmful is the positive class."""

    name: str
    prompts: int
    """Different prompts. Far fewer than rows: the Wilson intervals, which take rows as independent, are too narrow."""
    unscored: int
    harmful: Rate
    """Truly harmful rows of the scored ones."""
    auroc: Estimate
    balanced_accuracy: Estimate
    sensitivity: Rate
    """Flagged of the harmful rows."""
    specificity: Rate
    """Not flagged of the harmless rows."""
    brier: float | None
    """Mean squared distance of score and label (1 harmful, 0 harmless). None below 2 rows or for scores beyond [0, 1]."""
    calibration_error: float | None
    """Expected calibration error: distance of a bin's mean score and its harmful share, mean over rows. None where `brier` is."""
    bins: tuple[Bin, ...]
    """Empty where `brier` is None."""
    false_positives: tuple[Mistake, ...]
    """Harmless rows that it flagged, the highest scores first."""
    false_negatives: tuple[Mistake, ...]
    """Harmful rows that it did not flag, the lowest scores first."""

    @property
    def errors(self) -> JudgeErrors:
        """What `steerclear.stats.judge_error.corrected_rate` needs."""
        return JudgeErrors(
            true_positives=self.sensitivity.k,
            positives=self.sensitivity.n,
            true_negatives=self.specificity.k,
            negatives=self.specificity.n,
        )


@dataclass(frozen=True, kw_only=True)
class JudgeMeasures:
    """A judge on several labelled sets."""

    judge: str
    threshold: float | None
    """The score from which on it flags. None: it has none, or does not say."""
    identity: Mapping[str, Any]
    """What made the judge, as far as it says."""
    sets: tuple[SetMeasures, ...]


def measure_judge(
    judge: HarmJudge,
    sets: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    mistakes: int = 3,
    resamples: int = 1000,
    seed: int = 0,
) -> JudgeMeasures:
    """Return how a judge does on labelled sets.

    Args:
        judge: any judge.
        sets: name -> rows with `prompt`, `response`, `is_safe` and, if known, `id` (else its number, from 1).
        mistakes: most mistakes of each kind that are kept for a set.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    found = {name: _scores(judge, rows) for name, rows in sets.items()}
    # A scale is the judge's own, not a set's: one score beyond [0, 1] and no score of this judge is a probability.
    probabilities = all(0 <= s.score <= 1 for scores in found.values() for s in scores if s is not None)
    measured = []
    for name, rows in sets.items():
        numbered = [{"id": str(number), **row} for number, row in enumerate(rows, start=1)]
        scored = [(row, score) for row, score in zip(numbered, found[name], strict=True) if score is not None]
        interval = partial(
            bootstrap_over_prompts, prompts=[row["prompt"] for row, _ in scored], resamples=resamples, seed=seed
        )
        measured.append(_measure_set(name, scored, len(rows) - len(scored), probabilities, mistakes, interval))
    return JudgeMeasures(
        judge=judge.name,
        threshold=getattr(judge, "threshold", None),
        identity=getattr(judge, "identity", {}),
        sets=tuple(measured),
    )


def _scores(judge: HarmJudge, rows: Sequence[Mapping[str, Any]]) -> list[HarmScore | None]:
    found = score_each(judge, [row["prompt"] for row in rows], [row["response"] for row in rows])
    return [score if isinstance(score, HarmScore) else None for score in found]


def _measure_set(
    name: str,
    scored: Sequence[tuple[Mapping[str, Any], HarmScore]],
    unscored: int,
    probabilities: bool,
    mistakes: int,
    interval: Callable[[Callable[[Weights], float | None]], tuple[float, float] | None],
) -> SetMeasures:
    harmful = np.array([not row["is_safe"] for row, _ in scored], dtype=bool)
    flagged = np.array([score.flagged for _, score in scored], dtype=bool)
    scores = np.array([score.score for _, score in scored], dtype=np.float64)
    calibrated = probabilities and len(scored) > 1
    bins = _bins(harmful, scores) if calibrated else ()

    def estimate(predictions: np.ndarray[Any, Any]) -> Estimate:
        value = _ranking(harmful, predictions)
        point = value(np.ones(len(scored), dtype=np.int64))
        lower, upper = (None if point is None else interval(value)) or (None, None)
        return Estimate(value=point, lower=lower, upper=upper)

    def worst(wrong: np.ndarray[Any, Any], order: np.ndarray[Any, Any]) -> tuple[Mistake, ...]:
        return tuple([_mistake(*scored[index]) for index in order if wrong[index]][:mistakes])

    return SetMeasures(
        name=name,
        prompts=len({row["prompt"] for row, _ in scored}),
        unscored=unscored,
        harmful=_rate(harmful),
        auroc=estimate(scores),
        balanced_accuracy=estimate(flagged),
        sensitivity=_rate(flagged[harmful]),
        specificity=_rate(~flagged[~harmful]),
        brier=float(np.mean((scores - harmful) ** 2)) if calibrated else None,
        calibration_error=_calibration_error(bins) if calibrated else None,
        bins=bins,
        false_positives=worst(flagged & ~harmful, np.argsort(-scores, kind="stable")),
        false_negatives=worst(harmful & ~flagged, np.argsort(scores, kind="stable")),
    )


def _ranking(harmful: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> Callable[[Weights], float | None]:
    """Return a function of the rows' weights: the share of pairs of a harmful and a harmless row in the right order, ties half.

    Of scores it is the AUROC, of flags the balanced accuracy. scikit-learn's takes milliseconds, too long for every resample.
    """
    levels, level = np.unique(predictions, return_inverse=True)

    def value(weights: Weights) -> float | None:
        bad = np.bincount(level, weights=weights * harmful, minlength=len(levels))
        good = np.bincount(level, weights=weights * ~harmful, minlength=len(levels))
        pairs = bad.sum() * good.sum()
        return float(bad @ (good.cumsum() - good / 2) / pairs) if pairs else None

    return value


def _rate(held: np.ndarray[Any, Any]) -> Rate:
    return Rate.of(int(held.sum()), len(held))


def _mistake(row: Mapping[str, Any], score: HarmScore) -> Mistake:
    return Mistake(id=str(row["id"]), prompt=row["prompt"], response=row["response"], score=score.score)


def _bins(harmful: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> tuple[Bin, ...]:
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    members = [place == number for number in range(BINS)]
    return tuple(
        Bin(
            start=number / BINS,
            end=(number + 1) / BINS,
            mean_score=float(scores[inside].mean()) if inside.any() else None,
            harmful=_rate(harmful[inside]),
        )
        for number, inside in enumerate(members)
    )


def _calibration_error(bins: Sequence[Bin]) -> float:
    distances = [abs(b.mean_score * b.harmful.n - b.harmful.k) for b in bins if b.mean_score is not None]
    return sum(distances) / sum(b.harmful.n for b in bins)
