"""Reports on finished runs: a page with all that is known of them, the same in Markdown, CSV and LaTeX, and model cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerclear.errors import ConfigError, DataError, Log
from steerclear.evaluation.curve import PickLimits
from steerclear.records import write_text
from steerclear.report.beside import BesideTable
from steerclear.report.comparison import comparison_csv
from steerclear.report.findings import find
from steerclear.report.model_card import model_card
from steerclear.report.page import report_page
from steerclear.report.read_runs import Place, read_run, read_runs, title_of
from steerclear.report.run_data import RunData
from steerclear.report.tables import differences_csv, seeds_csv
from steerclear.report.texts import report_latex, report_markdown, side_by_side_markdown
from steerclear.sanitize import visible

LIBRARIES = {"adapter": "peft", "model": "transformers"}
"""Folder of a run's weights -> what loads them."""


def report(
    folders: Sequence[Path],
    output: Path,
    log: Log,
    *,
    title: str | None = None,
    baseline: str | None = None,
    limits: PickLimits | None = None,
    beside: Sequence[BesideTable] = (),
    model_cards: bool = False,
) -> Path:
    """Write the page about the runs in some folders, and beside it the same as ``.md``, ``.csv`` and ``.tex``.

    Args:
        folders: of runs, sweeps, or comparisons; a run's base and other evaluated models come with it.
        output: the page, ending in ``.html``.
        title: None takes the sweep's or the first folder's name.
        baseline: name of the run that the others are compared with. None: the first that saw no unsafe row, else the first.
        limits: of the run that the page recommends.
        beside: published figures beside ours.
        model_cards: write ``README.md`` into the folder of every trained run's weights.

    Returns the page's path.

    Raises:
        SteerClearError: a folder has no run, none is evaluated, a file is broken, or there is no such baseline.
    """
    if output.suffix != ".html":
        raise ConfigError(
            f"output: got '{output}', allowed: a file that ends in .html; .md, .csv and .tex go beside it."
        )
    found, unfinished = read_runs(folders)
    for left_out in unfinished:
        log(f"left out: {left_out.name}: {left_out.reason}")
    if not found:
        raise DataError("no run in these folders is evaluated. Finish them, or run 'steerclear evaluate' on them.")
    runs = [run for run, _ in found]
    findings = find(
        visible(title or title_of(folders[0])),
        runs,
        unfinished=unfinished,
        baseline=baseline,
        limits=limits,
        beside=beside,
    )
    write_text(output.with_suffix(".md"), report_markdown(findings))
    write_text(output.with_suffix(".csv"), comparison_csv(findings.runs))
    write_text(output.with_suffix(".tex"), report_latex(findings))
    for run, folder in found if model_cards else ():
        for place, library in LIBRARIES.items():
            if (folder / place).is_dir():
                write_text(folder / place / "README.md", model_card(run, library=library))
                log(f"model card: {folder / place / 'README.md'}")
    write_text(output, report_page(findings))  # last: it says that the others are there
    return output


def lay_side_by_side(places: Sequence[Place], output: Path, log: Log) -> list[RunData]:
    """Write ``table.md``, ``table.csv``, ``differences.csv`` (paired tests against the first run) and ``index.html``.

    Where configurations ran under seeds there is ``seeds.csv`` too.

    Args:
        places: evaluated runs, at least one. ``NAME/seed-3`` is a run of the configuration NAME.

    Returns the runs.

    Raises:
        SteerClearError: a file of a run is broken.
    """
    runs = [read_run(place) for place in places]
    findings = find(visible(output.resolve().name), runs, baseline=runs[0].name)
    for warning in findings.warnings:
        log(warning)
    write_text(output / "table.md", side_by_side_markdown(findings))
    write_text(output / "table.csv", comparison_csv(runs))
    write_text(output / "differences.csv", differences_csv(findings.differences))
    if findings.over_seeds:
        write_text(output / "seeds.csv", seeds_csv(findings.over_seeds))
    write_text(output / "index.html", report_page(findings))
    log(f"page: {output / 'index.html'}")
    return runs
