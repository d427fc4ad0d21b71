"""What an evaluated folder holds, read back without opening a model or a judge: scores, answers, the points of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerclear.errors import DataError
from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import HOLDS, Cell, Scores
from steerclear.records import Generation, Verdict, read_json, read_records
from steerclear.store.runs import RunFolder

EVALUATION = "evaluation.yaml"
"""File beside the scores with the options of their evaluation. Those in a run's ``config.yaml`` are of its training."""

OF = "of.txt"
"""File in a step's folder with the path of a checkpoint that lies elsewhere."""


def is_evaluated(folder: Path) -> bool:
    """Return whether an evaluation into the folder was finished: its scores are the last file that it writes."""
    return (folder / "scores.json").is_file()


def read_scores(folder: Path) -> Scores:
    """Return the scores of an evaluated model.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    file = folder / "scores.json"
    content = read_json(file)
    try:
        return Scores.from_json(content)
    except DataError as error:
        raise DataError(f"{file}: not the scores of 'steerclear evaluate': {error} Evaluate it again.") from error


def read_answers(folder: Path) -> list[tuple[Generation, Verdict]]:
    """Return the answers of an evaluated model with their verdicts, suite by suite.

    Raises:
        DataError: a file is missing or broken, answers and verdicts are not of the same prompts, or the scores are not those of
            the verdicts: a later evaluation was killed before it had counted.
    """
    pairs: list[tuple[Generation, Verdict]] = []
    scores = read_scores(folder)
    for suite, counted in scores.suites.items():
        given = read_records(folder / "generations" / f"{suite}.jsonl", Generation)
        judged = read_records(folder / "verdicts" / f"{suite}.jsonl", Verdict)
        if [answer.id for answer in given] != [verdict.id for verdict in judged]:
            raise DataError(
                f"{folder}: answers and verdicts of '{suite}' are not of the same prompts. Evaluate it again."
            )
        if not _are_counted(judged, counted.all):
            raise DataError(f"{folder}: the scores of '{suite}' are not those of its verdicts. Evaluate it again.")
        pairs += zip(given, judged, strict=True)
    judges = sorted({verdict.judge for _, verdict in pairs})
    if judges != scores.judges:
        raise DataError(
            f"{folder}: the scores are by {', '.join(scores.judges)}, the verdicts by {', '.join(judges)}. Evaluate it again."
        )
    return pairs


def _are_counted(verdicts: Sequence[Verdict], cell: Cell) -> bool:
    """Return whether a suite's stored counts, of all metrics that it has, are those of its verdicts."""
    for metric, holds in HOLDS.items():
        counted = [held for held in map(holds, verdicts) if held is not None]
        stored = getattr(cell, metric)
        if stored is not None and (stored.k, stored.n) != (sum(counted), len(counted)):
            return False
    return cell.n == len(verdicts)


def points_of(run: RunFolder) -> list[Checkpoint]:
    """Return what of a training was evaluated, by step: the base model (step 0), the steps in ``along``, and the run's end."""
    points = []
    if is_evaluated(run.path / "base"):
        points.append(Checkpoint(step=0, path="", scores=read_scores(run.path / "base")))
    for folder in (run.path / "along").glob("step-*"):
        if folder.name[5:].isdecimal() and is_evaluated(folder):
            points.append(Checkpoint(step=int(folder.name[5:]), path=_weights_of(folder), scores=read_scores(folder)))
    end = run.step()
    if end is not None and is_evaluated(run.path):
        points = [point for point in points if point.step != end]  # a guard may have kept a step that was evaluated too
        points.append(Checkpoint(step=end, path=_weights_of(run.path), scores=read_scores(run.path)))
    return sorted(points, key=lambda point: point.step)


def _weights_of(folder: Path) -> str:
    """Return where a point's weights lie; what is gone is not to be picked."""
    if (folder / OF).is_file():
        return (folder / OF).read_text(encoding="utf-8")
    return next((str(folder / name) for name in ("adapter", "model") if (folder / name).is_dir()), "")
