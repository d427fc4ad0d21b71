"""Rates corrected for the errors that a judge was measured to make on labelled rows.

The correction assumes that the judge errs on the evaluated answers as it did on the labelled ones: among truly harmful
answers it misses the same share, among truly harmless ones it raises the same share of false alarms. That often fails: another
model, a fine-tuned style, other topics or languages shift both shares, and the interval does not count that. Measure the errors
on labelled answers like those evaluated, and read the corrected rate beside the raw one, not in its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import norm

from steerclear.errors import DataError
from steerclear.stats.rates import CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class JudgeErrors:
    """What a judge said of labelled rows."""

    true_positives: int
    """Harmful rows that it flagged."""
    positives: int
    """Harmful rows."""
    true_negatives: int
    """Harmless rows that it did not flag."""
    negatives: int
    """Harmless rows."""

    def __post_init__(self) -> None:
        _check_share("true_positives of positives", self.true_positives, self.positives)
        _check_share("true_negatives of negatives", self.true_negatives, self.negatives)


@dataclass(frozen=True, kw_only=True)
class CorrectedRate:
    """The share of truly harmful answers, as far as the judge's flags and its known errors tell."""

    k: int
    """Answers that the judge flagged."""
    n: int
    rate: float | None
    lower: float | None
    """Ends of the 95 % interval, which counts that the flagged share and both shares of errors are estimates."""
    upper: float | None
    reason: str
    """Why there is no rate, or an empty string."""


def corrected_rate(flagged: int, n: int, errors: JudgeErrors) -> CorrectedRate:
    """Correct a flagged share for the judge's errors.

    Rate (Rogan and Gladen 1978): (flagged / n + specificity - 1) / (sensitivity + specificity - 1), cut to [0, 1].
    Interval: Lang and Reiczigel 2014, "Confidence limits for prevalence of disease adjusted for estimated sensitivity and
    specificity", widened to the rate where it would leave it out. In 100 kinds of simulated study (n 200 or 518; 50 to 1,307
    labelled rows a class; judges from 0.6 / 0.55 to perfect; rates 0 to 1; 1,000 studies each) it held the truth in 0.934 to
    1.000 of those that had a rate; drawing all three shares from their Jeffreys posteriors, the alternative, in 0.917 to 1.000.

    Without a value: below 2 answers, or 2 labelled rows of a class; where sensitivity + specificity is 1 or less, or would be
    with one hit and one miss more in each class, as such a judge flags harmful answers no more often than harmless ones; and
    where the whole interval lies beyond 0 or 1, as then no rate explains the flags: the assumption is wrong.

    >>> errors = JudgeErrors(true_positives=90, positives=100, true_negatives=80, negatives=100)
    >>> found = corrected_rate(34, 100, errors)
    >>> round(found.rate, 3), round(found.lower, 3), round(found.upper, 3)
    (0.2, 0.033, 0.358)

    Raises:
        DataError: a count is negative or larger than its total.
    """
    _check_share("flagged of n", flagged, n)
    reason = _why_not(flagged, n, errors)
    if reason:
        return CorrectedRate(k=flagged, n=n, rate=None, lower=None, upper=None, reason=reason)
    sensitivity, specificity = errors.true_positives / errors.positives, errors.true_negatives / errors.negatives
    rate = _cut((flagged / n + specificity - 1) / (sensitivity + specificity - 1))
    lower, upper = (_cut(end) for end in _interval(flagged, n, errors))
    return CorrectedRate(k=flagged, n=n, rate=rate, lower=min(lower, rate), upper=max(upper, rate), reason="")


def _why_not(flagged: int, n: int, errors: JudgeErrors) -> str:
    if n < 2:
        return "fewer than 2 answers"
    if min(errors.positives, errors.negatives) < 2:
        return "fewer than 2 labelled rows of a class"
    sensitivity, specificity = errors.true_positives / errors.positives, errors.true_negatives / errors.negatives
    if min(sensitivity + specificity, sum(_shrunk(errors))) <= 1:
        return f"the judge carries no information: sensitivity {sensitivity:.2f} + specificity {specificity:.2f}"
    lower, upper = _interval(flagged, n, errors)
    if upper < 0:
        return f"{flagged}/{n} flags are fewer than its false alarms alone would be: it errs otherwise on these answers"
    if lower > 1:
        return f"{flagged}/{n} flags are more than harmful answers alone would get: it errs otherwise on these answers"
    return ""


def _shrunk(errors: JudgeErrors) -> tuple[float, float]:
    """Return sensitivity and specificity with one hit and one miss added to each."""
    return (errors.true_positives + 1) / (errors.positives + 2), (errors.true_negatives + 1) / (errors.negatives + 2)


def _interval(flagged: int, n: int, errors: JudgeErrors) -> tuple[float, float]:
    """Return Lang and Reiczigel's interval, not cut: all shares shrunk towards 1/2, the centre moved, a normal width."""
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    worth = n + z**2
    share = (flagged + z**2 / 2) / worth
    sensitivity, specificity = _shrunk(errors)
    informed = sensitivity + specificity - 1
    rate = (share + specificity - 1) / informed
    of_sensitivity = sensitivity * (1 - sensitivity) / (errors.positives + 2)
    of_specificity = specificity * (1 - specificity) / (errors.negatives + 2)
    centre = rate + 2 * z**2 * (rate * of_sensitivity - (1 - rate) * of_specificity)
    variance = share * (1 - share) / worth + rate**2 * of_sensitivity + (1 - rate) ** 2 * of_specificity
    half = z * math.sqrt(variance) / informed
    return centre - half, centre + half


def _cut(rate: float) -> float:
    return min(1.0, max(0.0, rate))


def _check_share(what: str, k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise DataError(f"{what}: got {k} of {n}, allowed: 0 to the total.")
