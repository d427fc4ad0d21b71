"""The headline table: every run's rates over all harmful and all benign prompts, and what limits their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import rich.table

from steerclear.evaluation.scores import METRICS, Scores, suite_label
from steerclear.report.run_data import RunData
from steerclear.stats.rates import Rate
from steerclear.table import Table


@dataclass(frozen=True)
class Column:
    """One rate of the headline table: a metric of all harmful or of all benign prompts."""

    heading: str
    pool: str
    metric: str


COLUMNS = (
    Column("harmful", "harmful_prompts", "harmful"),
    Column("coherent and safe", "harmful_prompts", "safe"),
    Column("degenerate", "harmful_prompts", "degenerate"),
    Column("flagged (raw)", "harmful_prompts", "flagged"),
    Column("over-refusal", "benign_prompts", "refused"),
)

HEADINGS = [column.heading for column in COLUMNS]

STATISTICS = [field.name for field in fields(Rate)]
"""Columns of a rate in CSV."""


def headline_rates(scores: Scores) -> list[Rate | None]:
    """Return the rate for each of `COLUMNS`; None where no such prompts were asked."""
    pools = [(scores.pool(column.pool), column.metric) for column in COLUMNS]
    return [None if pool is None else pool.rate(metric) for pool, metric in pools]


def unscored(scores: Scores) -> str:
    """Return how many of all prompts' answers have no verdict, as ``k/n``."""
    cells = [suite.all for suite in scores.suites.values()]
    return f"{sum(cell.unscored.k for cell in cells)}/{sum(cell.n for cell in cells)}"


def extra_columns(runs: Sequence[RunData]) -> dict[str, Sequence[Any]]:
    """Return heading -> each run's value, for what at least one run has a value of."""
    columns: dict[str, Sequence[Any]] = {
        "flagged, corrected": [corrected(run.scores) for run in runs],
        "non-English": _non_english(runs),
        "benign loss": [None if run.benign_loss is None else f"{run.benign_loss:.3f}" for run in runs],
        "unsafe rows": [None if run.unsafe_rows is None else f"{run.unsafe_rows:,}" for run in runs],
        "time": [None if run.seconds is None else duration(run.seconds) for run in runs],
    }
    return {heading: values for heading, values in columns.items() if any(value is not None for value in values)}


def corrected(scores: Scores) -> str | None:
    """Return the flagged rate of all harmful prompts, corrected for the judge's errors; None where they are not known."""
    rate = None if scores.harmful_prompts is None else scores.harmful_prompts.corrected
    if rate is None or rate.rate is None or rate.lower is None or rate.upper is None:
        return None
    return f"{100 * rate.rate:.1f}% ({100 * rate.lower:.1f}-{100 * rate.upper:.1f})"


def _non_english(runs: Sequence[RunData]) -> list[Rate]:
    """Return each run's rate of answers in another language, over all prompts; nothing where no run has any."""
    rates = []
    for run in runs:
        counts = [suite.all.rate("non_english") for suite in run.scores.suites.values()]
        rates.append(Rate.of(sum(count.k for count in counts), sum(count.n for count in counts)))
    return rates if any(rate.k for rate in rates) else []


def duration(seconds: float) -> str:
    """Return a length of time in the two largest units that it has.

    >>> duration(42.4), duration(125), duration(3720)
    ('42 s', '2 min 05 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def warnings_on(scores: dict[str, Scores]) -> list[str]:
    """Return why the runs' rates may not be comparable: other judges, or other prompts.

    Args:
        scores: of each run by its name.
    """
    notes = []
    if len({tuple(own.judges) for own in scores.values()}) > 1:
        who = "; ".join(f"{name}: {', '.join(own.judges)}" for name, own in scores.items())
        notes.append(f"The runs were judged by different judges, so their rates do not compare ({who}).")
    asked = [{name: suite.all.n for name, suite in own.suites.items()} for own in scores.values()]
    if any(suites != asked[0] for suites in asked):
        notes.append("The runs were not asked the same number of prompts in every suite.")
    return notes


def notes_on(runs: Sequence[RunData]) -> list[str]:
    """Return what is to be known of the headline table: its intervals, its judges, and what limits the comparison."""
    judges = ", ".join(sorted({judge for run in runs for judge in run.scores.judges}))
    return [f"95 % Wilson intervals; judged by {judges}.", *warnings_on({run.name: run.scores for run in runs})]


def headline_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run: its rates, and what else is known of some run."""
    extra = extra_columns(runs)
    rows = [
        [run.name, *headline_rates(run.scores), unscored(run.scores), *(values[place] for values in extra.values())]
        for place, run in enumerate(runs)
    ]
    return Table(["run", *HEADINGS, "unscored", *extra], rows)


def terminal_comparison(runs: Sequence[RunData]) -> rich.table.Table:
    """Return the rates for the terminal, intervals below them: narrow enough for 80 columns without a non-English answer."""
    whole = headline_table(runs)
    table = whole.without(*(extra for extra in extra_columns(runs) if extra != "non-English"))
    rows = [[_two_lines(cell) if isinstance(cell, Rate) else cell for cell in row] for row in table.rows]
    caption = "\n".join(["95 % Wilson intervals", *notes_on(runs)[1:]])
    return Table(table.headings, rows).rich("Comparison", caption)


def _two_lines(rate: Rate) -> str:
    if rate.rate is None or rate.lower is None or rate.upper is None:
        return f"{rate.k}/{rate.n}"
    return f"{100 * rate.rate:.1f}%\n{100 * rate.lower:.1f}-{100 * rate.upper:.1f}"


def comparison_csv(runs: Sequence[RunData]) -> str:
    """Return every rate as a tidy row: run, suite, group, metric, k, n, rate, lower, upper, then the run's own figures.

    The suite is empty for the pools of all harmful and all benign prompts, whose name is then the group.
    """
    headings = ["run", "suite", "group", "metric", *STATISTICS, "benign_loss", "unsafe_rows", "seconds"]
    rows = [
        [run.name, suite, group, metric, *astuple(cell.rate(metric)), run.benign_loss, run.unsafe_rows, run.seconds]
        for run in runs
        for suite, group, cell in run.scores.cells()
        for metric in METRICS
    ]
    return Table(headings, rows).csv()


def suites_table(runs: Sequence[RunData]) -> Table:
    """Return a line per suite, or group of a suite, and run: all rates."""
    rows: dict[str, list[list[Any]]] = {}
    for run in runs:
        for suite, group, cell in run.scores.cells():
            if suite:
                label = suite_label(suite, run.scores.suites[suite]) + (f": {group}" if group else "")
                rates = (cell.harmful, cell.safe, cell.degenerate, cell.flagged, cell.refused)
                rows.setdefault(label, []).append([label, run.name, *rates, f"{cell.unscored.k}/{cell.n}"])
    by_suite = [row for own in rows.values() for row in own]
    return Table(["prompts", "run", *HEADINGS[:-1], "refused", "unscored"], by_suite, names=2)
