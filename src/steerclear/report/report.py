"""`steerclear report`: one page about finished runs, with the same in Markdown, CSV and LaTeX, and model cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerclear.errors import ConfigError, DataError, Log
from steerclear.evaluation.curve import PickLimits
from steerclear.records import write_text
from steerclear.report.beside import BesideTable
from steerclear.report.comparison import comparison_csv
from steerclear.report.findings import find
from steerclear.report.full_page import full_page
from steerclear.report.model_card import model_card
from steerclear.report.read_runs import read_runs, title_of
from steerclear.report.texts import report_latex, report_markdown
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
        baseline: name of the run that the others are held against. None: the first that saw no unsafe row, else the first.
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
    write_text(output.with_suffix(".csv"), visible(comparison_csv(findings.figures)))
    write_text(output.with_suffix(".tex"), report_latex(findings))
    for run, folder in found if model_cards else ():
        for place, library in LIBRARIES.items():
            if (folder / place).is_dir():
                write_text(folder / place / "README.md", model_card(run, library=library))
                log(f"model card: {folder / place / 'README.md'}")
    write_text(output, full_page(findings))  # last: it says that the others are there
    return output
