"""`steerclear judge score`, `fit-refusal` and `card`: verdicts on answers, fitting, and how well a judge does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import ConfigError, DataError, Log
from steerclear.evaluation.scores import Scores, score
from steerclear.judges.base import HarmJudge
from steerclear.judges.cache import CachedJudge
from steerclear.judges.labelled import read_rows
from steerclear.judges.measures import Accuracy, judge_accuracy, measure_judge
from steerclear.judges.opening import harm_judge, refusal_judge
from steerclear.judges.options import JudgeOptions, RefusalOptions
from steerclear.judges.verdicts import judge_generations
from steerclear.records import Generation, read_jsonl, read_records, write_jsonl, write_text
from steerclear.report.judge_card import make_card

NO_JUDGE_NAMED = (
    "judge: none is named. Give --classifier FILE, --guard.model MODEL, --reward.model MODEL, --rating.model.path MODEL or "
    "--moderation.endpoint.model NAME."
)


@dataclass(frozen=True)
class Scored:
    """Either the scores of answers or the judge's accuracy on labelled rows."""

    scores: Scores | None = None
    accuracy: Accuracy | None = None


def score_file(
    answers: Path, judge: JudgeOptions, output: Path | None, log: Log, refusal_model: str | None = None
) -> Scored:
    """Judge a file of answers, or measure the judge on a file whose rows have ``is_safe``.

    With an ``output`` the judge's scores are kept beside it as they come, so a killed run judges nothing twice.

    Raises:
        DataError: the file is neither.
        SteerClearError: the judge cannot be used.
    """
    opened = _open(judge, output, log)
    first = next((value for _, value in read_jsonl(answers)), {})
    if "is_safe" in first:
        return Scored(accuracy=judge_accuracy(opened, read_rows(answers)))
    refusal = refusal_judge(RefusalOptions(model=refusal_model), log) if refusal_model is not None else None
    verdicts = judge_generations(read_records(answers, Generation), opened, refusal)
    if output is not None:
        write_jsonl(output, verdicts)
    return Scored(scores=score(verdicts))


def _open(judge: JudgeOptions, output: Path | None, log: Log) -> HarmJudge:
    if not judge.kinds():
        raise ConfigError(NO_JUDGE_NAMED)
    opened = harm_judge(judge, log)
    return opened if output is None else CachedJudge(opened, output.parent / "judge-cache")


def card(
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
    if not judge.kinds():
        raise ConfigError(NO_JUDGE_NAMED)
    plot = output.with_suffix(".svg")
    made = make_card(measure_judge(harm_judge(judge, log), sets), plot=plot.name, about=about, reveal=reveal)
    write_text(output, made.markdown)
    if made.svg is None:
        return None
    write_text(plot, made.svg)
    return plot
