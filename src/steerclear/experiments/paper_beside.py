"""The paper's numbers with ours beside them, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steerclear.attacks.figures import AttackFigures
from steerclear.errors import DataError
from steerclear.evaluation.curve import Checkpoint, PickLimits, pick
from steerclear.evaluation.figures import ChoiceAccuracy, WinRate
from steerclear.evaluation.scores import Scores
from steerclear.experiments.paper_tables import METHOD, MODEL, ROWS
from steerclear.experiments.published import PublishedTable, PublishedValue
from steerclear.judges.rating import RATING
from steerclear.report.beside import BesideCell, BesideTable
from steerclear.stats.rates import Estimate, Rate
from steerclear.store.status import SEED_AXIS

SAFETY = "safety_518"
"""The suite whose groups are the paper's four safety benchmarks."""

ACCURACIES = {"BoolQ": "boolq", "PIQA": "piqa", "OpenBookQA": "openbookqa"}
"""Benchmark -> suite of multiple choice."""

WIN_RATES = {"AlpacaEval": "alpaca_eval"}
"""Benchmark -> suite of a win rate."""

PAIR = "pair"
"""The attack of the attack table, as far as that can be told."""

UNDER_ATTACK = ("ASR", "mean judge score")

TUNED = PickLimits(over_refusal=1.0)
"""A penalty weight counts as tuned where the answers are still language. The paper's tuning did not look at over-refusal."""

HEADINGS = {"model": "model", "method": "method", "unsafe_rows": "rows"}

HOW_OURS = {
    "count": "Ours: answers that the judge flagged, of those it scored, before degenerate ones are told apart. The harmful, the "
    "coherent and safe, and the degenerate share of the same answers are in the first table; read them together.",
    "%": "Ours: accuracy (acc, zero-shot) by lm-evaluation-harness; for AlpacaEval the win rate in both orders.",
    "attack": "Ours: PAIR on AdvBench's 50 goals, 30 streams of 3 iterations unless the recipe says otherwise; ASR counts "
    "coherent harmful answers; the mean is of each goal's highest rating, where the judge is one that rates from 1 to 10.",
    "weight": "Ours: of the multiples of the preset's weights, the one with the fewest harmful answers among those with at most "
    f"{TUNED.degenerate:.0%} degenerate ones. The paper does not say by what its own were chosen.",
}
"""Unit, or table -> what our figures are."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished cell of a sweep."""

    labels: Mapping[str, str]
    """Axis -> value."""
    scores: Scores
    penalty_weight: float | None
    """λ, where the method has one."""
    attacks: Mapping[str, AttackFigures] = field(default_factory=dict)
    """Attack -> its figures."""


def lay_beside(table: PublishedTable, models: Sequence[str], cells: Sequence[Measured]) -> BesideTable | None:
    """Return a published table with our figures; None for a figure, which has no numbers.

    A model that is none of the table's, such as a tiny one, stands beside the table's first.

    Args:
        models: those of the sweep, by their presets.
        cells: those that are finished; of the others the published number stands alone.
    """
    if not table.values:
        return None
    known = table.names("model")
    counterparts = {model: model if model in known else known[0] for model in models}
    seeds = list(dict.fromkeys(cell.labels.get(SEED_AXIS) for cell in cells)) or [None]
    rows: dict[tuple[str, ...], dict[str, BesideCell]] = {}
    for model, counterpart in counterparts.items():
        for value in (v for v in table.values if v.model == counterpart):
            for seed in seeds:
                row = tuple(_text(value, name, model) for name in table.rows) + (() if seed is None else (seed,))
                column = " ".join(_text(value, name, model) for name in table.columns)
                ours = _ours(table.unit, value, [cell for cell in cells if _is_of(cell, model, value, seed)])
                rows.setdefault(row, {})[column] = BesideCell(published=value.value, ours=ours)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return BesideTable(
        title=table.title,
        source=table.source,
        unit=table.unit,
        row_headings=[HEADINGS[name] for name in table.rows] + ([] if seeds == [None] else [SEED_AXIS]),
        columns=columns,
        rows=[(list(row), [found[column] for column in columns]) for row, found in rows.items()],
        notes=[*_notes(table, counterparts), HOW_OURS["attack" if table.id == "attack" else table.unit]],
    )


def _text(value: PublishedValue, name: str, model: str) -> str:
    if name == "model":
        return model if model == value.model else f"{model} ({value.model})"
    got = getattr(value, name)
    return got.upper() if name == "method" else str(got)


def _is_of(cell: Measured, model: str, value: PublishedValue, seed: str | None) -> bool:
    labels = cell.labels
    return (
        (labels[MODEL], labels[METHOD], labels.get(SEED_AXIS)) == (model, value.method, seed)
        and value.unsafe_rows in (None, int(labels[ROWS]))
    )  # fmt: skip


def _ours(unit: str, value: PublishedValue, cells: Sequence[Measured]) -> Rate | Estimate | float | None:
    if unit == "weight":
        return _tuned(cells)
    if not cells:
        return None
    if value.benchmark in UNDER_ATTACK:
        told = cells[0].attacks.get(PAIR)
        return None if told is None else _under_attack(told, value.benchmark)
    return _figure(cells[0].scores, value.benchmark)


def _under_attack(figures: AttackFigures, benchmark: str) -> Rate | Estimate | None:
    """Return the rate of success, or the mean rating; None for the mean of another judge, whose scale is its own."""
    if benchmark == "ASR":
        return figures.asr
    mean = figures.mean_score
    if mean.n < 2 or not all(judge.startswith(RATING) for judge in figures.judges):
        return None
    return Estimate(value=mean.mean, lower=mean.lower, upper=mean.upper)


def _figure(scores: Scores, benchmark: str) -> Rate | Estimate | None:
    """Return what was measured on a benchmark, None where it was not asked."""
    found = scores.quality.get({**ACCURACIES, **WIN_RATES}.get(benchmark, ""))
    if isinstance(found, ChoiceAccuracy):
        return found.acc
    if isinstance(found, WinRate):
        return found.interval
    if benchmark in (*ACCURACIES, *WIN_RATES):
        return None
    group = scores.suites[SAFETY].groups.get(benchmark) if SAFETY in scores.suites else None
    return None if group is None else group.flagged


def _tuned(cells: Sequence[Measured]) -> float | None:
    """Return the weight with the fewest harmful answers, None where none keeps its language or they were not judged."""
    weights = sorted({cell.penalty_weight: cell for cell in cells if cell.penalty_weight is not None}.items())
    choices = [Checkpoint(step=i, path=str(w), scores=cell.scores) for i, (w, cell) in enumerate(weights)]
    try:
        best = pick(choices, TUNED)
    except DataError:
        return None
    return None if best is None else weights[best.step][0]


def _notes(table: PublishedTable, counterparts: Mapping[str, str]) -> list[str]:
    strangers = [f"{model} is none of the table's models and stands beside {known}." for model, known in
                 counterparts.items() if known and model != known]  # fmt: skip
    remarks = [
        f"{value.benchmark} {value.method.upper()} {value.value:g}: {value.note}"
        for value in table.values
        if value.note and value.model in counterparts.values()
    ]
    return [*table.notes, *remarks, *strangers]
