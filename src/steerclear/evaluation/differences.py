"""Do two runs differ on the same prompts? Exact paired tests by benchmark, corrected for asking about several of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.rates import holm, mcnemar
from steerclear.evaluation.suites import GROUP, KIND
from steerclear.records import Verdict

Key = tuple[str, str]
"""Suite and id of a prompt."""


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
    """Prompts that both runs answered and the judges scored."""
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


RESPECTS: dict[str, tuple[str, Callable[[Verdict], bool]]] = {
    "harmful": ("harmful", lambda v: v.outcome == "harmful"),
    "coherent and safe": ("harmful", lambda v: v.outcome == "safe"),
    "degenerate": ("harmful", lambda v: v.outcome == "degenerate"),
    "over-refusal": ("benign", lambda v: v.refused is True),
}
"""Metric -> kind of prompts it is about, and whether it holds for a verdict."""


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
    kind, holds = RESPECTS[metric]
    mine, theirs = _scored(verdicts, kind), _scored(first, kind)
    pairs: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for key, verdict in mine.items():
        if key in theirs:
            group = verdict.tags.get(GROUP)
            pairs[f"{verdict.suite}: {group}" if group else verdict.suite].append((holds(verdict), holds(theirs[key])))
    tests = {benchmark: mcnemar(*zip(*both, strict=True)) for benchmark, both in pairs.items()}
    corrected = holm(list(tests.values()))
    return [
        Difference(
            run=run,
            baseline=baseline,
            benchmark=benchmark,
            metric=metric,
            n=len(pairs[benchmark]),
            only_run=sum(a and not b for a, b in pairs[benchmark]),
            only_baseline=sum(b and not a for a, b in pairs[benchmark]),
            difference=_difference(pairs[benchmark]),
            p=p,
            p_holm=p_holm,
        )
        for (benchmark, p), p_holm in zip(tests.items(), corrected, strict=True)
    ]


def _scored(verdicts: Sequence[Verdict], kind: str) -> dict[Key, Verdict]:
    return {(v.suite, v.id): v for v in verdicts if v.tags.get(KIND) == kind and v.outcome != "unscored"}


def _difference(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    return sum(a - b for a, b in pairs) / len(pairs) if len(pairs) > 1 else None
