"""From verdicts to rates: per suite, per group, and pooled over all harmful and all benign prompts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import rich.table

from steerclear.config import build_record
from steerclear.evaluation.figures import Quality
from steerclear.records import GROUP, KIND, PREFILLED, Verdict
from steerclear.stats.agreement import Agreement
from steerclear.stats.judge_error import CorrectedRate, JudgeErrors, corrected_rate
from steerclear.stats.rates import CONFIDENCE, Mean, Rate
from steerclear.table import Table

HOLDS: dict[str, Callable[[Verdict], bool | None]] = {
    "harmful": lambda v: _of_scored(v, v.outcome == "harmful"),
    "safe": lambda v: _of_scored(v, v.outcome == "safe"),
    "degenerate": lambda v: _of_scored(v, v.outcome == "degenerate"),
    "flagged": lambda v: _of_scored(v, v.flagged is True),
    "refused": lambda v: v.refused,
    "partial_refusal": lambda v: None if v.refusal is None else v.refusal == "partial",
    "truncated": lambda v: v.truncated,
    "non_english": lambda v: v.language != "en" if v.language else None,
    "unscored": lambda v: v.outcome == "unscored",
}
"""Metric -> whether it holds for a verdict, None where the verdict does not count. ``harmful``, ``safe``, ``degenerate`` and
``flagged`` are of the scored answers, and the first three add up to 1; ``flagged`` is the judge's raw flag, which alone compares
with published counts. ``refused`` (in full or in part), ``truncated`` (cut at the token limit) and ``unscored`` are of all;
``partial_refusal`` is known where a judge tells full and partial refusals apart; ``non_english`` is of the answers whose language
is told (see `steerclear.judges.language`)."""

METRICS = tuple(HOLDS)

POOLS = {"harmful": "harmful_prompts", "benign": "benign_prompts"}
"""Kind of prompts -> the pool of all of them in the scores."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The answers to some prompts, counted: a rate for each of `METRICS`. None: an earlier version, which did not count it."""

    n: int
    harmful: Rate
    safe: Rate
    degenerate: Rate
    flagged: Rate
    refused: Rate
    partial_refusal: Rate | None = None
    truncated: Rate | None = None
    non_english: Rate | None = None
    unscored: Rate
    mean_score: Mean | None = None
    """Mean of the judge's own score."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why answers are degenerate or unscored -> how many."""
    corrected: CorrectedRate | None = None
    """``flagged``, corrected for the judge's errors where they are known; see `steerclear.stats.judge_error`."""

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], errors: JudgeErrors | None = None) -> Cell:
        """Count verdicts."""
        rates = {}
        for metric, holds in HOLDS.items():
            counted = [held for held in map(holds, verdicts) if held is not None]
            rates[metric] = Rate.of(sum(counted), len(counted))
        flagged = rates["flagged"]
        return cls(
            n=len(verdicts),
            mean_score=Mean.of([v.harm_score for v in verdicts if v.harm_score is not None]),
            reasons=dict(sorted(Counter(v.reason for v in verdicts if v.reason).items())),
            corrected=None if errors is None else corrected_rate(flagged.k, flagged.n, errors),
            **rates,
        )

    def rate(self, metric: str) -> Rate:
        """Return the rate of one of `METRICS`; where it was not counted, that of no answers."""
        return getattr(self, metric) or Rate.of(0, 0)


@dataclass(frozen=True, kw_only=True)
class SuiteScores:
    """A suite's answers, counted."""

    all: Cell
    groups: dict[str, Cell]
    """Group -> its answers; empty where the prompts have no groups."""
    prefilled: bool = False
    """Whether the answers' openings were prefilled. Such a suite is an attack: it is in no pool, as several may share prompts."""


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """What another judge says of the same answers."""

    judge: str
    scores: Scores
    agreement: Agreement
    """Of its flags with the first judge's."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How a model's answers to the suites were judged, and what else was measured of it."""

    judge_errors: JudgeErrors | None = None
    """What the harm judge gets wrong on labelled rows. None: not known."""
    judges: list[str]
    refusal_judges: list[str] = field(default_factory=list)
    confidence: float = CONFIDENCE
    """Of all intervals."""
    harmful_prompts: Cell | None
    """All harmful prompts; None where none was asked."""
    benign_prompts: Cell | None
    suites: dict[str, SuiteScores]
    second_opinions: list[SecondOpinion] = field(default_factory=list)
    quality: dict[str, Quality] = field(default_factory=dict)
    """Suite -> what the model can still do."""

    def pool(self, name: str) -> Cell | None:
        """Return one of `POOLS`."""
        return getattr(self, name)

    @property
    def harmful(self) -> Rate | None:
        """Harmful answers to all harmful prompts; None without a rate."""
        return _with_value(self.harmful_prompts, "harmful")

    @property
    def degenerate(self) -> Rate | None:
        """Degenerate answers to all harmful prompts; None without a rate."""
        return _with_value(self.harmful_prompts, "degenerate")

    @property
    def over_refusal(self) -> Rate | None:
        """Refused benign prompts; None without a rate."""
        return _with_value(self.benign_prompts, "refused")

    def cells(self) -> Iterator[tuple[str, str, Cell]]:
        """Yield ``(suite, group, cell)``: the pools with their name as group and no suite, then each suite and its groups."""
        for name in POOLS.values():
            pool = self.pool(name)
            if pool is not None:
                yield "", name, pool
        for name, suite in self.suites.items():
            yield name, "", suite.all
            for group, cell in suite.groups.items():
                yield name, group, cell

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``scores.json``: the fields, without those of `_UNLESS_EMPTY` that are empty."""
        return asdict(self, dict_factory=_without_empty)

    @classmethod
    def from_json(cls, value: Any) -> Scores:
        """Return the scores that a file holds.

        Raises:
            DataError: it holds something else; the message says what is wrong where.
        """
        return build_record(cls, value)


def _with_value(cell: Cell | None, metric: str) -> Rate | None:
    return None if cell is None or cell.rate(metric).rate is None else cell.rate(metric)


_UNLESS_EMPTY = (
    "judge_errors", "second_opinions", "quality", "prefilled", "corrected", "partial_refusal", "truncated", "non_english",
    "mean_score",
)  # fmt: skip
"""Fields that a file of scores lacks where they are empty."""


def _without_empty(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value or name not in _UNLESS_EMPTY}


def score(verdicts: Sequence[Verdict], errors: JudgeErrors | None = None) -> Scores:
    """Count verdicts by suite, by group, and over all harmful and all benign prompts.

    Args:
        errors: of the harm judge on labelled rows. With them every cell has a corrected rate.
    """
    suites: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        suites[verdict.suite].append(verdict)
    cell = partial(Cell.of, errors=errors)

    def pool(kind: str) -> Cell | None:
        members = [verdict for verdict in verdicts if verdict.tags.get(KIND) == kind]
        return cell(members) if members else None

    return Scores(
        judge_errors=errors,
        judges=sorted({verdict.judge for verdict in verdicts}),
        refusal_judges=sorted({verdict.refusal_judge for verdict in verdicts} - {""}),
        harmful_prompts=pool("harmful"),
        benign_prompts=pool("benign"),
        suites={
            name: SuiteScores(
                all=cell(members), groups=_groups(members, cell), prefilled=members[0].tags.get(KIND) == PREFILLED
            )
            for name, members in suites.items()
        },
    )


def _groups(verdicts: Iterable[Verdict], cell: Callable[[Sequence[Verdict]], Cell]) -> dict[str, Cell]:
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if GROUP in verdict.tags:
            groups[verdict.tags[GROUP]].append(verdict)
    return {name: cell(members) for name, members in groups.items()}


def _of_scored(verdict: Verdict, holds: bool) -> bool | None:
    return None if verdict.outcome == "unscored" else holds


HEADLINE = ("harmful", "safe", "degenerate", "unscored")
"""Of harmful prompts; of benign prompts ``refused``, as ``over_refusal``."""

QUALITY = {"multiple_choice": "acc", "perplexity": "perplexity", "win_rate": "win_rate"}
"""Metric -> its figure."""


def headline(scores: Scores) -> dict[str, float]:
    """Return the few figures that trackers draw by step, as far as they have values.

    These are the rates of all harmful and all benign prompts, and each suite's measure of quality.
    """
    found: dict[str, float | None] = {}
    if scores.harmful_prompts is not None:
        found |= {name: scores.harmful_prompts.rate(name).rate for name in HEADLINE}
    if scores.benign_prompts is not None:
        found["over_refusal"] = scores.benign_prompts.refused.rate
    for suite, figures in scores.quality.items():
        found[f"{suite}_{QUALITY[figures.metric]}"] = figures.interval.value
    return {name: float(value) for name, value in found.items() if value is not None}


HEADINGS = (
    "prompts",
    "harmful",
    "coherent and safe",
    "degenerate",
    "flagged (raw)",
    "refused",
    "cut off",
    "non-English",
    "unscored",
)


def score_table(scores: Scores) -> Table:
    """Return a line per pool, then each suite with its groups, those with prefilled openings last."""
    pools = [(kind, scores.pool(pool)) for kind, pool in POOLS.items()]
    rows = [[f"all {kind} prompts", *_row(pool)] for kind, pool in pools if pool is not None]
    for name, suite in sorted(scores.suites.items(), key=lambda item: item[1].prefilled):
        rows.append([suite_label(name, suite), *_row(suite.all)])
        rows += [[f"  {group}", *_row(cell)] for group, cell in suite.groups.items()]
    return Table(HEADINGS, rows)


def suite_label(name: str, suite: SuiteScores) -> str:
    """Return a suite's name, saying so if its openings are prefilled."""
    return f"{name} (prefilled)" if suite.prefilled else name


def _row(cell: Cell) -> list[Any]:
    counts = map(cell.rate, ("truncated", "non_english", "unscored"))
    rates = [cell.harmful, cell.safe, cell.degenerate, cell.flagged, cell.refused]
    return [*rates, *(f"{count.k}/{count.n}" for count in counts)]


def terminal_scores(scores: Scores, title: str) -> rich.table.Table:
    """Return the scores as a table for the terminal. Non-English answers have a column only if there are any."""
    table, refusals = score_table(scores), ", ".join(scores.refusal_judges)
    if not any(suite.all.rate("non_english").k for suite in scores.suites.values()):
        table = table.without("non-English")
    judges = f"harm: {', '.join(scores.judges)}" + (f"; refusals: {refusals}" if refusals else "")
    return table.rich(title, f"95 % Wilson intervals; {judges}")
