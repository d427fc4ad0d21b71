"""The report's first words: which run is safest within limits, how sure that is, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.evaluation.curve import PickLimits
from steerclear.evaluation.differences import Difference, overall_differences
from steerclear.report.deltas import Delta
from steerclear.report.efficiency import efficiency
from steerclear.report.run_data import RunData, baseline_first, by_configuration
from steerclear.stats.rates import Rate

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Headline:
    """A sentence, and the sentences that it rests on."""

    sentence: str
    support: list[str]
    best: RunData | None = None
    """The safest run within the limits."""


def headline(
    runs: Sequence[RunData],
    baseline: RunData,
    limits: PickLimits,
    found: Sequence[Difference],
    quality: Sequence[Delta],
) -> Headline:
    """Return the verdict on the runs.

    Args:
        found: every run against the baseline over all prompts (`overall_differences`).
        quality: every run against the baseline in what it can still do.
    """
    rated = [run for run in runs if run.scores.harmful is not None]
    if not rated:
        return Headline("No run has a rate of harmful answers: nothing was judged, or nothing harmful was asked.", [])
    unmeasured = _unmeasured(rated)
    within = sorted((run for run in rated if run not in unmeasured and _is_within(run, limits)), key=_order)
    told = _told_limits(rated, limits)
    if not within:
        safest = min(rated, key=_order)
        sentence = f"No run is within the limits ({told}). The least harmful one is {_with_rates(safest)}."
        return Headline(sentence, [*_told_unmeasured(unmeasured), *_cautions(rated)])
    best = within[0]
    sentence = f"{best.name} is the safest run within the limits ({told}): {_harmful_words(best)}."
    support = [
        *_against_baseline(best, baseline, found),
        *_costs(best, baseline, found, quality),
        *_not_told_apart(best, within[1:]),
        *_outside(best, [run for run in rated if run not in within and run not in unmeasured]),
        *_told_unmeasured(unmeasured),
        *_over_seeds(best, runs),
        *_cautions(rated),
    ]
    return Headline(sentence, support, best)


def _share(rate: Rate | None) -> float:
    return 0.0 if rate is None or rate.rate is None else rate.rate


def _order(run: RunData) -> tuple[float, float]:
    return _share(run.scores.harmful), _share(run.scores.over_refusal)


def _is_within(run: RunData, limits: PickLimits) -> bool:
    scores = run.scores
    return _share(scores.degenerate) <= limits.degenerate and _share(scores.over_refusal) <= limits.over_refusal


def _unmeasured(rated: Sequence[RunData]) -> list[RunData]:
    """Return the runs without a rate of over-refusal where others have one: nobody knows that they are within its limit."""
    lacking = [run for run in rated if run.scores.over_refusal is None]
    return lacking if len(lacking) < len(rated) else []


def _told_unmeasured(unmeasured: Sequence[RunData]) -> list[str]:
    if not unmeasured:
        return []
    return [f"Not measured, so not within its limit: the over-refusal of {_names([run.name for run in unmeasured])}."]


def _told_limits(runs: Sequence[RunData], limits: PickLimits) -> str:
    over_refusal = f"over-refusal at most {100 * limits.over_refusal:g}%"
    if all(run.scores.over_refusal is None for run in runs):
        over_refusal = "over-refusal was not measured"
    return f"degenerate at most {100 * limits.degenerate:g}%, {over_refusal}"


def _harmful_words(run: RunData) -> str:
    rate = run.scores.harmful or Rate.of(0, 0)
    interval = f"95% interval {100 * (rate.lower or 0.0):.1f}-{100 * (rate.upper or 0.0):.1f}%"
    return f"it answers {rate.k} of {rate.n} harmful prompts harmfully, {100 * _share(rate):.1f}% ({interval})"


def _with_rates(run: RunData) -> str:
    scores = run.scores
    rates = {"harmful": scores.harmful, "degenerate": scores.degenerate, "over-refusal": scores.over_refusal}
    shown = [f"{name} {str(rate).rpartition(' = ')[2]}" for name, rate in rates.items() if rate is not None]
    return f"{run.name} ({', '.join(shown)})"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _of(run: RunData, metric: str, found: Sequence[Difference]) -> Difference | None:
    return next((d for d in found if d.run == run.name and d.metric == metric), None)


def _against_baseline(best: RunData, baseline: RunData, found: Sequence[Difference]) -> list[str]:
    harmful = _of(best, "harmful", found)
    if best is baseline:
        return ["It is the baseline itself: no other run within the limits is less harmful."]
    if harmful is None or harmful.difference is None:
        return [f"It shares no scored harmful prompts with the baseline {baseline.name}, so the two do not compare."]
    change = -100 * harmful.difference
    words = f"{abs(change):.1f} points {'fewer' if change >= 0 else 'more'} harmful answers"
    sure = "" if harmful.p_holm < SIGNIFICANT else ", which may be chance"
    return [
        f"Compared with {baseline.name}: {words} on the same {harmful.n} prompts{sure}. Of the prompts on which they differ, "
        f"{harmful.only_baseline} are answered harmfully by the baseline alone and {harmful.only_run} by {best.name} alone "
        f"(exact McNemar test, {_p(harmful.p_holm)} after Holm's correction over the runs)."
    ]


def _costs(best: RunData, baseline: RunData, found: Sequence[Difference], quality: Sequence[Delta]) -> list[str]:
    if best is baseline:
        return []
    costs = []
    own, base = best.scores, baseline.scores
    rates = {"over-refusal": (own.over_refusal, base.over_refusal), "degenerate": (own.degenerate, base.degenerate)}
    for metric, (rate, against) in rates.items():
        d = _of(best, metric, found)
        if d is not None and d.difference is not None:
            costs.append(f"{metric} {100 * _share(rate):.1f}% against {100 * _share(against):.1f}% ({_p(d.p_holm)})")
    costs += [f"{d.measure} {d.text()}{f' {d.unit}' if d.unit else ''}" for d in quality if d.run == best.name]
    return [f"What that costs, compared with {baseline.name}: {'; '.join(costs)}."] if costs else []


def _not_told_apart(best: RunData, others: Sequence[RunData]) -> list[str]:
    if not others:
        return []
    found = overall_differences(baseline_first([best, *others], best))
    tested = {d.run: d for d in found if d.metric == "harmful" and d.difference is not None}
    close = [name for name, d in tested.items() if d.p_holm >= SIGNIFICANT]
    safer = [name for name, d in tested.items() if d.p_holm < SIGNIFICANT and d.only_run < d.only_baseline]
    untested = [run.name for run in others if run.name not in tested]
    told = []
    if not close and not safer and not untested:
        told.append(
            "Every other run within the limits is more harmful on the same prompts (each p < 0.05 after Holm's correction)."
        )
    if close:
        told.append(
            f"On these prompts it cannot be told apart from {_names(close)} (p of 0.05 or more, within the same limits)."
        )
    if safer:
        told.append(f"On the prompts that both were asked, these are less harmful: {_names(safer)} (p < 0.05).")
    if untested:
        told.append(f"Not comparable with it, as they share no scored prompts: {_names(untested)}.")
    return told


def _outside(best: RunData, others: Sequence[RunData]) -> list[str]:
    outside = [run for run in others if _order(run)[0] <= _order(best)[0]]
    if not outside:
        return []
    least = min(outside, key=_order)
    more = f", and {len(outside) - 1} more" if len(outside) > 1 else ""
    return [f"No more harmful, but beyond the limits: {_with_rates(least)}{more}."]


def _over_seeds(best: RunData, runs: Sequence[RunData]) -> list[str]:
    own = by_configuration(runs)[best.configuration]
    if len(own) < 2:
        return []
    [figures] = [c for c in efficiency(own) if c.name == best.configuration]
    harmful = next(iter(figures.benchmarks.values()), None)
    if harmful is None or harmful.rate is None:
        return []
    return [f"Over {len(own)} seeds together, {best.configuration}: harmful {harmful.text()}."]


def _cautions(rated: Sequence[RunData]) -> list[str]:
    notes = []
    if len(rated) > 2:
        notes.append(
            f"The safest of {len(rated)} runs looks somewhat safer than it is, as luck helped to choose it: measure it again "
            "on other prompts."
        )
    cells = [suite.all for run in rated for suite in run.scores.suites.values()]
    lacking, asked = sum(cell.unscored.k for cell in cells), sum(cell.n for cell in cells)
    if lacking:
        notes.append(f"{lacking:,} of all {asked:,} answers have no verdict and are in no rate; the table says whose.")
    return notes


def _names(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
