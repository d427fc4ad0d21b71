"""What a search found, for people: a line a trial, the table, CSV, and the best trial's recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.table

from steerclear.config import dump_yaml
from steerclear.experiments.trials import COMPLETE, FAILED, PRUNED, Outcome, choose, excesses, is_within, lowest_loss
from steerclear.recipe.tune import TuneLimits, TuneRecipe, Values
from steerclear.report.comparison import STATISTICS
from steerclear.sanitize import shortened, visible
from steerclear.stats.rates import Rate
from steerclear.table import NO_VALUE, Table, markdown_text

RATES = ("harmful", "over_refusal", "degenerate")
HEADINGS = ("harmful", "over-refusal", "degenerate", "benign loss", "state", "seconds")
LONGEST_REASON = 120
"""Characters of a reason in a table."""


def start_line(number: int, values: Values) -> str:
    """Return the line about a trial that begins, or is gone on with."""
    return f"trial {number}: {_values(values)} ..."


def outcome_line(outcome: Outcome, outcomes: Sequence[Outcome], recipe: TuneRecipe) -> str:
    """Return one line about a trial that was just finished, pruned or failed."""
    ended = sum(o.state in (COMPLETE, PRUNED) for o in outcomes)
    head = f"[{ended}/{recipe.budget}] trial {outcome.number}: {_values(outcome.values)}"
    if outcome.state == FAILED:
        return f"{head}: failed: {visible(outcome.reason)}"
    best, _ = choose(outcomes, recipe.limits)
    lowest = lowest_loss(outcomes)
    if outcome.state == PRUNED:
        end = "pruned"
    elif is_within(outcome, recipe.limits, lowest):
        end = "within the limits" + (", the best so far" if outcome is best else "")
    else:
        end = above_limits(outcome, recipe.limits, lowest)
    figures = [f"{heading} {cell}" for heading, cell in zip(HEADINGS, _figure_cells(outcome), strict=False)]
    return f"{head}: {', '.join(figures)}; {end}{_suffix(outcome)}; {outcome.seconds or 0:.0f} s"


def above_limits(outcome: Outcome, limits: TuneLimits, lowest: float | None) -> str:
    """Return which limits a trial is above, in words."""
    over = [name.replace("_", " ") for name, excess in excesses(outcome, limits, lowest).items() if excess > 0]
    return f"above the limit of {', '.join(over)}"


def _values(values: Values) -> str:
    return visible(", ".join(f"{key.rpartition('.')[2]} {_value(value)}" for key, value in values.items()))


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _suffix(outcome: Outcome) -> str:
    if outcome.same_as is not None:
        return f" (as trial {outcome.same_as}, of the same values)"
    return f" ({visible(outcome.reason)})" if outcome.reason else ""


def _figure_cells(outcome: Outcome) -> list[str]:
    figures = outcome.figures
    if figures is None:
        return [NO_VALUE] * (len(RATES) + 1)
    rates = [getattr(figures, name) for name in RATES]
    loss = NO_VALUE if figures.benign_loss is None else f"{figures.benign_loss:.3f}"
    return [*(NO_VALUE if rate is None else str(rate) for rate in rates), loss]


def _table(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> Table:
    best, _ = choose(outcomes, recipe.limits)
    lowest = lowest_loss(outcomes)
    rows = []
    for outcome in outcomes:
        state = outcome.state
        if outcome is best:
            state = "best"
        elif state == COMPLETE and not is_within(outcome, recipe.limits, lowest):
            state = above_limits(outcome, recipe.limits, lowest)
        seconds = None if outcome.seconds is None else f"{outcome.seconds:.0f}"
        reason = shortened(_suffix(outcome), LONGEST_REASON)
        values = [_value(outcome.values[key]) for key in recipe.space]
        rows.append([outcome.number, *values, *_figure_cells(outcome), state + reason, seconds])
    bold = [place for place, outcome in enumerate(outcomes) if outcome is best]
    return Table(["trial", *recipe.space, *HEADINGS], rows, names=0, bold=bold)


def tune_table(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> rich.table.Table:
    """Return the trials as a table for the terminal, the best one in bold."""
    return _table(recipe, outcomes).rich(recipe.output, f"95 % Wilson intervals; {limits_text(recipe.limits)}")


def tune_markdown(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> str:
    """Return the page ``tune.md``: what was found, in words, and a table of all trials, the best one's number in bold."""
    head = f"# {markdown_text(Path(recipe.output).name)}\n\n{verdict(recipe, outcomes)}\n\n"
    return f"{head}{_table(recipe, outcomes).markdown()}\n" + (
        "95 % Wilson intervals. A pruned trial's figures are its last probe's, on fewer prompts. The benign loss is of held-out "
        "rows, in nats a token. The best of many trials is a lucky one too: confirm it on other prompts and seeds.\n"
    )


def verdict(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> str:
    """Return what was found, in one or two sentences."""
    best, nearest = choose(outcomes, recipe.limits)
    counts = ", ".join(
        f"{count} {state}"
        for state in (COMPLETE, PRUNED, FAILED)
        if (count := sum(outcome.state == state for outcome in outcomes))
    )
    head = (
        f"{recipe.budget} trials by method {recipe.method} ({counts or 'none ended'}); {limits_text(recipe.limits)}. "
    )
    if nearest is None:
        return head + "No trial was finished."
    figures = ", ".join(f"{h} {cell}" for h, cell in zip(HEADINGS, _figure_cells(nearest), strict=False))
    told = f"trial {nearest.number} ({_values(nearest.values)}): {figures}"
    if best is not None:
        return f"{head}The safest within the limits is {told}."
    above = above_limits(nearest, recipe.limits, lowest_loss(outcomes))
    return f"{head}No trial is within the limits. The nearest is {told}; it is {above}."


def limits_text(limits: TuneLimits) -> str:
    """Return the limits in words."""
    given = [
        f"over-refusal at most {limits.over_refusal:g}" if limits.over_refusal is not None else "",
        f"degenerate at most {limits.degenerate:g}" if limits.degenerate is not None else "",
        f"benign loss at most {limits.benign_loss:g} nats above the lowest" if limits.benign_loss is not None else "",
    ]
    return "limits: " + (", ".join(filter(None, given)) or "none")


def trials_csv(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> str:
    """Return a line a trial: its values, figures with their intervals, state and time."""
    best, _ = choose(outcomes, recipe.limits)
    lowest = lowest_loss(outcomes)
    rate_columns = [f"{name}_{part}" for name in RATES for part in STATISTICS]
    end_columns = ["state", "within_limits", "best", "step", "same_as", "seconds", "reason"]
    rows = []
    for outcome in outcomes:
        rates = [outcome.figures and getattr(outcome.figures, name) for name in RATES]
        cells = [getattr(rate, part) if isinstance(rate, Rate) else None for rate in rates for part in STATISTICS]
        loss = outcome.figures and outcome.figures.benign_loss
        within = is_within(outcome, recipe.limits, lowest) if outcome.state == COMPLETE else None
        end = [outcome.state, within, outcome is best, outcome.step, outcome.same_as, outcome.seconds, outcome.reason]
        rows.append([outcome.number, *(outcome.values[key] for key in recipe.space), *cells, loss, *end])
    return Table(["trial", *recipe.space, *rate_columns, "benign_loss", *end_columns], rows).csv()


def best_yaml(recipe: TuneRecipe, best: Outcome, outcomes: Sequence[Outcome]) -> str:
    """Return the best trial's recipe for `steerclear train`, with what is known of it as a comment."""
    lines = [
        f"Found by steerclear tune: trial {best.number} of {recipe.output}.",
        "  steerclear train best.yaml --output FOLDER",
        *(f"{key}: {_value(value)}" for key, value in best.values.items()),
        *(f"{heading}: {cell}" for heading, cell in zip(HEADINGS, _figure_cells(best), strict=False)),
        f"lowest benign loss of all trials: {lowest_loss(outcomes)}",
        limits_text(recipe.limits),
        "95 % Wilson intervals. The best of many trials is a lucky one too: confirm it on other prompts and seeds.",
    ]
    head = "".join(f"# {_one_line(line)}\n" for line in lines)
    return head + dump_yaml(recipe.tree_of(best.values, Path(recipe.output) / "best"))


def _one_line(text: str) -> str:
    return visible(text).replace("\n", " ")
