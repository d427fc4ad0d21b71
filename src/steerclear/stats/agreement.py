"""Do two judges say the same of the same answers? Cohen's kappa (Cohen 1960) on their flags."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from steerclear.stats.resampling import Weights, bootstrap_over_prompts


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two judges on the answers that both scored."""

    n: int
    """Answers that both scored; the four counts add up to it."""
    unscored: int
    """Answers that at least one of them left unscored."""
    both: int
    """Flagged by both."""
    only_first: int
    only_second: int
    neither: int
    agreement: float | None
    """Share of answers on which they say the same. None below 2 answers."""
    kappa: float | None
    """(agreement - chance) / (1 - chance): 1 always alike, 0 as by chance. None below 2 answers, and where both judges give one
    and the same label throughout, as chance alone then agrees always. A single judge with one label has kappa 0."""
    lower: float | None
    """Ends of the 95 % bootstrap interval of kappa over prompts. None without kappa or below 2 prompts."""
    upper: float | None


def agreement(
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    *,
    prompts: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare two judges' flags on the same answers.

    Kappa falls when one label is rare, whatever the judges' quality: read it beside the raw agreement and the four counts.

    Args:
        first: one judge's flag on each answer. None: unscored.
        second: the other's.
        prompts: the prompt of each answer, where prompts have several; by default every answer has its own.

    Raises:
        ValueError: the sequences are not of one length.
    """
    rows = list(zip(first, second, range(len(first)) if prompts is None else prompts, strict=True))
    scored = [(bool(a), bool(b), prompt) for a, b, prompt in rows if a is not None and b is not None]
    pairs = [(a, b) for a, b, _ in scored]
    n, alike = len(pairs), sum(a == b for a, b in pairs)
    cells_N = np.array([2 * a + b for a, b in pairs], dtype=np.int64)

    def kappa(weights_N: Weights) -> float | None:
        return _kappa(*np.bincount(cells_N, weights=weights_N, minlength=4).tolist())

    value = kappa(np.ones(n, dtype=np.int64)) if n > 1 else None
    interval = None
    if value is not None:
        interval = bootstrap_over_prompts(kappa, [prompt for *_, prompt in scored], resamples=resamples, seed=seed)
    lower, upper = interval or (None, None)
    return Agreement(
        n=n,
        unscored=len(rows) - n,
        both=pairs.count((True, True)),
        only_first=pairs.count((True, False)),
        only_second=pairs.count((False, True)),
        neither=pairs.count((False, False)),
        agreement=alike / n if n > 1 else None,
        kappa=value,
        lower=lower,
        upper=upper,
    )


def _kappa(neither: float, only_second: float, only_first: float, both: float) -> float | None:
    """Return Cohen's kappa of a table of two by two. scikit-learn's takes milliseconds, too long for every resample."""
    n = neither + only_second + only_first + both
    first, second = (only_first + both) / n, (only_second + both) / n
    if first == second and first in (0, 1):
        return None
    chance = first * second + (1 - first) * (1 - second)
    return ((neither + both) / n - chance) / (1 - chance)
