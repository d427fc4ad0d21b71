"""What the models still can: accuracy, perplexity, win rate, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from steerclear.evaluation.scores import cell_text
from steerclear.report.comparison import NO_VALUE, RunScores
from steerclear.report.markdown import rows_markdown
from steerclear.sanitize import visible


def quality_markdown(runs: Sequence[RunScores]) -> str:
    """Return a Markdown table of what the models still can, one line a measure; nothing without any."""
    rows = quality_rows(runs)
    headings = [["measure", *(run.name for run in runs)]] if rows else []
    return rows_markdown([*headings, *rows], about="What the models still can:")


def quality_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return a line for each measure of quality: its name, then each run's value as text, with its interval."""
    suites = dict.fromkeys(suite for run in runs for suite in run.scores.quality)
    rows = []
    for suite in suites:
        found = [run.scores.quality.get(suite) for run in runs]
        metric = next(figures.metric for figures in found if figures)
        for name, text in QUALITY_TEXTS[metric].items():
            values = [NO_VALUE if figures is None else text(figures) for figures in found]
            if set(values) != {NO_VALUE}:
                rows.append([f"{suite}: {name}", *values])
    return rows


def quality_table(runs: Sequence[RunScores]) -> Table | None:
    """Return what the models still can as a table for the terminal; None without any measure."""
    rows = quality_rows(runs)
    if not rows:
        return None
    table = Table(title="What is still there", box=None, padding=(0, 2, 0, 0))
    table.add_column("measure")
    for run in runs:
        table.add_column(Text(visible(run.name)), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _interval(interval: tuple[float | None, float | None, float | None], unit: str = "") -> str:
    value, lower, upper = interval
    if value is None:
        return NO_VALUE
    return f"{value:.1f}{unit}" + ("" if lower is None or upper is None else f" ({lower:.1f}-{upper:.1f})")


QUALITY_TEXTS: dict[str, dict[str, Callable[[Any], str]]] = {
    "multiple_choice": {
        "accuracy": lambda f: cell_text(f.acc),
        "accuracy by length": lambda f: cell_text(f.acc_norm) if f.acc_norm else NO_VALUE,
    },
    "perplexity": {
        "perplexity": lambda f: f"{_interval(f.interval)}, {f.rows} rows",
    },
    "win_rate": {
        "win rate": lambda f: _interval(f.interval, "%"),
        "pairs; unscored; missing": lambda f: f"{f.n}; {f.unscored}; {f.missing}",
        "win rate at equal length": lambda f: _interval((f.length_controlled_win_rate, f.lc_lower, f.lc_upper), "%"),
        "same choice in both orders": lambda f: _interval((f.consistency, None, None), "%"),
        "choice of the first place": lambda f: _interval((f.first_position_rate, None, None), "%"),
        "annotator": lambda f: f.annotator,
    },
}
"""Metric -> what is told of it, and how."""
