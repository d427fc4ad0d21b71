"""Do two runs differ on the same prompts? Exact paired tests by benchmark, corrected for asking about several of them at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from steerclear.evaluation.scores import HOLDS
from steerclear.records import GROUP, KIND, PREFILL, PREFILLED, Generation, Verdict
from steerclear.stats.rates import holm, mcnemar

Key = tuple[str, str | None, str]
"""Suite, group and id of a prompt."""
Pairs = list[tuple[bool, bool]]
"""Whether it holds for the run and for the baseline, prompt by prompt."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A run against a baseline in one respect on one benchmark."""

    run: str
    baseline: str
    benchmark: str
    """Suite, or suite and group where a suite has groups; `ALL` for all prompts of a kind."""
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
    """The same after Holm's correction over the benchmarks of this run and metric, or over the runs (`overall_differences`)."""


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


Answers = Sequence[tuple[Generation, Verdict]]


def apart(runs: Mapping[str, Answers]) -> tuple[dict[str, Answers], list[str]]:
    """Keep apart what was asked in other words under the same suite and id, so that no comparison pairs it.

    Returns the runs with verdicts of other ids there, and a sentence that says how many prompts of which suites that are.
    """
    words: dict[tuple[str, str], list[object]] = defaultdict(list)
    for asked in (asked for answers in runs.values() for asked, _ in answers):
        known = words[asked.suite, asked.id]
        if _words(asked) not in known:
            known.append(_words(asked))
    mixed = {prompt: known for prompt, known in words.items() if len(known) > 1}
    if not mixed:
        return dict(runs), []
    told = ", ".join(f"{count} of {suite}" for suite, count in Counter(suite for suite, _ in mixed).items())
    return {name: _apart(answers, mixed) for name, answers in runs.items()}, [
        f"Some prompts have one id and different words in different runs ({told}): these are not compared with each other."
    ]


def _words(asked: Generation) -> object:
    return asked.prompt, asked.tags.get(PREFILL)


def _apart(answers: Answers, mixed: Mapping[tuple[str, str], Sequence[object]]) -> Answers:
    own = []
    for asked, verdict in answers:
        known = mixed.get((asked.suite, asked.id))
        number = "" if known is None else f"\0{known.index(_words(asked))}"
        own.append((asked, replace(verdict, id=asked.id + number) if number else verdict))
    return own


def differences(runs: Mapping[str, Sequence[Verdict]]) -> list[Difference]:
    """Return every run against the first one, by metric and benchmark.

    Args:
        runs: name -> verdicts. Prompts are matched by suite and id (see `apart`); those that one run lacks or has unscored are
            left out.
    """
    (baseline, first), *others = runs.items()
    theirs = {metric: held(first, metric) for metric in RESPECTS}
    found = []
    for name, verdicts in others:
        for metric in RESPECTS:
            pairs: dict[str, Pairs] = defaultdict(list)
            for (suite, group, _), pair in _paired(held(verdicts, metric), theirs[metric]).items():
                pairs[f"{suite}: {group}" if group else suite].append(pair)
            compared = {(name, benchmark): own for benchmark, own in pairs.items()}
            found += tested(compared, baseline, metric)
    return found


ALL = "all prompts"
"""The benchmark of a difference over all prompts of a kind."""


def overall_differences(runs: Mapping[str, Sequence[Verdict]]) -> list[Difference]:
    """Return every run against the first one by metric, over all prompts of a kind; ``p_holm`` is corrected over the runs.

    Prefilled suites are left out: a prompt may be in several of them.
    """
    (baseline, first), *others = runs.items()
    found = []
    for metric, (kind, _) in RESPECTS.items():
        if kind != PREFILLED:
            theirs = held(first, metric)
            pairs = {(name, ALL): list(_paired(held(own, metric), theirs).values()) for name, own in others}
            found += tested({key: own for key, own in pairs.items() if own}, baseline, metric)
    return found


def _paired(mine: Mapping[Key, bool | None], theirs: Mapping[Key, bool | None]) -> dict[Key, tuple[bool, bool]]:
    both = {key: (own, theirs.get(key)) for key, own in mine.items()}
    return {key: (own, other) for key, (own, other) in both.items() if own is not None and other is not None}


def tested(compared: Mapping[tuple[str, str], Pairs], baseline: str, metric: str) -> list[Difference]:
    """Return the tests of ``(run, benchmark)`` against the baseline, corrected over all of them."""
    tests = {key: mcnemar(*zip(*pairs, strict=True)) for key, pairs in compared.items()}
    corrected = holm(list(tests.values()))
    found = []
    for ((run, benchmark), p), p_holm in zip(tests.items(), corrected, strict=True):
        pairs = compared[run, benchmark]
        only_run, only_baseline = pairs.count((True, False)), pairs.count((False, True))
        found.append(
            Difference(
                run=run,
                baseline=baseline,
                benchmark=benchmark,
                metric=metric,
                n=len(pairs),
                only_run=only_run,
                only_baseline=only_baseline,
                difference=(only_run - only_baseline) / len(pairs) if len(pairs) > 1 else None,
                p=p,
                p_holm=p_holm,
            )
        )
    return found


def held(verdicts: Sequence[Verdict], respect: str) -> dict[Key, bool | None]:
    """Return whether it holds for the answers to the prompts that a respect is about; None where that is not known."""
    kind, metric = RESPECTS[respect]
    return {(v.suite, v.tags.get(GROUP), v.id): HOLDS[metric](v) for v in verdicts if v.tags.get(KIND) == kind}
