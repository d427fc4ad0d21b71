"""What a run can still do, less what the baseline can do: differences of accuracy, perplexity, win rate and loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.report.run_data import RunData
from steerclear.stats.rates import Estimate, Mean, wilson
from steerclear.table import Table


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A run in one measure of quality, less the baseline."""

    run: str
    measure: str
    unit: str
    """``points`` (of per cent), or empty."""
    change: Estimate

    def text(self) -> str:
        """Return the change with its interval."""
        digits = 1 if self.unit else 3
        text = f"{self.change.value:+.{digits}f}"
        if self.change.lower is None or self.change.upper is None:
            return text
        return f"{text} ({self.change.lower:+.{digits}f} to {self.change.upper:+.{digits}f})"


def deltas(runs: Sequence[RunData], baseline: RunData) -> list[Delta]:
    """Return every other run's differences to the baseline in the measures that both have.

    Accuracy is paired: the interval is that of the mean difference over the documents of both (Student's t; where no document
    differs, both ends are the upper Wilson limit of none in so many). The others are
    differences of two figures with intervals, taken as independent (MOVER, Zou and Donner 2008); as both runs answer the same
    rows, those intervals are rather too wide. The loss on held-out rows has no interval, and is compared where
    the rows are the same.
    """
    return [delta for run in runs if run is not baseline for delta in _deltas(run, baseline)]


def deltas_table(found: Sequence[Delta], baseline: str) -> Table:
    """Return a line per run and a column per measure with its unit."""
    by_run: dict[str, dict[str, str]] = {}
    for d in found:
        by_run.setdefault(d.run, {})[f"{d.measure}, {d.unit}" if d.unit else d.measure] = d.text()
    measures = list(dict.fromkeys(measure for own in by_run.values() for measure in own))
    rows = [[run, *map(own.get, measures)] for run, own in by_run.items()]
    return Table(["run", *measures], rows, about=f"Compared with {baseline}:")


def _deltas(run: RunData, baseline: RunData) -> list[Delta]:
    found = []
    own, theirs = run.scores.quality, baseline.scores.quality
    for suite in (suite for suite in own if suite in theirs and own[suite].metric == theirs[suite].metric):
        metric, estimates = own[suite].metric, [quality[suite].interval for quality in (own, theirs)]
        if metric == "multiple_choice":
            found.append(_accuracy(run, baseline, suite, list(map(_percent, estimates))))
        else:
            unit = "points" if metric == "win_rate" else ""
            found.append(_of(run, f"{suite}: {metric.replace('_', ' ')}", estimates, unit=unit))
    if run.heldout is not None and run.heldout == baseline.heldout:
        found.append(_of(run, "benign loss", [Estimate(value=data.benign_loss) for data in (run, baseline)]))
    return [delta for delta in found if delta is not None]


def _accuracy(run: RunData, baseline: RunData, suite: str, estimates: Sequence[Estimate]) -> Delta | None:
    name = f"{suite}: accuracy"
    mine, theirs = run.correct.get(suite, {}), baseline.correct.get(suite, {})
    common = [document for document in mine if document in theirs]
    if not common:
        return _of(run, name, estimates, unit="points")
    changes = [100.0 * (mine[d] - theirs[d]) for d in common]
    change = Mean.of(changes)
    lower, upper = change.lower, change.upper
    if len(common) > 1 and not any(changes):
        upper = 100 * wilson(0, len(common))[1]
        lower = -upper
    value = sum(changes) / len(common)
    return Delta(run=run.name, measure=name, unit="points", change=Estimate(value=value, lower=lower, upper=upper))


def _percent(share: Estimate) -> Estimate:
    value, lower, upper = (None if part is None else 100 * part for part in (share.value, share.lower, share.upper))
    return Estimate(value=value, lower=lower, upper=upper)


def _of(run: RunData, measure: str, estimates: Sequence[Estimate], *, unit: str = "") -> Delta | None:
    """Return the difference of two estimates; None where one has no value."""
    own, base = estimates
    if own.value is None or base.value is None:
        return None
    low = high = None
    change = own.value - base.value
    if own.lower is not None and own.upper is not None and base.lower is not None and base.upper is not None:
        low = change - math.hypot(own.value - own.lower, base.upper - base.value)
        high = change + math.hypot(own.upper - own.value, base.value - base.lower)
    return Delta(run=run.name, measure=measure, unit=unit, change=Estimate(value=change, lower=low, upper=high))
