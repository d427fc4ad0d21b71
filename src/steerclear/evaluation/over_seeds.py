"""Configurations that ran under several seeds: their rates and their differences to the first one, over seeds and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.differences import RESPECTS
from steerclear.evaluation.scores import HOLDS
from steerclear.evaluation.seeds import Outcomes, OverSeeds, difference_over_seeds, rate_over_seeds
from steerclear.evaluation.suites import KIND
from steerclear.records import Verdict


@dataclass(frozen=True, kw_only=True)
class SeedFigures:
    """A configuration in one respect."""

    configuration: str
    metric: str
    """One of `steerclear.evaluation.differences.RESPECTS`."""
    rate: OverSeeds
    baseline: str
    difference: OverSeeds | None
    """Less the baseline's rate. None for the baseline itself, or where the two have other numbers of seeds."""


def over_seeds(configurations: Mapping[str, Sequence[Sequence[Verdict]]]) -> list[SeedFigures]:
    """Return every configuration's figures, the first configuration being the baseline.

    Args:
        configurations: name -> the verdicts of each of its seeds. Prompts that a run was not asked count as unscored.
    """
    baseline = next(iter(configurations))
    figures = []
    for metric in RESPECTS:
        held = {name: [_held(verdicts, metric) for verdicts in runs] for name, runs in configurations.items()}
        asked = sorted({key for runs in held.values() for run in runs for key in run})
        if not asked:
            continue
        outcomes: dict[str, Outcomes] = {
            name: [[run.get(key) for key in asked] for run in runs] for name, runs in held.items()
        }
        for name, own in outcomes.items():
            paired = name != baseline and len(own) == len(outcomes[baseline])
            figures.append(
                SeedFigures(
                    configuration=name,
                    metric=metric,
                    rate=rate_over_seeds(own),
                    baseline=baseline,
                    difference=difference_over_seeds(own, outcomes[baseline]) if paired else None,
                )
            )
    return figures


def _held(verdicts: Sequence[Verdict], respect: str) -> dict[tuple[str, str], bool | None]:
    kind, metric = RESPECTS[respect]
    return {(v.suite, v.id): HOLDS[metric](v) for v in verdicts if v.tags.get(KIND) == kind}
