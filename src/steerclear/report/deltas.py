"""What a run still can, less what the baseline can: differences of accuracy, perplexity, win rate and loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.report.comparison import NO_VALUE
from steerclear.report.run_data import RunData
from steerclear.stats.rates import Mean, wilson


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A run in one measure of quality, less the baseline."""

    run: str
    measure: str
    unit: str
    """``points`` (of per cent), or empty."""
    value: float
    baseline: float
    change: float
    lower: float | None
    """Ends of the change's 95 % interval. None: one of the two has none."""
    upper: float | None

    def text(self) -> str:
        """Return the change with its interval."""
        digits = 1 if self.unit else 3
        text = f"{self.change:+.{digits}f}"
        if self.lower is None or self.upper is None:
            return text
        return f"{text} ({self.lower:+.{digits}f} to {self.upper:+.{digits}f})"


def deltas(runs: Sequence[RunData], baseline: RunData) -> list[Delta]:
    """Return every other run's differences to the baseline in the measures that both have.

    Accuracy is paired: the interval is that of the mean difference over the documents of both (Student's t; where no document
    differs, both ends are the upper Wilson limit of none in so many). The others are
    differences of two figures with intervals, taken as independent (MOVER, Zou and Donner 2008); as both runs answer the same
    rows, those intervals are rather too wide. The loss on held-out rows has no interval, and is compared where
    the rows are the same.
    """
    return [delta for run in runs if run is not baseline for delta in _deltas(run, baseline)]


def delta_rows(found: Sequence[Delta]) -> list[list[str]]:
    """Return the headings (measures with their units) and a line a run, as text; nothing without any."""
    by_run: dict[str, dict[str, str]] = {}
    for d in found:
        by_run.setdefault(d.run, {})[f"{d.measure}, {d.unit}" if d.unit else d.measure] = d.text()
    measures = list(dict.fromkeys(measure for own in by_run.values() for measure in own))
    rows = [["run", *measures]] if measures else []
    return rows + [[run, *(own.get(measure, NO_VALUE) for measure in measures)] for run, own in by_run.items()]


def _deltas(run: RunData, baseline: RunData) -> list[Delta]:
    found = []
    own, theirs = run.scores.quality, baseline.scores.quality
    for suite in (suite for suite in own if suite in theirs and own[suite].metric == theirs[suite].metric):
        estimates = [quality[suite].interval for quality in (own, theirs)]
        metric = own[suite].metric
        if metric == "multiple_choice":
            found.append(_accuracy(run, baseline, suite, [_percent(rate) for rate in estimates]))
        elif metric == "perplexity":
            found.append(_of(run, f"{suite}: perplexity", estimates, unit=""))
        elif metric == "win_rate":
            found.append(_of(run, f"{suite}: win rate", estimates, unit="points"))
    if run.heldout is not None and run.heldout == baseline.heldout:
        losses = [data.figures.benign_loss for data in (run, baseline)]
        found.append(_of(run, "benign loss", [(loss, None, None) for loss in losses], unit=""))
    return [delta for delta in found if delta is not None]


Estimate = tuple[float | None, float | None, float | None]


def _accuracy(run: RunData, baseline: RunData, suite: str, estimates: Sequence[Estimate]) -> Delta | None:
    name = f"{suite}: accuracy"
    mine, theirs = run.correct.get(suite, {}), baseline.correct.get(suite, {})
    common = [document for document in mine if document in theirs]
    if not common:
        return _of(run, name, estimates, unit="points")
    value, base = (100 * sum(own[d] for d in common) / len(common) for own in (mine, theirs))
    changes = [100.0 * (mine[d] - theirs[d]) for d in common]
    change = Mean.of(changes)
    lower, upper = change.lower, change.upper
    if len(common) > 1 and not any(changes):
        upper = 100 * wilson(0, len(common))[1]
        lower = -upper
    return Delta(
        run=run.name,
        measure=name,
        unit="points",
        value=value,
        baseline=base,
        change=value - base,
        lower=lower,
        upper=upper,
    )


def _percent(estimate: Estimate) -> Estimate:
    value, lower, upper = (None if part is None else 100 * part for part in estimate)
    return value, lower, upper


def _of(run: RunData, measure: str, estimates: Sequence[Estimate], *, unit: str) -> Delta | None:
    """Return the difference of two estimates; None where one has no value."""
    (value, lower, upper), (base, base_lower, base_upper) = estimates
    if value is None or base is None:
        return None
    change, low, high = value - base, None, None
    if lower is not None and upper is not None and base_lower is not None and base_upper is not None:
        low = change - math.hypot(value - lower, base_upper - base)
        high = change + math.hypot(upper - value, base - base_lower)
    return Delta(
        run=run.name, measure=measure, unit=unit, value=value, baseline=base, change=change, lower=low, upper=high
    )


def degeneracy_rows(runs: Sequence[RunData]) -> list[list[str]]:
    """Return the headings and a line a run: how many answers are degenerate for which reason; nothing without any."""
    counts = {run.name: Counter(v.reason for v in run.verdicts if v.outcome == "degenerate") for run in runs}
    reasons = sorted({reason for own in counts.values() for reason in own})
    if not reasons:
        return []
    rows = [["run", "answers", *(reason or NO_VALUE for reason in reasons)]]
    return rows + [
        [run.name, str(len(run.answers)), *(str(counts[run.name][reason]) for reason in reasons)] for run in runs
    ]
