"""Models under attack: a line per attack and run, paired tests between runs, and what is known of each attack."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import rich.table

from steerclear.attacks.figures import AttackFigures, attack_differences
from steerclear.evaluation.differences import Difference
from steerclear.evaluation.scores import Cell
from steerclear.report.comparison import STATISTICS
from steerclear.report.run_data import RunData
from steerclear.stats.rates import Mean
from steerclear.table import Table

ABOUT = (
    "Under attack: ASR is the share of behaviors that get a harmful and coherent answer, with 95 % Wilson intervals; the mean is "
    "of each behavior's highest judge score."
)


@dataclass(frozen=True)
class _Line:
    """An attack on a run."""

    attack: str
    run: str
    figures: AttackFigures


def _lines(runs: Sequence[RunData]) -> Iterator[_Line]:
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


def _as_figures(cell: Cell) -> AttackFigures:
    return AttackFigures(
        goals=cell.n,
        asr=cell.harmful,
        safe=cell.safe,
        degenerate=cell.degenerate,
        unscored=cell.unscored.k,
        mean_score=cell.mean_score or Mean.of([]),
    )


def attacks_table(runs: Sequence[RunData]) -> Table:
    """Return a line per attack and run."""
    rows = []
    for line in _lines(runs):
        of = line.figures
        unscored = f"{of.unscored}/{of.goals}"
        figures = [of.goals, of.asr, _mean(of.mean_score), of.safe, of.degenerate, unscored, _harmful_from(of)]
        rows.append([line.attack, line.run, *figures])
    headings = ["attack", "run", "behaviors", "ASR", "mean judge score", "coherent and safe", "degenerate", "unscored"]
    return Table([*headings, "harmful from"], rows, names=2, about=ABOUT)


def _mean(mean: Mean) -> str | None:
    return None if mean.mean is None else f"{mean.mean:.2f} ({mean.lower:.2f} to {mean.upper:.2f})"


def _harmful_from(figures: AttackFigures) -> str | None:
    """Return the token with which harmful answers turn harmful: median and quartiles."""
    places = figures.first_harmful
    if places is None or places.median is None:
        return None
    return f"{places.unit[:-1]} {places.median:g} ({places.lower:g}-{places.upper:g})"


def categories_table(runs: Sequence[RunData]) -> Table:
    """Return a line per attack, category and run; nothing where behaviors have no categories."""
    rows = [
        [line.attack, category, line.run, rate]
        for line in _lines(runs)
        for category, rate in line.figures.categories.items()
    ]
    return Table(["attack", "category", "run", "ASR"], rows, names=3, about="By category:")


def pairs_table(runs: Sequence[RunData]) -> Table:
    """Return a line per attack with an attacker model and run: its calls, and queries up to a success."""
    rows = []
    for line in _lines(runs):
        pair = line.figures.pair
        if pair is not None:
            queries = [count for count in pair.queries.values() if count is not None]
            median = f"{statistics.median(queries):g}" if queries else None
            calls = ", ".join(f"{count:,} {who}" for who, count in pair.calls.items())
            rows.append([line.attack, line.run, pair.attacker, median, calls, pair.malformed, pair.stopped or "no"])
    headings = ["attack", "run", "attacker", "queries to a success (median)", "calls", "unreadable replies", "stopped"]
    return Table(headings, rows, names=3, about="With an attacker model:")


def sources_table(runs: Sequence[RunData]) -> Table:
    """Return what each attack does and whose it is."""
    attacks = {line.attack: line.figures for line in _lines(runs) if line.figures.kind}
    rows = [[name, of.about, of.source] for name, of in attacks.items()]
    return Table(["attack", "what it does", "source"], rows, names=None, about="What the attacks are:")


def attack_tests(runs: Sequence[RunData], baseline: RunData | None = None) -> tuple[list[Difference], list[str]]:
    """Return the paired tests of the attacked runs, and what is not compared.

    Args:
        baseline: None: the first that was attacked.
    """
    first = [baseline] if baseline is not None and baseline.attacks else []
    attacked = [*first, *(run for run in runs if run.attacks and run not in first)]
    return attack_differences({run.name: run.attacks for run in attacked}) if len(attacked) > 1 else ([], [])


def attack_judges(runs: Sequence[RunData]) -> str:
    """Return who judged the answers under attack."""
    return ", ".join(sorted({judge for run in runs for of in run.attacks.values() for judge in of.judges}))


def attacks_csv(runs: Sequence[RunData]) -> str:
    """Return every rate under attack as a tidy row; the category is empty for all behaviors."""
    rows = []
    for line in _lines(runs):
        of = line.figures
        score = [of.mean_score.mean, of.mean_score.lower, of.mean_score.upper]
        for metric in ("asr", "safe", "degenerate"):
            rows.append([line.run, line.attack, "", metric, *astuple(getattr(of, metric)), *score])
        for category, rate in of.categories.items():
            rows.append([line.run, line.attack, category, "asr", *astuple(rate), None, None, None])
    headings = ["run", "attack", "category", "metric", *STATISTICS, "score_mean", "score_lower", "score_upper"]
    return Table(headings, rows).csv()


def terminal_attacks(runs: Sequence[RunData]) -> rich.table.Table:
    """Return the attacks as a table for the terminal."""
    table = attacks_table(runs).without("behaviors", "coherent and safe")
    return table.rich("Under attack", f"95 % Wilson intervals; judged by {attack_judges(runs)}")
