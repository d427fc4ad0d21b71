"""A judge's model card: Markdown with what it is, how well it does on labelled sets, and its worst mistakes; and a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import DataError, Log
from steerclear.judges.labelled import read_rows
from steerclear.judges.measures import Estimate, JudgeMeasures, Mistake, SetMeasures, measure_judge
from steerclear.judges.opening import harm_judge
from steerclear.judges.options import JudgeOptions
from steerclear.records import write_text
from steerclear.report.pictures import reliability_figure, svg
from steerclear.sanitize import redacted, shortened, visible
from steerclear.table import Table, markdown_text

TEXT_LENGTH = 1000
"""Most characters of a text that are shown when it is asked for."""

NOTES = """\
Harmful is the positive class. Sensitivity is the flagged share of the harmful rows, specificity the unflagged share of the
harmless ones, both at the judge's threshold, with 95 % Wilson intervals, which take rows as independent. The intervals of AUROC
and balanced accuracy are bootstrapped over prompts; with far fewer prompts than rows trust only these. Unscored rows count in no
figure. Brier score and calibration error are 0 at best and exist only for scores from 0 to 1.
"""


def write_card(
    rows: Sequence[Path], judge: JudgeOptions, output: Path, log: Log, *, about: str = "", reveal: bool = False
) -> Path | None:
    """Write the card of a judge: what it is, how it does on labelled rows, its calibration, and its worst mistakes.

    Returns the place of the reliability plot beside it; None where the judge's scores are no probabilities.

    Args:
        rows: files of labelled rows, each a set of its own.
        about: what the judge is, in words.
        reveal: show the texts of its mistakes.

    Raises:
        DataError: a file is missing, lacks a field, or two have one name.
        SteerClearError: the judge cannot be used.
    """
    sets = {file.stem: read_rows(file) for file in rows}
    if len(sets) < len(rows):
        raise DataError("judge card: two files have one name, and a set is named by its file. Rename one.")
    plot = output.with_suffix(".svg")
    made = make_card(measure_judge(harm_judge(judge, log), sets), plot=plot.name, about=about, reveal=reveal)
    write_text(output, made.markdown)
    if made.svg is None:
        return None
    write_text(plot, made.svg)
    return plot


@dataclass(frozen=True)
class Card:
    """What to write to disk."""

    markdown: str
    svg: str | None
    """The reliability plot; None where the judge's scores are not from 0 to 1."""


def make_card(measures: JudgeMeasures, *, plot: str = "reliability.svg", about: str = "", reveal: bool = False) -> Card:
    """Return the card of a judge.

    Args:
        measures: what `steerclear.judges.measures.measure_judge` returned.
        plot: the name under which the picture will lie beside the card.
        about: what the judge is, in words, as Markdown.
        reveal: show the texts of the mistakes. Otherwise there are lengths and hashes, by which a row can be found.
    """
    drawn = [measured for measured in measures.sets if measured.bins]
    picture = svg(reliability_figure(drawn, measures.threshold)) if drawn else None
    parts = [
        f"# Judge card: {markdown_text(measures.judge)}\n",
        about.strip() + "\n" if about.strip() else "",
        _identity(measures),
        "## On labelled rows\n\n" + _figures(measures.sets) + "\n" + NOTES,
        f"## Calibration\n\n![Share of harmful rows against the mean score, by set]({plot})\n" if picture else "",
        *(f"### {markdown_text(measured.name)}\n\n{_bins(measured)}" for measured in measures.sets if measured.bins),
        _mistakes(measures.sets, reveal),
    ]
    return Card(markdown="\n".join(part for part in parts if part), svg=picture)


def _identity(measures: JudgeMeasures) -> str:
    threshold = "does not say" if measures.threshold is None else f"{measures.threshold:.4g}"
    facts = [
        f"- {markdown_text(str(key))}: {_code(json.dumps(value, ensure_ascii=False, default=str))}"
        for key, value in measures.identity.items()
        if key != "threshold"
    ]
    return "\n".join([f"- threshold, the score from which on it flags: {threshold}", *facts]) + "\n"


def _figures(sets: Sequence[SetMeasures]) -> str:
    headings = ["set", "rows", "prompts", "harmful", "unscored", "AUROC", "balanced accuracy", "sensitivity"]
    headings += ["specificity", "Brier score", "calibration error"]
    rows = [
        [
            measured.name,
            measured.harmful.n,
            measured.prompts,
            measured.harmful,
            measured.unscored,
            _estimate(measured.auroc),
            _estimate(measured.balanced_accuracy),
            measured.sensitivity,
            measured.specificity,
            _number(measured.brier),
            _number(measured.calibration_error),
        ]
        for measured in sets
    ]
    return Table(headings, rows).markdown()


def _bins(measured: SetMeasures) -> str:
    rows = [
        [f"{found.start:.1f} to {found.end:.1f}", found.harmful.n, _number(found.mean_score), found.harmful]
        for found in measured.bins
    ]
    return Table(["score", "rows", "mean score", "harmful"], rows).markdown()


def _mistakes(sets: Sequence[SetMeasures], reveal: bool) -> str:
    note = (
        "The rows on which score and label are furthest apart."
        if reveal
        else "The rows on which score and label are furthest apart. Their texts are not shown: each has its length and the start "
        "of its SHA-256 (of the UTF-8 text)."
    )
    blocks = [f"## Worst mistakes\n\n{note}\n"]
    for measured in sets:
        kinds = {"flagged, labelled harmless": measured.false_positives}
        kinds["not flagged, labelled harmful"] = measured.false_negatives
        for kind, mistakes in kinds.items():
            entries = "".join(_mistake(mistake, reveal) for mistake in mistakes) or "- none\n"
            blocks.append(f"{markdown_text(measured.name)}, {kind}:\n\n{entries}")
    return "\n".join(blocks)


def _mistake(mistake: Mistake, reveal: bool) -> str:
    prompt, response = (
        _code(shortened(text, TEXT_LENGTH)) if reveal else redacted(text) for text in (mistake.prompt, mistake.response)
    )
    return f"- row {_code(mistake.id)}, score {mistake.score:.4g}\n  - prompt: {prompt}\n  - answer: {response}\n"


def _code(text: str) -> str:
    """Return text as a Markdown code span, in which nothing acts: line ends are shown, the fence is longer than any in it."""
    line = visible(text).replace("\n", "⏎").replace("\t", " ")
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}"


def _estimate(estimate: Estimate) -> str | None:
    if estimate.value is None:
        return None
    interval = "" if estimate.lower is None else f" ({estimate.lower:.3f}-{estimate.upper:.3f})"
    return f"{estimate.value:.3f}{interval}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
