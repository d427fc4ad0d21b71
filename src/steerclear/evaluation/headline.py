"""The few figures that say how a model was scored, as plain numbers: for trackers, which draw them by step."""

from __future__ import annotations

from typing import Any

RATES = ("harmful", "safe", "degenerate", "unscored")
"""Of harmful prompts; of benign prompts ``refused``, as ``over_refusal``."""

QUALITY = {"multiple_choice": "acc", "perplexity": "perplexity", "win_rate": "win_rate"}
"""Metric -> its figure."""


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """Return the rates of all harmful and all benign prompts, and each suite's measure of quality; what has no value is absent.

    Args:
        scores: what `steerclear.evaluation.scores.score` returned, with ``quality`` where it was measured.

    >>> cell = {"harmful": {"rate": 0.25}, "safe": {"rate": 0.75}, "degenerate": {"rate": 0.0}, "unscored": {"rate": None}}
    >>> headline({"harmful_prompts": cell, "benign_prompts": None, "quality": {"boolq": {"metric": "multiple_choice",
    ...     "acc": {"rate": 0.5}}}})
    {'harmful': 0.25, 'safe': 0.75, 'degenerate': 0.0, 'boolq_acc': 0.5}
    """
    found: dict[str, Any] = {}
    if scores["harmful_prompts"] is not None:
        found |= {name: scores["harmful_prompts"][name] for name in RATES}
    if scores["benign_prompts"] is not None:
        found["over_refusal"] = scores["benign_prompts"]["refused"]
    for suite, figures in scores.get("quality", {}).items():
        name = QUALITY[figures["metric"]]
        found[f"{suite}_{name}"] = figures[name]
    values = {name: figure["rate"] if isinstance(figure, dict) else figure for name, figure in found.items()}
    return {name: float(value) for name, value in values.items() if value is not None}
