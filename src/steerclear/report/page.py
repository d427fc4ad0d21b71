"""The comparison as one self-contained HTML page: no script, no request, and model output as nothing but text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.scores import Cell, suite_label
from steerclear.evaluation.suites import GROUP
from steerclear.records import Generation, Verdict
from steerclear.report import plane
from steerclear.report.answers import is_hidden_answer, is_hidden_prompt, prompt_text
from steerclear.report.comparison import COLUMNS, RunScores, extra_columns, headline_rates, unscored, warnings_on
from steerclear.report.quality import quality_rows
from steerclear.report.templates import page_template

OUTCOME_LABELS = {
    "harmful": "harmful",
    "safe": "coherent and safe",
    "degenerate": "degenerate",
    "unscored": "unscored",
}

Answers = Mapping[str, Sequence[tuple[Generation, Verdict]]]
"""For each run's name its answers with what the judges say of them."""


@dataclass(frozen=True)
class ExampleAnswer:
    """One run's answer to an example prompt."""

    number: int
    run: str
    response: str
    outcome: str
    reason: str
    refused: bool
    hidden: bool


@dataclass(frozen=True)
class Example:
    """One prompt with every run's answer."""

    label: str
    prompt: str
    hidden: bool
    answers: list[ExampleAnswer]


def comparison_page(
    runs: Sequence[RunScores], answers: Answers | None = None, *, title: str = "Comparison", examples: int = 6
) -> str:
    """Return the page: headline table, trade-off plane, a table per suite and group, and example answers.

    Harmful prompts, and answers that are harmful, flagged or unscored, are blurred until the reader asks for them.

    Args:
        answers: for each run's name its answers and verdicts; none leaves the examples out.
        examples: on how many prompts the runs' answers are shown side by side.
    """
    return page_template("comparison.html.j2").render(
        title=title,
        runs=runs,
        columns=COLUMNS,
        headline=[headline_rates(run.scores) for run in runs],
        unscored=[unscored(run) for run in runs],
        extra=extra_columns(runs),
        judges=sorted({judge for run in runs for judge in run.scores.judges}),
        warnings=warnings_on(runs),
        quality=quality_rows(runs),
        plane=plane.trade_off_plane(runs),
        geometry=plane,
        suites=_suites(runs),
        outcome_labels=OUTCOME_LABELS,
        examples=_examples(runs, answers or {}, examples),
    )


def _suites(runs: Sequence[RunScores]) -> dict[str, dict[str, list[tuple[int, RunScores, Cell]]]]:
    """Return suite -> group ("" for the whole suite) -> ``(number, run, cell)`` of the runs that have it."""
    suites: dict[str, dict[str, list[tuple[int, RunScores, Cell]]]] = defaultdict(lambda: defaultdict(list))
    for number, run in enumerate(runs):
        for suite, group, cell in run.scores.cells():
            if suite:
                suites[suite_label(suite, run.scores.suites[suite])][group].append((number, run, cell))
    return suites


def _examples(runs: Sequence[RunScores], answers: Answers, count: int) -> list[Example]:
    """Show prompts that every run answered, first those on which the verdicts differ most, one suite after the other."""
    named = {run.name: {(g.suite, g.id): (g, v) for g, v in answers.get(run.name, ())} for run in runs}
    shared = [key for key in next(iter(named.values()), {}) if all(key in own for own in named.values())]

    def differing(key: tuple[str, str]) -> int:
        return len({own[key][1].outcome for own in named.values()})

    by_suite: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in sorted(shared, key=differing, reverse=True):
        by_suite[key[0]].append(key)
    in_turn = sorted(((turn, key) for keys in by_suite.values() for turn, key in enumerate(keys)), key=lambda t: t[0])
    return [_example(key, named) for _, key in in_turn[:count]]


def _example(
    key: tuple[str, str], named: Mapping[str, Mapping[tuple[str, str], tuple[Generation, Verdict]]]
) -> Example:
    asked = next(iter(named.values()))[key][0]
    shown = []
    for number, (run, own) in enumerate(named.items()):
        generation, verdict = own[key]
        shown.append(
            ExampleAnswer(
                number=number,
                run=run,
                response=generation.response,
                outcome=verdict.outcome,
                reason=verdict.reason,
                refused=verdict.refused is True,
                hidden=is_hidden_answer(verdict),
            )
        )
    label = " · ".join(part for part in (asked.suite, asked.tags.get(GROUP), asked.id) if part)
    return Example(label, prompt_text(asked), is_hidden_prompt(asked), shown)
