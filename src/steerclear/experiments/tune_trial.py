"""One trial of a search: trained and evaluated in its own run folder, and probed on the way."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from steerclear.config import build
from steerclear.errors import ConfigError, DataError, Log, StorageError
from steerclear.evaluation.results import read_scores
from steerclear.experiments.run import Run
from steerclear.experiments.trials import PRUNED, Figures, Outcome, probe_value, surely_broken
from steerclear.experiments.tune_study import TakenTrial
from steerclear.recipe.train import Recipe
from steerclear.recipe.tune import ProbeOptions, TuneRecipe, Values
from steerclear.store.runs import RunFolder
from steerclear.store.status import explain
from steerclear.training.evaluation_callback import EvalStep

PROBED = ("harmful", "over_refusal")
"""Metrics of the suites that a probe asks."""


class PrunedError(Exception):
    """Ends a trial's training from within; not an error of the user's."""

    def __init__(self, figures: Figures, step: int, reported: float, reason: str) -> None:
        super().__init__(reason)
        self.figures, self.step, self.reported, self.reason = figures, step, reported, reason


def trial_recipe(recipe: TuneRecipe, values: Values, output: Path) -> Recipe:
    """Return the recipe of a trial's values.

    Raises:
        ConfigError: it is wrong.
    """
    with of_the_recipe():
        return build(Recipe, recipe.tree_of(values, output))


@contextmanager
def of_the_recipe() -> Iterator[None]:
    """Name the section that a wrong setting is in."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError("\n".join(f"recipe.{line}" for line in str(error).splitlines())) from error


def trial_folder(recipe: TuneRecipe, number: int) -> Path:
    """Return a trial's run folder."""
    return Path(recipe.output) / "trials" / f"{number:04d}"


def run_trial(recipe: TuneRecipe, taken: TakenTrial, outcomes: Sequence[Outcome], log: Log) -> str:
    """Work on a trial until it is finished, pruned or failed; return why it failed, or an empty text.

    What has been tried with the same values is not trained again.

    Args:
        outcomes: all trials.

    Raises:
        StorageError: the disk is full; the trial is then left for another try.
    """
    twin = next((o for o in outcomes if o.figures is not None and o.values == taken.values), None)
    if twin is not None and twin.figures is not None:
        end = taken.prune if twin.state == PRUNED else taken.complete
        more = {"reason": twin.reason, "step": twin.step, "reported": twin.reported}
        end(twin.figures, same_as=twin.number, seconds=0.0, **more)
        return ""
    start, failure = time.monotonic(), ""

    def seconds() -> float:
        return time.monotonic() - start

    try:
        figures = _figures(recipe, taken, lambda message: log(f"trial {taken.number}: {message}"))
    except PrunedError as pruned:
        shutil.rmtree(RunFolder(trial_folder(recipe, taken.number)).checkpoints, ignore_errors=True)
        more = {"reason": pruned.reason, "step": pruned.step, "reported": pruned.reported}
        taken.prune(pruned.figures, seconds=seconds(), **more)
    except StorageError:
        raise
    except Exception as error:  # libraries raise whatever they like at values that do not fit; the other trials go on
        failure = explain(error)
        taken.fail(reason=failure, seconds=seconds())
    else:
        taken.complete(figures, seconds=seconds())
    _free_memory()
    return failure


def _free_memory() -> None:
    """Let go of the last trial's model before the next one is loaded; a trainer and its callbacks hold each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _figures(recipe: TuneRecipe, taken: TakenTrial, log: Log) -> Figures:
    trained = trial_recipe(recipe, taken.values, trial_folder(recipe, taken.number))
    eval_step = None
    if recipe.probe is not None:
        trained = replace(trained, evaluation=replace(trained.evaluation, every_steps=recipe.probe.every_steps))
        eval_step = _probing(recipe, recipe.probe, trained, taken, log)
    run = Run(trained, log)
    folder = run.train(eval_step)
    return Figures.of(run.evaluate(), folder.record()["stages"]["train"]["heldout_benign_loss"])


def _probing(recipe: TuneRecipe, probe: ProbeOptions, trained: Recipe, taken: TakenTrial, log: Log) -> EvalStep:
    """Return what probes the live model at a step; the steps that an earlier try probed are gone through at once."""
    evaluate_step = Run(probe_recipe(trained, probe), log).eval_step()
    assert evaluate_step is not None

    def look(folder: Path, step: int) -> None:
        figures = Figures.of(read_scores(folder), None)
        value = probe_value(figures, recipe.limits)
        is_worse = taken.is_worse_than_median(value, step)
        reasons = surely_broken(figures, recipe.limits) if step >= probe.warmup_steps else []
        if is_worse:
            reasons.append("worse than the median of the finished trials")
        if reasons:
            raise PrunedError(figures, step, value, f"step {step}: " + ", ".join(reasons))

    def at_step(model: Any, tokenizer: Any, folder: Path, step: int) -> Mapping[str, float]:
        figures = evaluate_step(model, tokenizer, folder, step)
        for weights in ("adapter", "model"):  # of no use to anybody, and they add up over the trials
            shutil.rmtree(folder / weights, ignore_errors=True)
        look(folder, step)
        return figures

    run = RunFolder(Path(trained.output))
    known = sorted(int(file.parent.name.removeprefix("step-")) for file in run.path.glob("along/step-*/scores.json"))
    for step in known:
        with suppress(DataError):  # it has no rate, which the training was told and went on
            look(run.along(step), step)
    return at_step


def probe_recipe(recipe: Recipe, probe: ProbeOptions) -> Recipe:
    """Return the recipe with the suites that a probe asks, each with its sample of prompts."""
    suites = [
        replace(suite, limit=min(suite.limit or probe.prompts, probe.prompts))
        for suite in recipe.evaluation.suites
        if suite.metric in PROBED and not suite.is_prefilled
    ]
    return replace(recipe, evaluation=replace(recipe.evaluation, suites=suites))
