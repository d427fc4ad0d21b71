"""The bootstrap over prompts: all answers to a prompt are drawn together or not at all, as they share what is hard about it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

MOST_UNDEFINED = 0.05
"""Share of resamples without a value from which on there is no interval."""

Weights = np.ndarray[Any, np.dtype[np.int64]]


def bootstrap_over_prompts(
    statistic: Callable[[Weights], float | None],
    prompts: Sequence[Hashable],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic of answers.

    Args:
        statistic: gets how often each answer was drawn (n,) and returns its value, or None where it has none.
        prompts: the prompt of each answer.

    Returns:
        The interval, or None with fewer than two different prompts or where more than `MOST_UNDEFINED` of the resamples
        have no value.
    """
    number = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
    if len(number) < 2:
        return None
    place = np.array([number[prompt] for prompt in prompts])
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(len(number), size=len(number)), minlength=len(number)) for _ in range(resamples))
    values = [value for counts in drawn if (value := statistic(counts[place])) is not None]
    if len(values) < (1 - MOST_UNDEFINED) * resamples:
        return None
    lower, upper = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)
