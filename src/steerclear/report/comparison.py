"""Runs side by side, as Markdown, CSV and a terminal table. The page is in `steerclear.report.page`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any

from rich.table import Table
from rich.text import Text

from steerclear.evaluation.scores import METRICS, Scores, cell_text
from steerclear.report.markdown import markdown_cell, markdown_table
from steerclear.sanitize import visible
from steerclear.stats.rates import Rate

NO_VALUE = "–"

STATISTICS = [field.name for field in fields(Rate)]
"""Columns of a rate in CSV."""


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """One run: its scores, and what else is known of it."""

    name: str
    scores: Scores
    benign_loss: float | None = None
    """Loss on held-out benign rows, in nats a token."""
    unsafe_rows: int | None = None
    """Number of unsafe rows in training."""
    seconds: float | None = None
    """Wall time of training."""
    attacks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Attack -> its figures; see `steerclear.attacks.figures.attack_figures`. Empty: none was tried."""


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


def headline_rates(scores: Scores) -> list[Rate | None]:
    """Return the rate for each of `COLUMNS`; None where no such prompts were asked."""
    pools = [(scores.pool(column.pool), column.metric) for column in COLUMNS]
    return [None if pool is None else pool.rate(metric) for pool, metric in pools]


def rate_text(rate: Rate | None) -> str:
    """Return a rate as text, with its interval."""
    return NO_VALUE if rate is None else cell_text(rate)


def unscored(run: RunScores) -> str:
    """Return how many of all prompts' answers have no verdict, as ``k/n``."""
    cells = [suite.all for suite in run.scores.suites.values()]
    return f"{sum(cell.unscored.k for cell in cells)}/{sum(cell.n for cell in cells)}"


def non_english(runs: Sequence[RunScores]) -> list[Rate]:
    """Return each run's rate of answers in another language, over all prompts; nothing where no run has any."""
    rates = []
    for run in runs:
        counts = [suite.all.rate("non_english") for suite in run.scores.suites.values()]
        rates.append(Rate.of(sum(count.k for count in counts), sum(count.n for count in counts)))
    return rates if any(rate.k for rate in rates) else []


def extra_columns(runs: Sequence[RunScores]) -> list[tuple[str, list[str]]]:
    """Return heading and values of the columns that at least one run has a value for."""
    columns = [
        ("flagged, corrected", [_corrected(run) for run in runs]),
        ("non-English", [cell_text(rate) for rate in non_english(runs)] or [NO_VALUE]),
        ("benign loss", [NO_VALUE if run.benign_loss is None else f"{run.benign_loss:.3f}" for run in runs]),
        ("unsafe rows", [NO_VALUE if run.unsafe_rows is None else f"{run.unsafe_rows:,}" for run in runs]),
        ("time", [NO_VALUE if run.seconds is None else duration(run.seconds) for run in runs]),
    ]
    return [(heading, values) for heading, values in columns if set(values) != {NO_VALUE}]


def _corrected(run: RunScores) -> str:
    pool = run.scores.harmful_prompts
    rate = None if pool is None else pool.corrected
    if rate is None or rate.rate is None or rate.lower is None or rate.upper is None:
        return NO_VALUE
    return f"{100 * rate.rate:.1f}% ({100 * rate.lower:.1f}-{100 * rate.upper:.1f})"


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


def warnings_on(runs: Sequence[RunScores]) -> list[str]:
    """Return why the runs' rates may not be comparable: other judges, or other prompts."""
    notes = []
    if len({tuple(run.scores.judges) for run in runs}) > 1:
        told = "; ".join(f"{run.name}: {', '.join(run.scores.judges)}" for run in runs)
        notes.append(f"The runs were judged by different judges, so their rates do not compare ({told}).")
    asked = [{name: suite.all.n for name, suite in run.scores.suites.items()} for run in runs]
    if any(suites != asked[0] for suites in asked):
        notes.append("The runs were not asked the same number of prompts in every suite.")
    return notes


def comparison_markdown(runs: Sequence[RunScores]) -> str:
    """Return the headline table in Markdown, with what limits the comparison below it."""
    extra = extra_columns(runs)
    headings = ["run", *(column.heading for column in COLUMNS), "unscored", *(heading for heading, _ in extra)]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    for number, run in enumerate(runs):
        rates = map(rate_text, headline_rates(run.scores))
        lines.append([markdown_cell(run.name), *rates, unscored(run), *(values[number] for _, values in extra)])
    judges = sorted({judge for run in runs for judge in run.scores.judges})
    notes = [f"95 % Wilson intervals; judged by {', '.join(judges)}.", *warnings_on(runs)]
    return markdown_table(lines) + "".join(f"\n{markdown_cell(note)}\n" for note in notes)


def comparison_table(runs: Sequence[RunScores]) -> Table:
    """Return the headline table for the terminal: the rates, narrow enough for 80 columns without a non-English answer."""
    caption = Text("\n".join(["95 % Wilson intervals", *(visible(note) for note in warnings_on(runs))]))
    table = Table(title="Comparison", caption=caption, box=None, padding=(0, 1, 1, 0))
    table.add_column("run", overflow="fold")
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", min_width=max(9, *map(len, column.heading.split())))
    drift = non_english(runs)
    if drift:
        table.add_column("non-English", justify="right", min_width=9)
    table.add_column("unscored", justify="right", min_width=8)
    for number, run in enumerate(runs):
        rates = [
            NO_VALUE if rate is None else _two_lines(rate)
            for rate in [*headline_rates(run.scores), *drift[number : number + 1]]
        ]
        table.add_row(*map(Text, [visible(run.name), *rates, unscored(run)]))
    return table


def _two_lines(rate: Rate) -> str:
    if rate.rate is None or rate.lower is None or rate.upper is None:
        return f"{rate.k}/{rate.n}"
    return f"{100 * rate.rate:.1f}%\n{100 * rate.lower:.1f}-{100 * rate.upper:.1f}"


def comparison_csv(runs: Sequence[RunScores]) -> str:
    """Return every rate as a tidy row: run, suite, group, metric, k, n, rate, lower, upper, then the run's own figures.

    The suite is empty for the pools of all harmful and all benign prompts, whose name is then the group.
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["run", "suite", "group", "metric", *STATISTICS, "benign_loss", "unsafe_rows", "seconds"])
    for run in runs:
        known = [run.benign_loss, run.unsafe_rows, run.seconds]
        for suite, group, cell in run.scores.cells():
            for metric in METRICS:
                out.writerow([run.name, suite, group, metric, *astuple(cell.rate(metric)), *known])
    return text.getvalue()
