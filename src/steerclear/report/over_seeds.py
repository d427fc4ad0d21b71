"""Figures over seeds as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from steerclear.evaluation.over_seeds import SeedFigures
from steerclear.report.comparison import NO_VALUE
from steerclear.report.markdown import rows_markdown
from steerclear.stats.seeds import OverSeeds


def seeds_markdown(figures: Sequence[SeedFigures]) -> str:
    """Return a Markdown table, one line a configuration and metric, below a line that says what the intervals are."""
    about = "Over seeds and prompts at once, with 95 % intervals (prompts that every seed has scored):"
    return rows_markdown(seed_rows(figures), names=2, about=about)


def seed_rows(figures: Sequence[SeedFigures]) -> list[list[str]]:
    """Return the headings and a line a configuration and metric, as text; nothing without figures."""
    if not figures:
        return []
    rows = [["configuration", "metric", "seeds", "prompts", "rate over seeds", f"less {figures[0].baseline}"]]
    for f in figures:
        change = NO_VALUE if f.difference is None else _text(f.difference, "+")
        rows.append([f.configuration, f.metric, str(f.rate.seeds), str(f.rate.n), _text(f.rate), change])
    return rows


def _text(value: OverSeeds, sign: str = "") -> str:
    if value.mean is None:
        return NO_VALUE
    text = f"{100 * value.mean:{sign}.1f}%"
    if value.lower is None or value.upper is None:
        return text
    return f"{text} ({100 * value.lower:{sign}.1f} to {100 * value.upper:{sign}.1f})"


def seeds_csv(figures: Sequence[SeedFigures]) -> str:
    """Return the figures as tidy rows; ``of`` is ``rate`` or ``difference``."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["configuration", "baseline", "metric", "of", "seeds", "prompts", "left_out", "mean", "lower", "upper"]
    )
    for f in figures:
        for of, value in (("rate", f.rate), ("difference", f.difference)):
            if value is not None:
                shown = [value.seeds, value.n, value.left_out, value.mean, value.lower, value.upper]
                out.writerow([f.configuration, f.baseline, f.metric, of, *shown])
    return text.getvalue()
