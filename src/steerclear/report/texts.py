"""The report as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.report.attacks import ABOUT, attack_rows, attacks_markdown
from steerclear.report.beside import beside_latex, beside_markdown
from steerclear.report.comparison import (
    COLUMNS,
    RunScores,
    comparison_markdown,
    headline_rates,
    rate_text,
    unscored,
    warnings_on,
)
from steerclear.report.deltas import degeneracy_rows, delta_rows
from steerclear.report.differences import differences_markdown
from steerclear.report.efficiency import benchmark_rows
from steerclear.report.findings import Findings
from steerclear.report.latex import PREAMBLE, latex_table, latex_text
from steerclear.report.markdown import markdown_cell, rows_markdown
from steerclear.report.opinions import opinions_markdown
from steerclear.report.over_seeds import seeds_markdown
from steerclear.report.quality import quality_markdown
from steerclear.report.settings import settings_of


def report_markdown(findings: Findings) -> str:
    """Return the report without its charts and answers."""
    runs, figures, settings = findings.runs, findings.figures, settings_of(findings.runs)
    support = "".join(f"- {markdown_cell(line)}\n" for line in findings.headline.support)
    waiting = [["run", "why there are no figures"], *([run.name, run.reason] for run in findings.unfinished)]
    parts = [
        f"# {markdown_cell(findings.title)}\n\n{markdown_cell(findings.headline.sentence)}\n\n{support}\n",
        comparison_markdown(figures),
        *(f"\n{markdown_cell(warning)}\n" for warning in findings.warnings),
        rows_markdown(waiting, names=2, about="Left out:") if findings.unfinished else "",
        seeds_markdown(findings.over_seeds),
        rows_markdown(benchmark_rows(findings.configurations), about="Harmful answers by benchmark:"),
        differences_markdown(findings.differences),
        quality_markdown(figures),
        rows_markdown(delta_rows(findings.deltas), about=f"Against {markdown_cell(findings.baseline.name)}:"),
        rows_markdown(degeneracy_rows(runs), about="Why answers are degenerate:"),
        opinions_markdown(figures),
        attacks_markdown(figures, findings.baseline.figures),
        *(beside_markdown(table) for table in findings.beside),
        rows_markdown(settings.differing, names=None, about="What differs between the runs:"),
    ]
    return "".join(parts)


def report_latex(findings: Findings) -> str:
    """Return the tables for a paper: the headline, harmful answers by benchmark, published figures beside ours."""
    parts = [_headline_latex(findings.figures, findings.warnings)]
    if benchmarks := benchmark_rows(findings.configurations):
        caption = "Harmful answers by benchmark, with 95% intervals, and the judge's raw flags."
        parts.append(_rows_latex(benchmarks, caption))
    if attacks := attack_rows(findings.figures):
        caption = "Success of attacks (ASR) with 95% intervals. " + ABOUT
        parts.append(_rows_latex(attacks, caption))
    parts += [beside_latex(table) for table in findings.beside]
    return PREAMBLE + "\n" + "\n".join(parts)


def _headline_latex(runs: Sequence[RunScores], warnings: Sequence[str]) -> str:
    rows = [["run", *(column.heading for column in COLUMNS), "unscored"]]
    for run in runs:
        rows.append([run.name, *map(rate_text, headline_rates(run.scores)), unscored(run)])
    judges = ", ".join(sorted({judge for run in runs for judge in run.scores.judges}))
    about = f"Rates with 95% Wilson intervals, judged by {judges}."
    return _rows_latex(rows, " ".join([about, *warnings_on(runs), *warnings]))


def _rows_latex(rows: Sequence[Sequence[str]], caption: str) -> str:
    headings, *lines = rows
    return latex_table(" & ".join(map(latex_text, headings)), lines, "l" + "r" * (len(headings) - 1), caption)
