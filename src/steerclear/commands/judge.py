"""`steerclear judge score`: verdicts on answers, or how well the judge does on labelled rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.evaluation.scores import score
from steerclear.judges import classifier
from steerclear.judges.verdicts import judge_generations
from steerclear.records import Generation, read_jsonl, read_records, write_jsonl


@dataclass(frozen=True)
class Scored:
    """Either the scores of answers or the judge's accuracy on labelled rows."""

    scores: dict[str, Any] | None = None
    accuracy: dict[str, Any] = field(default_factory=dict)


def score_file(answers: Path, judge_file: Path, output: Path | None) -> Scored:
    """Judge a file of answers, or measure the judge on a file whose rows have ``is_safe``.

    Raises:
        DataError: the file is neither.
        ModelError: the classifier cannot be used.
    """
    judge = classifier.ClassifierJudge.load(judge_file)
    first = next((value for _, value in read_jsonl(answers)), {})
    if "is_safe" in first:
        return Scored(accuracy=classifier.evaluate(judge, classifier.read_rows(answers)))
    verdicts = judge_generations(read_records(answers, Generation), judge)
    if output is not None:
        write_jsonl(output, verdicts)
    return Scored(scores=score(verdicts))
