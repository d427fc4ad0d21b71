"""The report as Markdown and as LaTeX, and runs side by side as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.report.attacks import attacks_markdown, attacks_table
from steerclear.report.beside import beside_latex, beside_markdown
from steerclear.report.comparison import comparison_markdown, extra_columns, headline_table, notes_on
from steerclear.report.deltas import deltas_table
from steerclear.report.efficiency import benchmarks_table
from steerclear.report.findings import Findings
from steerclear.report.settings import differing_table
from steerclear.report.tables import degeneracy_table, differences_table, opinions_table, quality_table, seeds_table
from steerclear.table import LATEX_PREAMBLE, Table, markdown_text


def report_markdown(findings: Findings) -> str:
    """Return the report without its charts and answers."""
    runs = findings.runs
    support = "".join(f"- {markdown_text(line)}\n" for line in findings.headline.support)
    left_out = Table(
        ["run", "why there are no figures"],
        [[run.name, run.reason] for run in findings.unfinished],
        names=None,
        about="Left out:",
    )
    parts = [
        f"# {markdown_text(findings.title)}\n\n{markdown_text(findings.headline.sentence)}\n\n{support}\n",
        comparison_markdown(runs),
        _paragraphs(findings.warnings),
        left_out.markdown(),
        seeds_table(findings.over_seeds).markdown(),
        benchmarks_table(findings.configurations).markdown(),
        differences_table(findings.differences).markdown(),
        quality_table(runs).markdown(),
        deltas_table(findings.deltas, findings.baseline.name).markdown(),
        degeneracy_table(runs).markdown(),
        opinions_table(runs).markdown(),
        attacks_markdown(runs, findings.baseline),
        *map(beside_markdown, findings.beside),
        differing_table(runs).markdown(),
    ]
    return "".join(parts)


def side_by_side_markdown(findings: Findings) -> str:
    """Return the runs' tables alone, without a word on which is best."""
    runs = findings.runs
    parts = [
        comparison_markdown(runs),
        _paragraphs(findings.warnings),
        seeds_table(findings.over_seeds).markdown(),
        attacks_markdown(runs),
        quality_table(runs).markdown(),
        opinions_table(runs).markdown(),
        differences_table(findings.differences).markdown(),
    ]
    return "".join(parts)


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"\n{markdown_text(line)}\n" for line in lines)


def report_latex(findings: Findings) -> str:
    """Return the tables for a paper: the headline, harmful answers by benchmark, attacks, published figures beside ours."""
    runs = findings.runs
    headline = headline_table(runs).without(*extra_columns(runs))
    parts = [headline.latex(" ".join(["Rates.", *notes_on(runs), *findings.warnings]))]
    if benchmarks := benchmarks_table(findings.configurations):
        parts.append(benchmarks.latex("Harmful answers by benchmark, with 95% intervals, and the judge's raw flags."))
    if attacks := attacks_table(runs):
        parts.append(attacks.latex(f"Success of attacks (ASR) with 95% intervals. {attacks.about}"))
    parts += map(beside_latex, findings.beside)
    return LATEX_PREAMBLE + "\n" + "\n".join(parts)
