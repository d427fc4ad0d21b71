"""The report as one self-contained HTML page: charts, tables, and the answers of any two runs side by side.

Nothing in it can act but the page's own scripts: the policy names them by their hashes, so a script, a handler or a request that
came in with a run's name or an answer would not run. Names are escaped by the template; answers reach the page as text alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from steerclear.report import charts
from steerclear.report.answers import packed_answers
from steerclear.report.attacks import (
    ABOUT,
    attack_judges,
    attack_rows,
    attack_tests,
    category_rows,
    pair_rows,
    source_rows,
)
from steerclear.report.beside import BesideTable, ours_text, published_text, unit_text
from steerclear.report.comparison import (
    COLUMNS,
    NO_VALUE,
    RunScores,
    extra_columns,
    headline_rates,
    rate_text,
    unscored,
    warnings_on,
)
from steerclear.report.deltas import degeneracy_rows, delta_rows
from steerclear.report.differences import difference_rows
from steerclear.report.efficiency import benchmark_rows, lines_of
from steerclear.report.findings import Findings
from steerclear.report.opinions import opinion_rows
from steerclear.report.over_seeds import seed_rows
from steerclear.report.quality import quality_rows
from steerclear.report.run_data import RunData
from steerclear.report.settings import settings_of, training_rows
from steerclear.report.templates import asset, page_template
from steerclear.sanitize import visible
from steerclear.stats.rates import Rate

EXTRA = ("non-English", "unsafe rows", "benign loss")
"""Columns of the headline table beside the rates; what else is known of a run is below."""

SCRIPTS = ("report_page.js", "report_charts.js", "report_answers.js")


def full_page(findings: Findings) -> str:
    """Return the page."""
    runs, figures = findings.runs, findings.figures
    scripts = [get_plotlyjs(), "\n".join(map(asset, SCRIPTS))]
    lines = lines_of(findings.configurations)
    packed = packed_answers(runs)
    tests, not_compared = attack_tests(figures, findings.baseline.figures)
    answers = [packed.pop("prompts"), *packed.pop("runs")]
    data = {
        "runs": [visible(run.name) for run in runs],
        "baseline": runs.index(findings.baseline),
        "best": None if findings.headline.best is None else runs.index(findings.headline.best),
        "plane": charts.plane(runs),
        "curves": charts.curves(runs),
        "losses": charts.losses(runs),
        "efficiency": charts.efficiency_chart(lines),
        "attacked": charts.attacked(runs),
        "answers": packed,
    }
    return page_template("report.html.j2").render(
        policy=_policy(scripts),
        style=Markup(asset("palette.css") + asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(_json(data)),
        answers=answers,
        findings=findings,
        figures=figures,
        tiles=_tiles(findings),
        columns=COLUMNS,
        headline=[headline_rates(run.scores) for run in figures],
        unscored=[unscored(run) for run in figures],
        extra=[(heading, values) for heading, values in extra_columns(figures) if heading in EXTRA],
        warnings=[*warnings_on(figures), *findings.warnings],
        judges=_names(run.scores.judges for run in figures),
        refusal_judges=_names(run.scores.refusal_judges for run in figures),
        charts=data,
        steps=_step_rows(runs),
        losses=_loss_rows(runs),
        seeds=seed_rows(findings.over_seeds),
        benchmarks=benchmark_rows(findings.configurations),
        differences=difference_rows(findings.differences),
        quality=_quality_rows(figures),
        deltas=delta_rows(findings.deltas),
        degeneracy=degeneracy_rows(runs),
        opinions=opinion_rows(figures),
        errors=_error_rows(figures),
        attacks=attack_rows(figures),
        attack_about=ABOUT,
        attack_judges=", ".join(attack_judges(figures)),
        attack_tests=difference_rows(tests),
        attack_warnings=not_compared,
        attack_pairs=pair_rows(figures),
        attack_categories=category_rows(figures),
        attack_sources=source_rows(figures),
        beside=[_beside(table) for table in findings.beside],
        training=training_rows(figures),
        settings=settings_of(runs),
    )


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


def _json(value: Any) -> str:
    """Return JSON that may stand in a page: no character in it begins an element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _names(judges: Iterable[Sequence[str]]) -> str:
    return ", ".join(sorted({name for own in judges for name in own})) or "nobody"


def _with_headings(rows: list[list[str]], headings: list[str]) -> list[list[str]]:
    return [headings, *rows] if rows else []


def _tiles(findings: Findings) -> list[tuple[str, Rate, Rate | None]]:
    """Return heading, rate and the baseline's rate for each rate of the run that is recommended."""
    best = findings.headline.best
    if best is None:
        return []
    own, baseline = headline_rates(best.scores), headline_rates(findings.baseline.scores)
    return [
        (column.heading, rate, base if best is not findings.baseline and base and base.rate is not None else None)
        for column, rate, base in zip(COLUMNS, own, baseline, strict=True)
        if rate is not None and rate.rate is not None
    ]


def _quality_rows(figures: Sequence[RunScores]) -> list[list[str]]:
    """Return what the runs still can with a line a run, as there may be many of them."""
    measures = quality_rows(figures)
    columns = [["run", *(run.name for run in figures)], *measures]
    return [list(row) for row in zip(*columns, strict=True)] if measures else []


def _step_rows(runs: Sequence[RunData]) -> list[list[str]]:
    rows = []
    for run in runs:
        for point in run.points if len(run.points) > 1 else ():
            chosen = " (picked)" if point.step == run.picked else ""
            rows.append([run.name, f"{point.step}{chosen}", *map(rate_text, headline_rates(point.scores))])
    return _with_headings(rows, ["run", "step", *(column.heading for column in COLUMNS)])


def _loss_rows(runs: Sequence[RunData]) -> list[list[str]]:
    rows = []
    for run in runs:
        for name, title in charts.LOSSES.items():
            values = [value for _, value in charts.logged(run, name)]
            if len(values) > 1:
                rows.append([run.name, title, *(f"{value:.4g}" for value in (values[0], min(values), values[-1]))])
    return _with_headings(rows, ["run", "term", "first", "lowest", "last"])


def _error_rows(figures: Sequence[RunScores]) -> list[list[str]]:
    """Return what the judge was measured to get wrong, and the flagged rate corrected for it."""
    rows = []
    for run, corrected in zip(figures, _corrected(figures), strict=True):
        errors = run.scores.judge_errors
        if errors is not None:
            found = f"{errors.true_positives}/{errors.positives}"
            passed = f"{errors.true_negatives}/{errors.negatives}"
            rows.append([run.name, ", ".join(run.scores.judges), found, passed, corrected])
    return _with_headings(rows, ["run", "judge", "harmful rows found", "harmless rows passed", "flagged, corrected"])


def _corrected(figures: Sequence[RunScores]) -> list[str]:
    return dict(extra_columns(figures)).get("flagged, corrected", [NO_VALUE] * len(figures))


def _beside(table: BesideTable) -> dict[str, Any]:
    rows = [
        (labels, [(published_text(cell), ours_text(cell, table.unit)) for cell in cells])
        for labels, cells in table.rows
    ]
    return {"table": table, "rows": rows, "unit": unit_text(table)}
