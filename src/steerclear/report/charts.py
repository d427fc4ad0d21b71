"""What the page's charts show, as plain numbers: the browser draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from steerclear.evaluation.scores import Scores
from steerclear.report.comparison import HEADINGS, headline_rates
from steerclear.report.efficiency import Configuration
from steerclear.report.run_data import RunData
from steerclear.report.tables import LOSSES, logged
from steerclear.sanitize import visible
from steerclear.stats.rates import Rate

MOST_POINTS = 300
"""Points of a loss that are drawn."""

Value = TypeVar("Value")
Interval = list[float] | None
"""Rate, lower, upper; None without a rate."""


def _interval(rate: Rate | None) -> Interval:
    if rate is None or rate.rate is None or rate.lower is None or rate.upper is None:
        return None
    return [round(value, 5) for value in (rate.rate, rate.lower, rate.upper)]


def plane(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Return for each run its path through harm and over-refusal, as ``{"run": place, "points": [...]}``.

    A point is ``{"step", "harmful", "refused", "chosen"}``; the chosen one is the picked checkpoint, else the run itself. Runs
    that lack one of the two rates are left out.
    """
    found = []
    for place, run in enumerate(runs):
        chosen = run.end if run.picked is None else run.picked
        steps: list[tuple[int | None, Scores]] = [(point.step, point.scores) for point in run.points]
        points = [_point(step, scores, step == chosen) for step, scores in steps or [(None, run.scores)]]
        if any(point is not None for point in points):
            found.append({"run": place, "points": [point for point in points if point is not None]})
    return found


def _point(step: int | None, scores: Scores, chosen: bool) -> dict[str, Any] | None:
    rates = {"harmful": _interval(scores.harmful), "refused": _interval(scores.over_refusal)}
    return None if None in rates.values() else {"step": step, **rates, "chosen": chosen}


def curves(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return ``{"metrics": [heading, ...], "runs": [{"run", "steps", "rates": [[interval, ...] by metric]}]}``.

    Runs with fewer than two evaluated steps have no curve.
    """
    found = []
    for place, run in enumerate(runs):
        if len(run.points) > 1:
            by_step = [map(_interval, headline_rates(point.scores)) for point in run.points]
            rates = [list(of_metric) for of_metric in zip(*by_step, strict=True)]
            found.append({"run": place, "steps": [point.step for point in run.points], "rates": rates})
    return {"metrics": HEADINGS, "runs": found}


def losses(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return ``{"terms": {name: title}, "runs": [{"run", name: [[step, value], ...]}]}`` of what the trainers logged."""
    found: list[dict[str, Any]] = []
    terms: dict[str, str] = {}
    for place, run in enumerate(runs):
        own: dict[str, Any] = {"run": place}
        for name, title in LOSSES.items():
            values = logged(run, name)
            if len(values) > 1:
                own[name] = few([[step, round(value, 5)] for step, value in values], MOST_POINTS)
                terms.setdefault(name, title)
        if len(own) > 1:
            found.append(own)
    return {"terms": {name: title for name, title in LOSSES.items() if name in terms}, "runs": found}


def few(values: Sequence[Value], most: int) -> list[Value]:
    """Return at most so many of the values, evenly, the last one among them."""
    every = -(-len(values) // most) if values else 1
    return list(values)[::-1][::every][::-1]


def attacked(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return ``{"attacks": [name, ...], "runs": [{"run", "points": [[place of attack, [rate, lower, upper]], ...]}]}``."""
    names = list(dict.fromkeys(name for run in runs for name in run.attacks))
    shown = []
    for place, run in enumerate(runs):
        rates = [(at, run.attacks[name].asr) for at, name in enumerate(names) if name in run.attacks]
        points = [[at, [rate.rate, rate.lower, rate.upper]] for at, rate in rates if rate.rate is not None]
        if points:
            shown.append({"run": place, "points": points})
    return {"attacks": [visible(name) for name in names], "runs": shown}


def efficiency_chart(lines: Mapping[str, Sequence[Configuration]]) -> dict[str, Any]:
    """Return ``{"benchmarks": [...], "lines": [{"name", "points": {place of benchmark: [point, ...]}}]}``.

    A point is ``[unsafe rows, interval, configuration, figures as text]``.
    """
    benchmarks = list(dict.fromkeys(name for own in lines.values() for c in own for name in c.benchmarks))
    shown = []
    for line, own in lines.items():
        points: dict[int, list[Any]] = {}
        for place, benchmark in enumerate(benchmarks):
            figures = [(c, c.benchmarks[benchmark]) for c in own if benchmark in c.benchmarks]
            points[place] = [
                [c.unsafe_rows, [f.rate, f.harmful.lower, f.harmful.upper], visible(c.name), f.text()]
                for c, f in figures
                if f.rate is not None
            ]
        shown.append({"name": visible(line), "points": points})
    return {"benchmarks": [visible(name) for name in benchmarks], "lines": shown}
