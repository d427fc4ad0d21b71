"""A training through its checkpoints: rates against the step, and over-refusal against harm, as a picture, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple
from importlib import resources
from typing import Any, TypeVar

from jinja2 import Environment, StrictUndefined

from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import METRICS
from steerclear.report.comparison import COLUMNS, STATISTICS, headline_rates, rate_text
from steerclear.report.markdown import markdown_table
from steerclear.report.plane import ticks
from steerclear.sanitize import visible
from steerclear.stats.rates import Mean

WIDTH, HEIGHT = 920, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 470, 24, 330
PLANE_LEFT, PLANE_RIGHT = 560, 900

LINES = (
    ("harmful", "harmful_prompts", "harmful", "#c0392b"),
    ("coherent and safe", "harmful_prompts", "safe", "#1e8449"),
    ("degenerate", "harmful_prompts", "degenerate", "#6c757d"),
    ("over-refusal", "benign_prompts", "refused", "#b9770e"),
)
"""Name, pool, metric and colour of the lines against the step."""


Value = TypeVar("Value")


def curve_markdown(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> str:
    """Return a Markdown table, one line a checkpoint, the picked one in bold."""
    lines = [["step", *(column.heading for column in COLUMNS)], ["---:"] * (len(COLUMNS) + 1)]
    for checkpoint in checkpoints:
        step = f"**{checkpoint.step}**" if checkpoint is picked else str(checkpoint.step)
        lines.append([step, *map(rate_text, headline_rates(checkpoint.scores))])
    judges = sorted({judge for checkpoint in checkpoints for judge in checkpoint.scores.judges})
    return markdown_table(lines) + f"\n95 % Wilson intervals; judged by {visible(', '.join(judges))}.\n"


def curve_csv(checkpoints: Sequence[Checkpoint]) -> str:
    """Return every rate as a tidy row: step, suite, group, metric, k, n, rate, lower, upper; the judge's mean score too."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["step", "suite", "group", "metric", *STATISTICS])
    for checkpoint in checkpoints:
        for suite, group, cell in checkpoint.scores.cells():
            where = [checkpoint.step, suite, group]
            for metric in METRICS:
                out.writerow([*where, metric, *astuple(cell.rate(metric))])
            out.writerow([*where, "mean_score", "", *astuple(cell.mean_score or Mean.of([]))])
    return text.getvalue()


def curve_svg(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> str:
    """Return the picture: left the rates with their intervals against the step, right over-refusal against harm by step.

    Points without a rate are left out; a panel without points is empty.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("curve.svg.j2").read_text("utf-8"))
    last = max((checkpoint.step for checkpoint in checkpoints), default=0) or 1
    return template.render(
        width=WIDTH, height=HEIGHT, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, plane_left=PLANE_LEFT,
        plane_right=PLANE_RIGHT,
        y_ticks=[(_y(t / 100, 1.0), t) for t in range(0, 101, 20)],
        x_ticks=[(_x(step, last), step) for step in few([checkpoint.step for checkpoint in checkpoints])],
        lines=[_line(checkpoints, *line, last) for line in LINES],
        plane=_plane(checkpoints, picked),
    )  # fmt: skip


def _x(step: float, last: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * step / last, 1)


def _y(rate: float, highest: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * rate / highest, 1)


def few(values: Sequence[Value], most: int = 8) -> list[Value]:
    """Return at most so many of the values, evenly, the last one among them."""
    every = -(-len(values) // most) if values else 1
    return list(values)[::-1][::every][::-1]


def _line(
    checkpoints: Sequence[Checkpoint], name: str, pool: str, metric: str, colour: str, last: int
) -> dict[str, Any]:
    pools = [(c.step, c.scores.pool(pool)) for c in checkpoints]
    rated = [(_x(step, last), cell.rate(metric)) for step, cell in pools if cell is not None]
    points = [(x, _y(rate.rate, 1)) for x, rate in rated if rate.rate is not None]
    upper = [(x, _y(rate.upper, 1)) for x, rate in rated if rate.upper is not None]
    lower = [(x, _y(rate.lower, 1)) for x, rate in rated if rate.lower is not None]
    return {"name": name, "colour": colour, "points": points, "band": [*upper, *reversed(lower)]}


def _plane(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> dict[str, Any]:
    both = [(c, c.scores.harmful_prompts, c.scores.benign_prompts) for c in checkpoints]
    rates = [(c, harmful.harmful.rate, benign.refused.rate) for c, harmful, benign in both if harmful and benign]
    rated = [(c, harmful, refused) for c, harmful, refused in rates if harmful is not None and refused is not None]
    x_ticks = ticks(max((harmful for _, harmful, _ in rated), default=1.0))
    y_ticks = ticks(max((refused for *_, refused in rated), default=1.0))

    def x(rate: float) -> float:
        return round(PLANE_LEFT + (PLANE_RIGHT - PLANE_LEFT) * 100 * rate / x_ticks[-1], 1)

    return {
        "marks": [
            # Labels of every step would lie on each other where a training settles.
            (x(h), _y(r, y_ticks[-1] / 100), c.step if c in (rated[0][0], rated[-1][0], picked) else "", c is picked)
            for c, h, r in rated
        ],
        "x_ticks": [(x(t / 100), t) for t in x_ticks],
        "y_ticks": [(_y(t, y_ticks[-1]), t) for t in y_ticks],
    }
