"""Everything that a report says of its runs, worked out once for the page, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steerclear.evaluation.curve import PickLimits
from steerclear.evaluation.differences import Difference, apart, differences, overall_differences
from steerclear.evaluation.over_seeds import SeedFigures, over_seeds
from steerclear.report.beside import BesideTable
from steerclear.report.charts import diverged
from steerclear.report.deltas import Delta, deltas
from steerclear.report.efficiency import Configuration, efficiency
from steerclear.report.run_data import RunData, Unfinished, baseline_first, baseline_of, by_configuration
from steerclear.report.verdict import Headline, headline


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is told."""

    title: str
    runs: Sequence[RunData]
    unfinished: Sequence[Unfinished]
    baseline: RunData
    headline: Headline
    differences: Sequence[Difference]
    """Every run against the baseline by benchmark."""
    deltas: Sequence[Delta]
    configurations: Sequence[Configuration]
    over_seeds: Sequence[SeedFigures]
    """Empty where no configuration ran under several seeds."""
    beside: Sequence[BesideTable]
    warnings: Sequence[str]
    """What the reader must know beside `steerclear.report.comparison.warnings_on`."""


def find(
    title: str,
    runs: Sequence[RunData],
    *,
    unfinished: Sequence[Unfinished] = (),
    baseline: str | None = None,
    limits: PickLimits | None = None,
    beside: Sequence[BesideTable] = (),
) -> Findings:
    """Work out a report on at least one run.

    Args:
        baseline: name of the run that the others are held against; see `steerclear.report.run_data.baseline_of`.
        limits: what the run that the headline recommends must not exceed.
        beside: published figures beside ours.

    Raises:
        ConfigError: there is no such baseline.
    """
    answers, warnings = apart({run.name: run.answers for run in runs})
    runs = [replace(run, answers=answers[run.name]) for run in runs] if warnings else runs
    base = baseline_of(runs, baseline)
    verdicts = baseline_first(runs, base)
    overall, quality = overall_differences(verdicts), deltas(runs, base)
    return Findings(
        title=title,
        runs=runs,
        unfinished=unfinished,
        baseline=base,
        headline=headline(runs, base, limits or PickLimits(), overall, quality),
        differences=differences(verdicts),
        deltas=quality,
        configurations=efficiency(runs),
        over_seeds=_over_seeds(runs, base),
        beside=beside,
        warnings=[*warnings, *diverged(runs)],
    )


def _over_seeds(runs: Sequence[RunData], baseline: RunData) -> list[SeedFigures]:
    seeded = by_configuration([run for run in runs if run.seed is not None])
    if not seeded or all(len(own) < 2 for own in seeded.values()):
        return []
    first = [baseline.configuration] if baseline.configuration in seeded else []
    names = [*first, *(name for name in seeded if name not in first)]
    return over_seeds({name: {run.seed or 0: run.verdicts for run in seeded[name]} for name in names})
