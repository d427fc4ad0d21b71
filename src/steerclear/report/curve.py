"""A training through its checkpoints as Markdown and CSV. Its picture is in `steerclear.report.pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import METRICS
from steerclear.report.comparison import HEADINGS, STATISTICS, headline_rates
from steerclear.stats.rates import Mean
from steerclear.table import Table, markdown_text


def curve_markdown(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> str:
    """Return a Markdown table, one line a checkpoint, the picked step in bold."""
    rows = [[checkpoint.step, *headline_rates(checkpoint.scores)] for checkpoint in checkpoints]
    bold = [place for place, checkpoint in enumerate(checkpoints) if checkpoint is picked]
    judges = ", ".join(sorted({judge for checkpoint in checkpoints for judge in checkpoint.scores.judges}))
    note = markdown_text(f"95 % Wilson intervals; judged by {judges}.")
    return Table(["step", *HEADINGS], rows, names=0, bold=bold).markdown() + f"\n{note}\n"


def curve_csv(checkpoints: Sequence[Checkpoint]) -> str:
    """Return every rate as a tidy row: step, suite, group, metric, k, n, rate, lower, upper; the judge's mean score too."""
    rows = []
    for checkpoint in checkpoints:
        for suite, group, cell in checkpoint.scores.cells():
            figures = {metric: astuple(cell.rate(metric)) for metric in METRICS}
            figures["mean_score"] = (None, *astuple(cell.mean_score or Mean.of([])))
            rows += [[checkpoint.step, suite, group, metric, *values] for metric, values in figures.items()]
    return Table(["step", "suite", "group", "metric", *STATISTICS], rows).csv()
