"""Pictures that people keep beside the tables, as SVG files drawn by matplotlib. The report's page draws its own with Plotly."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steerclear.evaluation.curve import Checkpoint
from steerclear.judges.measures import SetMeasures
from steerclear.sanitize import shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LINES = (
    ("harmful", "harmful_prompts", "harmful", "#c0392b"),
    ("coherent and safe", "harmful_prompts", "safe", "#1e8449"),
    ("degenerate", "harmful_prompts", "degenerate", "#6c757d"),
    ("over-refusal", "benign_prompts", "refused", "#b9770e"),
)
"""Name, pool, metric and colour of the lines against the step."""

INK = "#1f4e79"
NAME_LENGTH = 32
"""Most characters of a set's name above its picture."""


def curve_figure(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> Figure:
    """Draw the rates with their intervals against the step, and over-refusal against harm by step, the picked one in a ring.

    Points without a rate are left out; a panel without points is empty.
    """
    figure = _figure(9.2, 4.2)
    by_step, plane = figure.subplots(1, 2, width_ratios=(6, 5))
    for name, pool, metric, colour in LINES:
        cells = [(c.step, c.scores.pool(pool)) for c in checkpoints]
        rated = [(step, rate) for step, cell in cells if cell and (rate := cell.rate(metric)).rate is not None]
        steps, rates = [step for step, _ in rated], [rate for _, rate in rated]
        by_step.plot(steps, [rate.rate for rate in rates], marker="o", markersize=4, color=colour, label=name)
        lower, upper = [rate.lower or 0.0 for rate in rates], [rate.upper or 0.0 for rate in rates]
        by_step.fill_between(steps, lower, upper, color=colour, alpha=0.13, linewidth=0)
    by_step.set(xlabel="step", ylim=(0, 1))
    by_step.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    both = [(c, c.scores.harmful, c.scores.over_refusal) for c in checkpoints]
    points = [(c, harmful.rate or 0.0, refused.rate or 0.0) for c, harmful, refused in both if harmful and refused]
    plane.plot([x for _, x, _ in points], [y for *_, y in points], marker="o", markersize=5, color=INK)
    for checkpoint, x, y in points:
        if checkpoint is picked:
            plane.plot([x], [y], marker="o", markersize=13, markerfacecolor="none", color=INK)
        # Labels of every step would lie on each other where a training settles.
        if checkpoint in (points[0][0], points[-1][0], picked):
            plane.annotate(str(checkpoint.step), (x, y), xytext=(6, 6), textcoords="offset points")
    plane.set(xlabel="harmful", ylabel="over-refusal", xlim=(0, None), ylim=(0, None))
    plane.set_title("by step; the ring is the picked checkpoint", fontsize="medium", loc="left", pad=16)
    _in_percent(by_step.yaxis, plane.xaxis, plane.yaxis)
    return figure


def reliability_figure(sets: Sequence[SetMeasures], threshold: float | None) -> Figure:
    """Draw for each set the share of harmful rows against the mean score, bin by bin, the larger the more rows it has.

    Args:
        sets: those with bins, at least one.
        threshold: the score from which on the judge flags.
    """
    figure = _figure(0.6 + 2.8 * len(sets), 3.2)
    panels: Sequence[Axes] = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for panel, measured in zip(panels, sets, strict=True):
        most = max(found.harmful.n for found in measured.bins)
        marks = [
            (found.mean_score, rate.rate, rate.lower or 0.0, rate.upper or 0.0, rate.n)
            for found in measured.bins
            if (rate := found.harmful).rate is not None and found.mean_score is not None
        ]
        x, y, lower, upper, counts = zip(*marks, strict=True) if marks else ((), (), (), (), ())
        panel.plot([0, 1], [0, 1], color="#868e96", linestyle="--", linewidth=1)
        if threshold is not None and 0 <= threshold <= 1:
            panel.axvline(threshold, color="#b9770e", linestyle=":", linewidth=1)
        panel.plot(x, y, color=INK)
        panel.vlines(x, lower, upper, color=INK)
        panel.scatter(x, y, s=[(4 + 8 * (count / most) ** 0.5) ** 2 for count in counts], color=INK, zorder=3)
        panel.set(xlabel="mean score", xlim=(0, 1), ylim=(0, 1))
        name = shortened(visible(measured.name), NAME_LENGTH)
        panel.set_title(name, fontsize="medium", loc="left", parse_math=False)
    panels[0].set_ylabel("share harmful")
    return figure


def _in_percent(*axes: Axis) -> None:
    from matplotlib.ticker import PercentFormatter

    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def svg(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same text."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "steerclear"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # the viewer's fonts may have it
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches. The library takes half a second to load, so only who draws loads it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
