"""Rates and differences over several seeds of one configuration, with intervals for new seeds and new prompts at once.

The same prompts under every seed make a table of seeds by prompts (shape suffix SP; R: resamples), and both sides vary. The
share of 95 % intervals that held the true rate, the lowest and the highest of six kinds of study, simulated 600 times each (200
or 518 prompts, rates of 0.8 % to 30 %, seeds alike or far apart; `test_seeds.py` runs some like them):

| interval | 2 seeds | 3 seeds | 5 seeds |
|---|---|---|---|
| both variances, Welch-Satterthwaite | 0.87-0.99 | 0.90-0.99 | 0.93-0.99 |
| bootstrap, seeds and prompts redrawn (not offered) | 0.68-0.98 | 0.75-0.99 | 0.86-0.98 |
| Student's t on the seeds' rates alone (not offered) | 0.75-0.95 | 0.90-0.95 | 0.78-0.93 |

The bootstrap knows no seeds but the few it redraws, so it is too narrow where seeds are far apart; the seeds' rates alone say
nothing of new prompts. Three seeds give a rough interval whatever the method: take five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

from steerclear.stats.rates import CONFIDENCE, wilson

Outcomes = Sequence[Sequence[bool | None]]
"""One sequence a seed, each with an outcome for every prompt in one order. None: unscored."""
Table = np.ndarray[Any, np.dtype[np.float64]]
Interval = Callable[[Table], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """A mean over seeds and prompts: a rate, or a difference of two rates."""

    seeds: int
    n: int
    """Prompts that were scored under every seed; only these count."""
    left_out: int
    """Prompts that some seed left unscored."""
    per_seed: tuple[float, ...]
    """The value of each seed alone. Empty below 2 prompts."""
    mean: float | None
    """None without a seed or below 2 prompts."""
    lower: float | None
    """Ends of the 95 % interval. None below 2 seeds: one seed says nothing about others."""
    upper: float | None


def rate_over_seeds(outcomes: Outcomes) -> OverSeeds:
    """Return the rate of runs that differ in their seeds only.

    Interval: from the variance of the mean, v = var(seeds' rates) / S + var(prompts' rates) / P, and its degrees of freedom by
    Welch and Satterthwaite; p (1 - p) / v is then the number of independent answers that the table is worth, and the Wilson
    interval of so many answers (with Student's t for its z) stays within 0 and 1 (after Korn and Graubard 1998). Where all
    outcomes are alike it is the Wilson interval of the prompts.

    Args:
        outcomes: seeds by prompts.

    Raises:
        ValueError: the seeds have different numbers of prompts.
    """
    table_SP, left_out = _scored(outcomes)
    return _over_seeds(table_SP, left_out, _wilson_interval)


def difference_over_seeds(first: Outcomes, second: Outcomes) -> OverSeeds:
    """Return the rate of the first configuration less that of the second, paired by prompt and by seed.

    The order pairs the seeds; where they have nothing in common the pairing does no harm. Interval: mean ± t · sqrt(v) with v
    as in `rate_over_seeds`; where no outcome differs both ends are the upper Wilson limit of none in P prompts.

    Args:
        first: seeds by prompts.
        second: the same seeds and prompts under the other configuration.

    Raises:
        ValueError: the two have different numbers of seeds or prompts.
    """
    pairs = [list(zip(a, b, strict=True)) for a, b in zip(first, second, strict=True)]
    minuends = [[None if None in pair else pair[0] for pair in row] for row in pairs]
    subtrahends = [[None if None in pair else pair[1] for pair in row] for row in pairs]
    (minuend_SP, left_out), (subtrahend_SP, _) = _scored(minuends), _scored(subtrahends)
    return _over_seeds(minuend_SP - subtrahend_SP, left_out, _t_interval)


def _scored(outcomes: Outcomes) -> tuple[Table, int]:
    """Return the table (seeds, prompts scored under every seed), and how many prompts it leaves out."""
    columns = list(zip(*outcomes, strict=True))
    kept = [column for column in columns if None not in column]
    return np.array(kept, dtype=np.float64).reshape(len(kept), len(outcomes)).T, len(columns) - len(kept)


def _over_seeds(table_SP: Table, left_out: int, interval: Interval) -> OverSeeds:
    seeds, n = table_SP.shape
    known = seeds > 0 and n > 1
    lower, upper = interval(table_SP) if known and seeds > 1 else (None, None)
    return OverSeeds(
        seeds=seeds,
        n=n,
        left_out=left_out,
        per_seed=tuple(table_SP.mean(axis=1).tolist()) if known else (),
        mean=float(table_SP.mean()) if known else None,
        lower=lower,
        upper=upper,
    )


def _variance(table_SP: Table) -> tuple[float, float]:
    """Return the variance of the table's mean and the quantile of Student's t that goes with it.

    What neither seed nor prompt explains is in both terms, so the variance is a little too large rather than too small.
    """
    seeds, prompts = table_SP.shape
    of_seeds = float(table_SP.mean(axis=1).var(ddof=1)) / seeds
    of_prompts = float(table_SP.mean(axis=0).var(ddof=1)) / prompts
    variance = of_seeds + of_prompts
    if variance == 0:
        return 0.0, float(norm.ppf((1 + CONFIDENCE) / 2))
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_prompts**2 / (prompts - 1))
    return variance, float(t.ppf((1 + CONFIDENCE) / 2, freedom))


def _wilson_interval(table_SP: Table) -> tuple[float, float]:
    rate = float(table_SP.mean())
    variance, quantile = _variance(table_SP)
    worth = rate * (1 - rate) / variance if variance > 0 else table_SP.shape[1]
    shrunk = 1 + quantile**2 / worth
    centre = (rate + quantile**2 / (2 * worth)) / shrunk
    half = quantile * math.sqrt(rate * (1 - rate) / worth + quantile**2 / (4 * worth**2)) / shrunk
    return max(0.0, centre - half), min(1.0, centre + half)


def _t_interval(table_SP: Table) -> tuple[float, float]:
    mean = float(table_SP.mean())
    variance, quantile = _variance(table_SP)
    half = quantile * math.sqrt(variance) if table_SP.any() else wilson(0, table_SP.shape[1])[1]
    return max(-1.0, mean - half), min(1.0, mean + half)
