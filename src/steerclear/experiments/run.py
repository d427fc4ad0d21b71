"""One run of a recipe: train, attack what was trained, evaluate it, and tell the trackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steerclear.attacks.attacking import (
    attack_fingerprints,
    attack_judges,
    attack_model,
    check_attacks,
    goals_of,
)
from steerclear.errors import ConfigError, Log, SteerClearError
from steerclear.evaluation.cards import PROMPT_METRICS
from steerclear.evaluation.evaluate import check_suites, evaluate_model
from steerclear.evaluation.evaluated_model import answering_of, local_answering
from steerclear.evaluation.suites import held_out_prompts, prompt_hashes
from steerclear.evaluation.targets import EvalTarget, model_in, targets_of
from steerclear.judges.opening import Judges, cache_folder, judges_fingerprint, open_judges
from steerclear.recipe.train import EvaluationSection, Recipe
from steerclear.records import Prompt
from steerclear.store.runs import RunFolder
from steerclear.training.evaluation_callback import EvalStep
from steerclear.training.ranks import launched_processes
from steerclear.training.recovery import train_recipe
from steerclear.training.trackers import tell_final_scores, trackers_in
from steerclear.training.train import training_arguments

Stage = Callable[[str], None]
"""Told when a stage begins: ``attack``, ``generate``, ``judge``, ``score``."""


@dataclass(frozen=True)
class RunJudges:
    """Who judges a run's answers."""

    evaluation: Judges
    attacks: Judges
    """Who judges answers under attack; the same where the recipe names no other."""


def evaluation_prompts(section: EvaluationSection) -> list[Prompt]:
    """Return the prompts that must not be among the training rows: those of all suites and attacks, perplexity's with inputs.

    Raises:
        DataError: a suite's file is missing or wrong.
    """
    goals = [] if section.attacks is None else [goal.prompt for goal in goals_of(section.attacks)]
    return held_out_prompts(section.suites) + goals


def evaluation_fingerprint(section: EvaluationSection, prompts: Sequence[Prompt] | None = None) -> dict[str, Any]:
    """Return hashes of what an evaluation's files hold: the same paths with other prompts or another judge do not compare.

    ``{"prompts": {suite: hash}, "judges": hash}``, and ``{"attacks": {attack: hash}}`` where there are any.

    Args:
        prompts: what `evaluation_prompts` returned, where it is at hand.

    Raises:
        SteerClearError: a suite's or a judge's file is missing or wrong.
    """
    attacks = section.attacks
    return {
        "prompts": prompt_hashes(evaluation_prompts(section) if prompts is None else prompts),
        **({} if attacks is None else {"attacks": attack_fingerprints(attacks)}),
        "judges": judges_fingerprint(section, None if attacks is None else attacks.judge),
    }


def train_run(recipe: Recipe, log: Log, eval_step: EvalStep | None = None) -> RunFolder:
    """Train a recipe, evaluating on the way where it says so, or continue; what is trained is not trained again.

    Args:
        eval_step: what evaluates a step in place of the recipe's own evaluation.

    Raises:
        SteerClearError: the recipe, its data or a model is wrong.
    """
    prompts = evaluation_prompts(recipe.evaluation)
    return train_recipe(recipe, prompts, log, eval_step=eval_step or eval_step_of(recipe, log))


def evaluate_run(recipe: Recipe, log: Log, *, stage: Stage | None = None) -> dict[str, Any]:
    """Evaluate what a run trained, and return its scores; see `evaluate_all`."""
    check_evaluation(recipe)
    [target] = targets_of(recipe.model, Path(recipe.output), ["final"])
    return evaluate_target(recipe, target, open_run_judges(recipe, log), log, stage)


def evaluate_all(
    recipe: Recipe, checkpoints: Sequence[str], log: Log
) -> tuple[list[tuple[EvalTarget, dict[str, Any]]], dict[str, str]]:
    """Evaluate models on the recipe's suites; answers, verdicts and scores land in their folders.

    What was finished before, by this command or a killed one, is not done again. One model that fails does not stop the others.

    Args:
        checkpoints: each ``final`` (what the run trained, or the recipe's ``model.adapter``), ``base``, a folder, or
            ``NAME=FOLDER``.

    Returns the evaluated models with their scores, and for each failed one its error's text.

    Raises:
        SteerClearError: no suite, nothing trained yet, no such folder, or a judge cannot be opened.
    """
    check_evaluation(recipe)
    targets = targets_of(recipe.model, Path(recipe.output), checkpoints)
    judges = open_run_judges(recipe, log)
    evaluated, failed = [], {}
    for target in targets:
        try:
            evaluated.append((target, evaluate_target(recipe, target, judges, log)))
        except SteerClearError as error:
            failed[target.name] = str(error)
    return evaluated, failed


def evaluate_into(recipe: Recipe, folder: str, results: Path, judges: RunJudges, log: Log) -> dict[str, Any]:
    """Evaluate the adapter or model in a folder, and put the results into another."""
    target = EvalTarget(name=folder, model=model_in(recipe.model, folder), folder=results)
    return evaluate_target(recipe, target, judges, log)


def check_evaluation(recipe: Recipe) -> None:
    """Find a wrong suite or attack before anything is asked.

    Raises:
        SteerClearError: there is none, or a file is missing, wrong, or not its card's.
    """
    if not recipe.evaluation.is_any:
        raise ConfigError("evaluation.suites: is empty; name at least one file of prompts, or a card; or attacks.")
    check_suites(recipe.evaluation.suites)
    if recipe.evaluation.attacks is not None:
        check_attacks(recipe)


def open_run_judges(recipe: Recipe, log: Log) -> RunJudges:
    """Open the recipe's judges.

    Raises:
        SteerClearError: a judge cannot be opened.
    """
    judges = open_judges(recipe.evaluation, cache_folder(recipe.evaluation, recipe.output), log)
    attacks = recipe.evaluation.attacks
    return RunJudges(judges, judges if attacks is None or attacks.judge is None else attack_judges(recipe, log))


def evaluate_target(
    recipe: Recipe, target: EvalTarget, judges: RunJudges, log: Log, stage: Stage | None = None
) -> dict[str, Any]:
    """Attack a model where the recipe says so, evaluate it, and tell the trackers of the run that trained it."""
    model = answering_of(target.model)
    if recipe.evaluation.attacks is not None:  # first, as the scores say that the evaluation is whole
        if stage is not None:
            stage("attack")
        attack_model(recipe, target, model, judges.attacks, log)
    scores = evaluate_model(
        model,
        recipe.evaluation,
        judges.evaluation,
        target.folder,
        log,
        template=recipe.data.template,
        max_length=_max_length(recipe),
        stage=stage,
    )
    run = RunFolder(Path(recipe.output))
    if target.folder == run.path and trackers_in(recipe.training.get("report_to")) and (step := run.step()) is not None:
        tell_final_scores(training_arguments(recipe), run.path, step, scores)
    return scores


def _max_length(recipe: Recipe) -> int | None:
    """Return the longest row of the training, which perplexity alone asks for."""
    measured = any(suite.metric == "perplexity" for suite in recipe.evaluation.suites)
    return training_arguments(recipe).max_length if measured else None


def eval_step_of(recipe: Recipe, log: Log) -> EvalStep | None:
    """Return what evaluates the live model of a training at a step into a folder; None where the recipe does not want it."""
    if not recipe.evaluation.every_steps:
        return None
    if launched_processes() > 1:
        raise ConfigError(
            "evaluation.every_steps: evaluating while training works in one process, and there are "
            f"{launched_processes()}. Leave it out, and evaluate the checkpoints afterwards with 'steerclear curve'."
        )
    section = _while_training(recipe.evaluation)
    check_evaluation(replace(recipe, evaluation=section))
    judges = open_judges(section, cache_folder(section, recipe.output), log)

    def at_step(model: Any, tokenizer: Any, folder: Path, step: int) -> dict[str, Any]:
        # The folder's answers are this step's of this run, as a run's training is repeated to the bit.
        answering = local_answering(model, tokenizer, f"step {step}")
        return evaluate_model(answering, section, judges, folder, log, template=recipe.data.template)

    return at_step


def _while_training(section: EvaluationSection) -> EvaluationSection:
    """Return the evaluation of a model in training: prompts to answer only, and an attention that is left as it is."""
    suites = [suite for suite in section.suites if suite.metric in PROMPT_METRICS]
    generation = replace(section.generation, cache="dynamic")
    return replace(section, suites=suites, generation=generation, win_rate=None, attacks=None)
