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
from steerclear.report.attacks import attack_judges
from steerclear.report.beside import beside_table, unit_text
from steerclear.report.comparison import HEADINGS, extra_columns, headline_rates, unscored, warnings_on
from steerclear.report.efficiency import lines_of
from steerclear.report.findings import Findings
from steerclear.report.settings import shared_settings
from steerclear.report.templates import asset, page_template
from steerclear.sanitize import visible
from steerclear.stats.rates import Rate

EXTRA = ("non-English", "unsafe rows", "benign loss")
"""Columns of the headline table beside the rates; what else is known of a run is below."""

SCRIPTS = ("report_page.js", "report_charts.js", "report_answers.js")


def report_page(findings: Findings) -> str:
    """Return the page."""
    runs = findings.runs
    scripts = [get_plotlyjs(), "\n".join(map(asset, SCRIPTS))]
    packed = packed_answers(runs)
    answers = [packed.pop("prompts"), *packed.pop("runs")]
    data = _chart_data(findings) | {"answers": packed}
    return page_template("report.html.j2").render(
        policy=_policy(scripts),
        style=Markup(asset("palette.css") + asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(_json(data)),
        answers=answers,
        findings=findings,
        tiles=_tiles(findings),
        headings=HEADINGS,
        headline=[headline_rates(run.scores) for run in runs],
        unscored=[unscored(run.scores) for run in runs],
        extra={heading: values for heading, values in extra_columns(runs).items() if heading in EXTRA},
        warnings=[*warnings_on({run.name: run.scores for run in runs}), *findings.warnings],
        judges=_names(run.scores.judges for run in runs),
        refusal_judges=_names(run.scores.refusal_judges for run in runs),
        charts=data,
        tables=findings.tables,
        by_run=findings.tables["quality"].turned("run"),  # a line per run, as there may be many of them
        attack_judges=attack_judges(runs),
        beside=[(table, beside_table(table), unit_text(table)) for table in findings.beside],
        shared=shared_settings(runs),
    )


def _chart_data(findings: Findings) -> dict[str, Any]:
    """Return what the browser draws; see `steerclear.report.charts`."""
    runs = findings.runs
    return {
        "runs": [visible(run.name) for run in runs],
        "baseline": runs.index(findings.baseline),
        "best": None if findings.headline.best is None else runs.index(findings.headline.best),
        "plane": charts.plane(runs),
        "curves": charts.curves(runs),
        "losses": charts.losses(runs),
        "efficiency": charts.efficiency_chart(lines_of(findings.configurations)),
        "attacked": charts.attacked(runs),
    }


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


def _tiles(findings: Findings) -> list[tuple[str, Rate, Rate | None]]:
    """Return heading, rate and the baseline's rate for each rate of the run that is recommended."""
    best = findings.headline.best
    if best is None:
        return []
    own, baseline = headline_rates(best.scores), headline_rates(findings.baseline.scores)
    return [
        (heading, rate, base if best is not findings.baseline and base and base.rate is not None else None)
        for heading, rate, base in zip(HEADINGS, own, baseline, strict=True)
        if rate is not None and rate.rate is not None
    ]
