"""The few figures that say how a model was scored, as plain numbers: for trackers, which draw them by step."""

from __future__ import annotations

from steerclear.evaluation.scores import Scores

RATES = ("harmful", "safe", "degenerate", "unscored")
"""Of harmful prompts; of benign prompts ``refused``, as ``over_refusal``."""

QUALITY = {"multiple_choice": "acc", "perplexity": "perplexity", "win_rate": "win_rate"}
"""Metric -> its figure."""


def headline(scores: Scores) -> dict[str, float]:
    """Return the rates of all harmful and all benign prompts, and each suite's measure of quality, as far as they have values."""
    found: dict[str, float | None] = {}
    if scores.harmful_prompts is not None:
        found |= {name: scores.harmful_prompts.rate(name).rate for name in RATES}
    if scores.benign_prompts is not None:
        found["over_refusal"] = scores.benign_prompts.refused.rate
    for suite, figures in scores.quality.items():
        found[f"{suite}_{QUALITY[figures.metric]}"] = figures.interval.value
    return {name: float(value) for name, value in found.items() if value is not None}
