"""Configurations that ran under several seeds: their rates and their differences to the first one, over seeds and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.differences import RESPECTS, Key, held
from steerclear.records import PREFILLED, Verdict
from steerclear.stats.seeds import Outcomes, OverSeeds, difference_over_seeds, rate_over_seeds


@dataclass(frozen=True, kw_only=True)
class SeedFigures:
    """A configuration in one respect."""

    configuration: str
    metric: str
    """One of `steerclear.evaluation.differences.RESPECTS`."""
    rate: OverSeeds
    baseline: str
    difference: OverSeeds | None
    """Less the baseline's rate, over the seeds that both have. None for the baseline itself, or without a common seed."""


def over_seeds(configurations: Mapping[str, Mapping[int, Sequence[Verdict]]]) -> list[SeedFigures]:
    """Return every configuration's figures, the first configuration being the baseline.

    Args:
        configurations: name -> seed -> the verdicts of that run. Prompts that a run was not asked count as unscored. Differences
            are over the seeds that both have. Prefilled suites are left out.
    """
    baseline = next(iter(configurations))
    figures = []
    for metric, (kind, _) in RESPECTS.items():
        if kind == PREFILLED:
            continue  # a prompt may be in several of these suites, and prompts are taken as independent here
        table = {
            name: {seed: held(verdicts, metric) for seed, verdicts in runs.items()}
            for name, runs in configurations.items()
        }
        keys = {key for runs in table.values() for run in runs.values() for key in run}
        asked = sorted(keys, key=lambda key: (key[0], key[2]))
        if not any(value is not None for runs in table.values() for run in runs.values() for value in run.values()):
            continue  # nobody was asked such prompts, or nothing is known of any answer
        for name, runs in table.items():
            common = [seed for seed in runs if seed in table[baseline]] if name != baseline else []
            own, theirs = _outcomes(runs, common, asked), _outcomes(table[baseline], common, asked)
            figures.append(
                SeedFigures(
                    configuration=name,
                    metric=metric,
                    rate=rate_over_seeds(_outcomes(runs, list(runs), asked)),
                    baseline=baseline,
                    difference=difference_over_seeds(own, theirs) if common else None,
                )
            )
    return figures


def _outcomes(runs: Mapping[int, Mapping[Key, bool | None]], seeds: Sequence[int], asked: Sequence[Key]) -> Outcomes:
    return [[runs[seed].get(key) for key in asked] for seed in seeds]
