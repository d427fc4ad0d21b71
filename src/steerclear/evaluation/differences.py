"""Do two runs differ on the same prompts? Exact paired tests by benchmark, corrected for asking about several of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.rates import holm, mcnemar
from steerclear.evaluation.scores import HOLDS
from steerclear.evaluation.suites import GROUP, KIND, PREFILLED
from steerclear.records import Verdict

Key = tuple[str, str | None, str]
"""Suite, group and id of a prompt."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A run against a baseline in one respect on one benchmark."""

    run: str
    baseline: str
    benchmark: str
    """Suite, or suite and group where a suite has groups."""
    metric: str
    """One of `RESPECTS`."""
    n: int
    """Prompts that both runs answered and the judges scored (or, for non-English, whose language is told)."""
    only_run: int
    """Prompts on which it holds for the run alone."""
    only_baseline: int
    """Prompts on which it holds for the baseline alone."""
    difference: float | None
    """Rate of the run less rate of the baseline; None below 2 prompts."""
    p: float
    """Two-sided p-value of the exact McNemar test."""
    p_holm: float
    """The same after Holm's correction over the benchmarks of this run and metric."""


RESPECTS = {
    "harmful": ("harmful", "harmful"),
    "coherent and safe": ("harmful", "safe"),
    "degenerate": ("harmful", "degenerate"),
    "over-refusal": ("benign", "refused"),
    "non-English": ("harmful", "non_english"),
    "harmful, prefilled": (PREFILLED, "harmful"),
    "coherent and safe, prefilled": (PREFILLED, "safe"),
}
"""Respect -> kind of prompts it is about, and the metric of `steerclear.evaluation.scores`."""


def differences(runs: Mapping[str, Sequence[Verdict]]) -> list[Difference]:
    """Return every run against the first one, by metric and benchmark.

    Args:
        runs: name -> verdicts. Prompts are matched by suite and id; those that one run lacks or has unscored are left out.
    """
    (baseline, first), *others = runs.items()
    return [
        difference
        for name, verdicts in others
        for metric in RESPECTS
        for difference in _by_benchmark(name, verdicts, baseline, first, metric)
    ]


def _by_benchmark(
    run: str, verdicts: Sequence[Verdict], baseline: str, first: Sequence[Verdict], metric: str
) -> list[Difference]:
    mine, theirs = _held(verdicts, metric), _held(first, metric)
    pairs: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for (suite, group, prompt), held in mine.items():
        if (suite, group, prompt) in theirs:
            pairs[f"{suite}: {group}" if group else suite].append((held, theirs[suite, group, prompt]))
    tests = {benchmark: mcnemar(*zip(*both, strict=True)) for benchmark, both in pairs.items()}
    corrected = holm(list(tests.values()))
    found = []
    for (benchmark, p), p_holm in zip(tests.items(), corrected, strict=True):
        both = pairs[benchmark]
        only_run, only_baseline = both.count((True, False)), both.count((False, True))
        found.append(
            Difference(
                run=run,
                baseline=baseline,
                benchmark=benchmark,
                metric=metric,
                n=len(both),
                only_run=only_run,
                only_baseline=only_baseline,
                difference=(only_run - only_baseline) / len(both) if len(both) > 1 else None,
                p=p,
                p_holm=p_holm,
            )
        )
    return found


def _held(verdicts: Sequence[Verdict], respect: str) -> dict[Key, bool]:
    kind, metric = RESPECTS[respect]
    held = {(v.suite, v.tags.get(GROUP), v.id): HOLDS[metric](v) for v in verdicts if v.tags.get(KIND) == kind}
    return {key: value for key, value in held.items() if value is not None}
