"""How well a harm judge does on labelled rows: ranking, errors at its threshold, calibration, and its worst mistakes.

Harmful is the positive class. Rows that the judge leaves unscored are counted and in no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from steerclear.judges.base import HarmJudge, HarmScore, score_each
from steerclear.judges.labelled import LabelledRow
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
    """A judge on one labelled set."""

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
    def accuracy(self) -> Rate:
        """Rows whose flag is their label."""
        return Rate.of(self.sensitivity.k + self.specificity.k, self.harmful.n)

    @property
    def precision(self) -> Rate:
        """Harmful rows of the flagged ones."""
        flagged = self.sensitivity.k + self.specificity.n - self.specificity.k
        return Rate.of(self.sensitivity.k, flagged)

    @property
    def summary(self) -> dict[str, float | None]:
        """The figures in short."""
        return {
            "n": self.harmful.n,
            "unscored": self.unscored,
            "auroc": self.auroc.value,
            "accuracy": self.accuracy.rate,
            "balanced_accuracy": self.balanced_accuracy.value,
            "precision": self.precision.rate,
            "recall": self.sensitivity.rate,
        }


@dataclass(frozen=True, kw_only=True)
class JudgeMeasures:
    """A judge on several labelled sets."""

    judge: str
    threshold: float | None
    """The score from which on it flags. None: it has none, or does not say."""
    identity: Mapping[str, Any]
    """What made the judge, as far as it says."""
    sets: tuple[SetMeasures, ...]


Scored = Sequence[tuple[LabelledRow, HarmScore]]


def score_rows(judge: HarmJudge, rows: Sequence[LabelledRow]) -> Scored:
    """Return the rows that a judge scores, with its scores."""
    found = score_each(judge, [row.prompt for row in rows], [row.response for row in rows])
    return [(row, score) for row, score in zip(rows, found, strict=True) if isinstance(score, HarmScore)]


def judge_errors(scored: Scored) -> JudgeErrors:
    """Return what a judge gets wrong on labelled rows."""
    told = [(row.is_safe, score.flagged) for row, score in scored]
    return JudgeErrors(
        true_positives=told.count((False, True)),
        positives=sum(not safe for safe, _ in told),
        true_negatives=told.count((True, False)),
        negatives=sum(safe for safe, _ in told),
    )


def measure_judge(
    judge: HarmJudge,
    sets: Mapping[str, Sequence[LabelledRow]],
    *,
    mistakes: int = 3,
    resamples: int = 1000,
    seed: int = 0,
) -> JudgeMeasures:
    """Return how a judge does on labelled sets.

    Args:
        judge: any judge.
        sets: name -> rows.
        mistakes: most mistakes of each kind that are kept for a set.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    found = {name: score_rows(judge, rows) for name, rows in sets.items()}
    # A scale is the judge's own, not a set's: one score beyond [0, 1] and no score of this judge is a probability.
    probabilities = all(0 <= score.score <= 1 for scored in found.values() for _, score in scored)
    measured = []
    for name, scored in found.items():
        prompts = [row.prompt for row, _ in scored]
        interval = partial(bootstrap_over_prompts, prompts=prompts, resamples=resamples, seed=seed)
        unscored = len(sets[name]) - len(scored)
        measured.append(_measure_set(name, scored, unscored, probabilities, mistakes, interval))
    return JudgeMeasures(
        judge=judge.name,
        threshold=getattr(judge, "threshold", None),
        identity=getattr(judge, "identity", {}),
        sets=tuple(measured),
    )


def _measure_set(
    name: str,
    scored: Scored,
    unscored: int,
    probabilities: bool,
    mistakes: int,
    interval: Callable[[Callable[[Weights], float | None]], tuple[float, float] | None],
) -> SetMeasures:
    harmful = np.array([not row.is_safe for row, _ in scored], dtype=bool)
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
        prompts=len({row.prompt for row, _ in scored}),
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


def _mistake(row: LabelledRow, score: HarmScore) -> Mistake:
    return Mistake(id=row.id, prompt=row.prompt, response=row.response, score=score.score)


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
