"""Rates with intervals, and the paired test. What has no value is None, never 0."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr
from scipy.stats import binomtest, t

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Rate:
    """k of n. With n below 2 there is a count but no rate and no interval."""

    k: int
    n: int
    rate: float | None
    lower: float | None
    upper: float | None

    @classmethod
    def of(cls, k: int, n: int) -> Rate:
        """Return the rate with its 95 % Wilson interval."""
        if n < 2:
            return cls(k=k, n=n, rate=None, lower=None, upper=None)
        lower, upper = wilson(k, n)
        return cls(k=k, n=n, rate=k / n, lower=lower, upper=upper)

    def __str__(self) -> str:
        """Return the rate with its interval; nothing seen has its upper bound, and all its lower one.

        >>> str(Rate.of(0, 518))
        '0/518 = 0.0% (<= 0.7%)'
        """
        if self.rate is None or self.lower is None or self.upper is None:
            return f"{self.k}/{self.n}"
        low, high = 100 * self.lower, 100 * self.upper
        interval = (
            f"<= {high:.1f}%" if self.k == 0 else f">= {low:.1f}%" if self.k == self.n else f"{low:.1f}-{high:.1f}%"
        )
        return f"{self.k}/{self.n} = {100 * self.rate:.1f}% ({interval})"


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of n values. With n below 2 there is none."""

    n: int
    mean: float | None
    lower: float | None
    upper: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Return the mean with its 95 % interval, Student's t."""
        n = len(values)
        if n < 2:
            return cls(n=n, mean=None, lower=None, upper=None)
        mean = statistics.fmean(values)
        half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * statistics.stdev(values, mean) / n**0.5
        return cls(n=n, mean=mean, lower=mean - half, upper=mean + half)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with the ends of its 95 % interval. What is None is not known."""

    value: float | None
    lower: float | None = None
    upper: float | None = None


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of k successes in n trials (Wilson 1927).

    >>> [round(x, 4) for x in wilson(0, 518)]
    [0.0, 0.0074]
    """
    interval = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the p-value of the exact McNemar test: do two runs differ on the same prompts?

    Only the prompts on which they differ count: those of one run alone are Binomial(n, 1/2) if the runs are alike, and the
    two-sided p-value is twice the smaller tail. Without any the p-value is 1.

    Raises:
        ValueError: the two are not of one length.
    """
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down method (Holm 1979): the chance of any false finding among them stays below p.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected
