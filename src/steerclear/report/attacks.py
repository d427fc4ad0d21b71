"""Attacks, one line an attack and run: what the runs say when somebody tries."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from steerclear.attacks.figures import attack_differences
from steerclear.evaluation.differences import Difference
from steerclear.evaluation.scores import Cell, cell_text
from steerclear.report.comparison import NO_VALUE, RunScores
from steerclear.report.differences import differences_markdown
from steerclear.report.markdown import markdown_cell, rows_markdown
from steerclear.sanitize import visible
from steerclear.stats.rates import Mean, Rate

ABOUT = (
    "Under attack: the share of goals to which an answer is harmful and coherent (ASR, 95 % Wilson intervals), and the mean over "
    "the goals of the judge's highest score."
)

HEADINGS = (
    "attack",
    "run",
    "goals",
    "ASR",
    "mean judge score",
    "coherent and safe",
    "degenerate",
    "unscored",
    "harmful from",
)


@dataclass(frozen=True)
class _Line:
    """An attack on a run."""

    attack: str
    run: str
    figures: Mapping[str, Any]


def _lines(runs: Sequence[RunScores]) -> Iterator[_Line]:
    """Yield attack by attack each run's figures; those of suites with prefilled openings, which are attacks too, come last."""
    for name in dict.fromkeys(name for run in runs for name in run.attacks):
        for run in runs:
            if name in run.attacks:
                yield _Line(name, run.name, run.attacks[name])
    suites = dict.fromkeys(name for run in runs for name, suite in run.scores.suites.items() if suite.prefilled)
    for name in suites:
        for run in runs:
            if name in run.scores.suites:
                yield _Line(name, run.name, _as_figures(run.scores.suites[name].all))


def _as_figures(cell: Cell) -> dict[str, Any]:
    rates = {"asr": cell.harmful, "safe": cell.safe, "degenerate": cell.degenerate}
    return {
        "goals": cell.n,
        "unscored": cell.unscored.k,
        "mean_score": asdict(cell.mean_score or Mean.of([])),
        **{name: asdict(rate) for name, rate in rates.items()},
    }


def attack_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line an attack and run, as text; nothing without any."""
    rows = []
    for line in _lines(runs):
        of = line.figures
        rates = [cell_text(Rate(**of[metric])) for metric in ("safe", "degenerate")]
        told = [
            cell_text(Rate(**of["asr"])),
            _mean(of["mean_score"]),
            *rates,
            f"{of['unscored']}/{of['goals']}",
            _from(of),
        ]
        rows.append([line.attack, line.run, str(of["goals"]), *told])
    return [list(HEADINGS), *rows] if rows else []


def _mean(mean: Mapping[str, Any]) -> str:
    if mean["mean"] is None:
        return NO_VALUE
    return f"{mean['mean']:.2f} ({mean['lower']:.2f} to {mean['upper']:.2f})"


def _from(figures: Mapping[str, Any]) -> str:
    """Return the token with which harmful answers turn harmful: median and quartiles."""
    places = figures.get("first_harmful")
    if not places or places["median"] is None:
        return NO_VALUE
    return f"{places['unit'][:-1]} {places['median']:g} ({places['lower']:g}-{places['upper']:g})"


def category_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line an attack, category and run; nothing where goals have no categories."""
    rows = []
    for line in _lines(runs):
        for category, rate in line.figures.get("categories", {}).items():
            rows.append([line.attack, category, line.run, cell_text(Rate(**rate))])
    return [["attack", "category", "run", "ASR"], *rows] if rows else []


def pair_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line an attack with an attacker and run: its calls, and queries up to a success."""
    headings = ["attack", "run", "attacker", "queries to a success (median)", "calls", "unreadable replies", "stopped"]
    rows = []
    for line in _lines(runs):
        of = line.figures
        if of.get("kind") == "pair":
            queries = [count for count in of["queries"].values() if count is not None]
            median = f"{statistics.median(queries):g}" if queries else NO_VALUE
            calls = ", ".join(f"{count:,} {role}" for role, count in of["calls"].items())
            told = [of["attacker"], median, calls, str(of["malformed"]), of["stopped"] or "no"]
            rows.append([line.attack, line.run, *told])
    return [headings, *rows] if rows else []


def source_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and what each attack does and whose it is; nothing without any."""
    told = {line.attack: line.figures for line in _lines(runs) if "source" in line.figures}
    rows = [[name, of["about"], of["source"]] for name, of in told.items()]
    return [["attack", "what it does", "source"], *rows] if rows else []


def attack_tests(runs: Sequence[RunScores], baseline: RunScores | None = None) -> tuple[list[Difference], list[str]]:
    """Return the paired tests of the attacked runs, and what is not compared.

    Args:
        baseline: None: the first that was attacked.
    """
    first = [baseline] if baseline is not None and baseline.attacks else []
    attacked = [*first, *(run for run in runs if run.attacks and run not in first)]
    return attack_differences({run.name: run.attacks for run in attacked}) if len(attacked) > 1 else ([], [])


def attack_judges(runs: Sequence[RunScores]) -> list[str]:
    """Return who judged the answers under attack."""
    return sorted({judge for run in runs for of in run.attacks.values() for judge in of["judges"]})


def attacks_markdown(runs: Sequence[RunScores], baseline: RunScores | None = None) -> str:
    """Return all that is known of attacks as Markdown tables; nothing without any."""
    tests, warnings = attack_tests(runs, baseline)
    judges = attack_judges(runs)
    about = ABOUT + (f" Judged by {', '.join(map(markdown_cell, judges))}." if judges else "")
    parts = [
        rows_markdown(attack_rows(runs), names=2, about=about),
        differences_markdown(tests),
        *(f"\n{markdown_cell(warning)}\n" for warning in warnings),
        rows_markdown(pair_rows(runs), names=3, about="With an attacker model:"),
        rows_markdown(category_rows(runs), names=3, about="By category:"),
        rows_markdown(source_rows(runs), names=None, about="What the attacks are:"),
    ]
    return "".join(parts)


def attacks_csv(runs: Sequence[RunScores]) -> str:
    """Return every rate under attack as a tidy row; the category is empty for all goals."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    statistics_ = ("k", "n", "rate", "lower", "upper")
    means = ("mean", "lower", "upper")
    out.writerow(["run", "attack", "category", "metric", *statistics_, *(f"score_{name}" for name in means)])
    for line in _lines(runs):
        of = line.figures
        score = [of["mean_score"][name] for name in means]
        for metric in ("asr", "safe", "degenerate"):
            out.writerow([line.run, line.attack, "", metric, *(of[metric][s] for s in statistics_), *score])
        for category, rate in of.get("categories", {}).items():
            out.writerow([line.run, line.attack, category, "asr", *(rate[s] for s in statistics_), None, None, None])
    return text.getvalue()


def attacks_table(runs: Sequence[RunScores]) -> Table:
    """Return the attacks as a table for the terminal."""
    judges = ", ".join(attack_judges(runs))
    table = Table(title="Under attack", caption=Text(f"95 % Wilson intervals; judged by {visible(judges)}"), box=None)
    rows = attack_rows(runs) or [list(HEADINGS)]
    shown = [number for number, heading in enumerate(HEADINGS) if heading not in ("goals", "coherent and safe")]
    for number in shown:
        table.add_column(HEADINGS[number], justify="left" if number < 2 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(visible(row[number])) for number in shown))
    return table
