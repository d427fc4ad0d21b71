"""Attacks, one line an attack and run: what the runs say when somebody tries."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.evaluation.scores import cell_text, is_prefilled
from steerclear.report.comparison import RunScores
from steerclear.report.markdown import rows_markdown

HEADINGS = ("attack", "run", "harmful", "coherent and safe", "degenerate", "unscored")


def attack_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line an attack and run, as text; nothing without any.

    Attacks are the suites with prefilled openings: what the model went on with is judged.
    """
    suites = dict.fromkeys(name for run in runs for name, suite in run.scores["suites"].items() if is_prefilled(suite))
    rows = [list(HEADINGS)] if suites else []
    for name in suites:
        for run in runs:
            if name in run.scores["suites"]:
                cell = run.scores["suites"][name]["all"]
                rates = [cell_text(cell[metric]) for metric in ("harmful", "safe", "degenerate")]
                rows.append([name, run.name, *rates, f"{cell['unscored']['k']}/{cell['n']}"])
    return rows


def attacks_markdown(runs: Sequence[RunScores]) -> str:
    """Return the attacks as a Markdown table; nothing without any."""
    about = "With the answer's beginning prefilled by the attacker; what the model went on with is judged:"
    return rows_markdown(attack_rows(runs), names=2, about=about)
