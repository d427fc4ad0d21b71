"""`steerclear curve`: a training through its evaluated steps, as tables and a picture, and the checkpoint to keep."""

from __future__ import annotations

import re
from pathlib import Path

from steerclear.errors import ConfigError, Log
from steerclear.evaluation.curve import Checkpoint, PickLimits, pick
from steerclear.evaluation.results import OF, points_of
from steerclear.experiments.run import Run
from steerclear.recipe.train import Recipe
from steerclear.records import write_json, write_text
from steerclear.report.comparison import warnings_on
from steerclear.report.pictures import curve_figure, svg
from steerclear.report.tables import curve_csv, curve_markdown
from steerclear.store.runs import RunFolder


def curve(
    recipe: Recipe, log: Log, limits: PickLimits, checkpoints: Path | None = None, every: int = 1
) -> tuple[list[Checkpoint], Checkpoint | None]:
    """Write ``curve.md``, ``curve.csv``, ``curve.svg`` and ``picked.json`` into the run's folder.

    The curve has what was evaluated: the base model (step 0) where it was, the steps in ``along``, and the run's end. Returns
    its points in order, and the picked one, None where none is within the limits.

    Args:
        checkpoints: a folder of ``checkpoint-N`` (of any trainer that saves PEFT adapters or models), evaluated first.
        every: take every so many of them, the last one always.

    Raises:
        SteerClearError: nothing was evaluated, no point has the rates that a choice needs, or an evaluation fails.
    """
    run = RunFolder(Path(recipe.output))
    if checkpoints is not None:
        _evaluate_checkpoints(recipe, run, checkpoints, every, log)
    points = points_of(run)
    if not points:
        raise ConfigError(
            f"output: {run.path} has no evaluated steps. Train with evaluation.every_steps, or give --checkpoints FOLDER."
        )
    for warning in warnings_on({f"step {point.step}": point.scores for point in points}):
        log(f"the points do not compare: {warning}")
    write_text(run.path / "curve.csv", curve_csv(points))
    _draw(run, points, None)
    picked = pick(points, limits)
    _draw(run, points, picked)
    write_json(run.path / "picked.json", {"step": picked.step, "path": picked.path} if picked else {})
    return points, picked


def _draw(run: RunFolder, points: list[Checkpoint], picked: Checkpoint | None) -> None:
    write_text(run.path / "curve.md", curve_markdown(points, picked))
    write_text(run.path / "curve.svg", svg(curve_figure(points, picked)))


def _evaluate_checkpoints(recipe: Recipe, run: RunFolder, folder: Path, every: int, log: Log) -> None:
    if recipe.model.endpoint is not None:
        raise ConfigError("checkpoints: model.endpoint serves one model. Give the checkpoints' base as model.path.")
    chosen = _checkpoints(folder, every)
    for step, path in chosen:
        of = run.along(step) / OF
        known = of.read_text(encoding="utf-8") if of.is_file() else ""
        if (known and known != str(path)) or (not known and run.along(step).exists()):
            raise ConfigError(
                f"checkpoints: {run.along(step)} holds step {step} of {known or 'the run itself'}, not of {path}. "
                "Choose another output."
            )
    at_work = Run(recipe, log)
    at_work.check()
    for step, path in chosen:
        log(f"evaluating {path.name} ...")
        write_text(run.along(step) / OF, str(path))
        at_work.evaluate_into(str(path), run.along(step))


def _checkpoints(folder: Path, every: int) -> list[tuple[int, Path]]:
    if every < 1:
        raise ConfigError(f"every: got {every}, allowed: 1 or more.")
    found = sorted(
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    )
    if not found:
        raise ConfigError(f"checkpoints: {folder} has no folder checkpoint-N. Give the trainer's output folder.")
    return found[::-1][::every][::-1]
