"""Everything that a report says of its runs, worked out once for the page, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from steerclear.evaluation.curve import PickLimits
from steerclear.evaluation.differences import Difference, apart, differences, overall_differences
from steerclear.evaluation.over_seeds import SeedFigures, over_seeds
from steerclear.report.attacks import attack_tests, attacks_table, categories_table, pairs_table, sources_table
from steerclear.report.beside import BesideTable
from steerclear.report.comparison import suites_table
from steerclear.report.deltas import Delta, deltas, deltas_table
from steerclear.report.efficiency import Configuration, benchmarks_table, efficiency
from steerclear.report.run_data import RunData, Unfinished, baseline_first, baseline_of, by_configuration
from steerclear.report.settings import differing_table
from steerclear.report.tables import (
    degeneracy_table,
    differences_table,
    diverged,
    judge_errors_table,
    losses_table,
    opinions_table,
    quality_table,
    seeds_table,
    steps_table,
    training_table,
)
from steerclear.report.verdict import Headline, headline
from steerclear.table import Table


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What there is to say."""

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

    @cached_property
    def attacks(self) -> tuple[Sequence[Difference], Sequence[str]]:
        """Paired tests of the attacked runs, and what is not compared."""
        return attack_tests(self.runs, self.baseline)

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """All tables but the headline and published figures."""
        runs = self.runs
        return {
            "seeds": seeds_table(self.over_seeds),
            "steps": steps_table(runs),
            "losses": losses_table(runs),
            "benchmarks": benchmarks_table(self.configurations),
            "suites": suites_table(runs),
            "differences": differences_table(self.differences),
            "quality": quality_table(runs),
            "deltas": deltas_table(self.deltas, self.baseline.name),
            "degeneracy": degeneracy_table(runs),
            "opinions": opinions_table(runs),
            "judge_errors": judge_errors_table(runs),
            "attacks": attacks_table(runs),
            "attack_tests": differences_table(self.attacks[0]),
            "pairs": pairs_table(runs),
            "categories": categories_table(runs),
            "sources": sources_table(runs),
            "training": training_table(runs),
            "differing": differing_table(runs),
        }


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
        baseline: name of the run that the others are compared with; see `steerclear.report.run_data.baseline_of`.
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
