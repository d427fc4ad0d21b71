"""Paired tests as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields

from steerclear.evaluation.differences import Difference
from steerclear.report.comparison import NO_VALUE
from steerclear.report.markdown import markdown_cell, rows_markdown


def differences_markdown(differences: Sequence[Difference]) -> str:
    """Return a Markdown table of the paired tests, below a line that says what they are; nothing without any.

    Non-English answers are in it only if runs differ in them.
    """
    if not differences:
        return ""
    about = (
        f"Against {markdown_cell(differences[0].baseline)}, on the same prompts: exact McNemar tests, and their p-values after "
        "Holm's correction over the benchmarks of a run and metric."
    )
    return rows_markdown(difference_rows(differences), names=3, about=about)


def difference_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """Return the headings and a line a test, as text; nothing without any. Non-English answers as in `differences_markdown`."""
    drift = any(d.only_run or d.only_baseline for d in differences if d.metric == "non-English")
    headings = ["run", "metric", "benchmark", "n", "run only", "baseline only", "difference", "p", "p (Holm)"]
    rows = [headings] if differences else []
    for d in differences:
        if d.metric != "non-English" or drift:
            change = NO_VALUE if d.difference is None else f"{100 * d.difference:+.1f} %"
            counts = [str(d.n), str(d.only_run), str(d.only_baseline), change]
            rows.append([d.run, d.metric, d.benchmark, *counts, f"{d.p:.3g}", f"{d.p_holm:.3g}"])
    return rows


def differences_csv(differences: Sequence[Difference]) -> str:
    """Return the paired tests as tidy rows, one a run, metric and benchmark."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([field.name for field in fields(Difference)])
    out.writerows(astuple(difference) for difference in differences)
    return text.getvalue()
