"""Paired tests as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields

from steerclear.evaluation.differences import Difference
from steerclear.report.comparison import NO_VALUE
from steerclear.report.markdown import markdown_cell, markdown_table
from steerclear.report.sanitize import visible


def differences_markdown(differences: Sequence[Difference]) -> str:
    """Return a Markdown table of the paired tests, below a line that says what they are; nothing without any.

    Non-English answers are in it only if runs differ in them.
    """
    if not differences:
        return ""
    drift = any(d.only_run or d.only_baseline for d in differences if d.metric == "non-English")
    headings = ["run", "metric", "benchmark", "n", "run only", "baseline only", "difference", "p", "p (Holm)"]
    lines = [headings, ["---"] * 3 + ["---:"] * 6]
    for d in differences:
        if d.metric == "non-English" and not drift:
            continue
        change = NO_VALUE if d.difference is None else f"{100 * d.difference:+.1f} %"
        names = map(markdown_cell, (d.run, d.metric, d.benchmark))
        lines.append([*names, str(d.n), str(d.only_run), str(d.only_baseline), change, f"{d.p:.3g}", f"{d.p_holm:.3g}"])
    about = (
        f"\nAgainst {visible(differences[0].baseline)}, on the same prompts: exact McNemar tests, and their p-values after "
        "Holm's correction over the benchmarks of a run and metric.\n\n"
    )
    return about + markdown_table(lines)


def differences_csv(differences: Sequence[Difference]) -> str:
    """Return the paired tests as tidy rows, one a run, metric and benchmark."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([field.name for field in fields(Difference)])
    out.writerows(astuple(difference) for difference in differences)
    return text.getvalue()
