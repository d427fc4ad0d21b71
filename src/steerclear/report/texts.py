"""The report as Markdown and as LaTeX, and runs side by side as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steerclear.report.attacks import attack_judges
from steerclear.report.beside import beside_latex, beside_markdown
from steerclear.report.comparison import extra_columns, headline_table, notes_on
from steerclear.report.findings import Findings
from steerclear.report.run_data import RunData
from steerclear.table import LATEX_PREAMBLE, Table, markdown_text


def report_markdown(findings: Findings) -> str:
    """Return the report without its charts and answers."""
    left_out = Table(
        ["run", "why there are no figures"],
        [[run.name, run.reason] for run in findings.unfinished],
        names=None,
        about="Left out:",
    )
    return "".join(
        [
            f"# {markdown_text(findings.title)}\n\n{markdown_text(findings.headline.sentence)}\n\n",
            "".join(f"- {markdown_text(line)}\n" for line in findings.headline.support) + "\n",
            _headline(findings),
            left_out.markdown(),
            _tables(findings, "seeds", "benchmarks", "differences", "quality", "deltas", "degeneracy", "opinions"),
            attacks_markdown(findings),
            *map(beside_markdown, findings.beside),
            _tables(findings, "differing"),
        ]
    )


def side_by_side_markdown(findings: Findings) -> str:
    """Return the runs' tables alone, without a word on which is best."""
    tables = _tables(findings, "quality", "opinions", "differences")
    return _headline(findings) + _tables(findings, "seeds") + attacks_markdown(findings) + tables


def attacks_markdown(findings: Findings) -> str:
    """Return all that is known of attacks; nothing without any."""
    judges, table = attack_judges(findings.runs), findings.tables["attacks"]
    about = table.about + (f" Judged by {judges}." if judges else "")
    tests, not_compared = _tables(findings, "attack_tests"), _paragraphs(findings.attacks[1])
    return (
        replace(table, about=about).markdown()
        + tests
        + not_compared
        + _tables(findings, "pairs", "categories", "sources")
    )


def comparison_markdown(runs: Sequence[RunData]) -> str:
    """Return the headline table, with what limits the comparison below it."""
    return headline_table(runs).markdown() + _paragraphs(notes_on(runs))


def _headline(findings: Findings) -> str:
    return comparison_markdown(findings.runs) + _paragraphs(findings.warnings)


def _tables(findings: Findings, *names: str) -> str:
    return "".join(findings.tables[name].markdown() for name in names)


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"\n{markdown_text(line)}\n" for line in lines)


def report_latex(findings: Findings) -> str:
    """Return the tables for a paper: the headline, harmful answers by benchmark, attacks, published figures beside ours."""
    runs, tables = findings.runs, findings.tables
    headline = headline_table(runs).without(*extra_columns(runs))
    parts = [headline.latex(" ".join(["Rates.", *notes_on(runs), *findings.warnings]))]
    captions = {
        "benchmarks": "Harmful answers by benchmark, with 95% intervals, and the judge's raw flags.",
        "attacks": f"Success of attacks (ASR) with 95% intervals. {tables['attacks'].about}",
    }
    parts += [tables[name].latex(caption) for name, caption in captions.items() if tables[name]]
    parts += map(beside_latex, findings.beside)
    return LATEX_PREAMBLE + "\n" + "\n".join(parts)
