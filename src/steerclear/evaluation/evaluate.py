"""`steerclear evaluate`: ask models the suites' prompts, judge their answers, measure what they still can, count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from steerclear.attacks.attacking import attack_judges, attack_model, check_attacks, goals_of
from steerclear.config import dump_yaml, to_tree
from steerclear.data.templates import begin_answer, render_prompt
from steerclear.errors import ConfigError, Log, SteerClearError
from steerclear.evaluation.cards import PROMPT_METRICS
from steerclear.evaluation.evaluated_model import Answering, answering_of, local_answering
from steerclear.evaluation.multiple_choice import check_documents
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.quality import measure_quality
from steerclear.evaluation.results import EVALUATION
from steerclear.evaluation.scores import score, score_lines
from steerclear.evaluation.suites import load_rows, load_suite
from steerclear.evaluation.targets import EvalTarget, target_in, targets_of
from steerclear.judges.opening import Judges, cache_folder, open_judges
from steerclear.judges.verdicts import judge_generations
from steerclear.recipe.train import EvaluationSection, Recipe
from steerclear.records import (
    PREFILL,
    Generation,
    Messages,
    Prompt,
    Verdict,
    whole_prompt,
    write_json,
    write_jsonl,
    write_text,
)
from steerclear.stats.agreement import agreement
from steerclear.store.runs import RunFolder
from steerclear.training.evaluation_callback import EvalStep
from steerclear.training.ranks import launched_processes
from steerclear.training.trackers import tell_final_scores, trackers_in
from steerclear.training.train import training_arguments


def evaluation_prompts(options: EvaluationSection) -> list[Prompt]:
    """Return the prompts that must not be among the training rows: those of all suites and attacks, perplexity's with inputs.

    Raises:
        DataError: a suite's file is missing or wrong.
    """
    prompts = []
    for suite in options.suites:
        if suite.metric in PROMPT_METRICS:
            prompts += load_suite(suite)
        elif suite.metric == "perplexity":
            prompts += [Prompt(id=row.id, suite=suite.name, prompt=whole_prompt(row)) for row in load_rows(suite)]
    if options.attacks is not None:
        prompts += [goal.prompt for goal in goals_of(options.attacks)]
    return prompts


def evaluate(
    recipe: Recipe, log: Log, checkpoint: str = "final", *, stage: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Evaluate one model and return its scores; see `evaluate_all`.

    Args:
        stage: told when a stage begins: ``attack``, ``generate``, ``judge``, ``score``.
    """
    check_suites(recipe)
    [target] = targets_of(recipe, [checkpoint])
    return _evaluate_target(recipe, target, judges_of(recipe, log), log, stage)


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
    check_suites(recipe)
    targets = targets_of(recipe, checkpoints)
    judges = judges_of(recipe, log)
    evaluated, failed = [], {}
    for target in targets:
        try:
            evaluated.append((target, _evaluate_target(recipe, target, judges, log)))
        except SteerClearError as error:
            failed[target.name] = str(error)
    return evaluated, failed


def evaluate_into(recipe: Recipe, folder: str, results: Path, judges: Judges, log: Log) -> dict[str, Any]:
    """Evaluate the adapter or model in a folder, and put the results into another."""
    return _evaluate_target(recipe, target_in(recipe, folder, results, folder), judges, log)


def judges_of(recipe: Recipe, log: Log) -> Judges:
    """Open the recipe's judges.

    Raises:
        SteerClearError: a judge cannot be opened.
    """
    judges = open_judges(recipe.evaluation, cache_folder(recipe.evaluation, recipe.output), log)
    attacks = recipe.evaluation.attacks
    if attacks is None or attacks.judge is None:
        return judges
    return replace(judges, under_attack=attack_judges(recipe, log))


def check_suites(recipe: Recipe) -> None:
    """Find a wrong suite or attack before anything is asked.

    Raises:
        SteerClearError: there is none, or a file is missing, wrong, or not its card's.
    """
    if not recipe.evaluation.is_any:
        raise ConfigError("evaluation.suites: is empty; name at least one file of prompts, or a card; or attacks.")
    evaluation_prompts(recipe.evaluation)
    if recipe.evaluation.attacks is not None:
        check_attacks(recipe)
    for suite in recipe.evaluation.suites:
        if suite.metric == "multiple_choice":
            check_documents(suite)


def eval_step_of(recipe: Recipe, log: Log) -> EvalStep | None:
    """Return what evaluates the live model of a training at a step into a folder; None where the recipe does not want it."""
    if not recipe.evaluation.every_steps:
        return None
    if launched_processes() > 1:
        raise ConfigError(
            "evaluation.every_steps: evaluating while training works in one process, and there are "
            f"{launched_processes()}. Leave it out, and evaluate the checkpoints afterwards with 'steerclear curve'."
        )
    while_training = _while_training(recipe)
    check_suites(while_training)
    judges = judges_of(while_training, log)

    def at_step(model: Any, tokenizer: Any, folder: Path, step: int) -> dict[str, Any]:
        # The folder's answers are this step's of this run, as a run's training is repeated to the bit.
        answering = local_answering(while_training, model, tokenizer, f"step {step}")
        return evaluate_model(while_training, answering, judges, folder, log)

    return at_step


def _while_training(recipe: Recipe) -> Recipe:
    """Return the recipe for a model in training: prompts to answer only, and an attention that is left as it is."""
    evaluation = recipe.evaluation
    suites = [suite for suite in evaluation.suites if suite.metric in PROMPT_METRICS]
    generation = replace(evaluation.generation, cache="dynamic")
    return replace(
        recipe, evaluation=replace(evaluation, suites=suites, generation=generation, win_rate=None, attacks=None)
    )


def _evaluate_target(
    recipe: Recipe, target: EvalTarget, judges: Judges, log: Log, stage: Callable[[str], None] | None = None
) -> dict[str, Any]:
    answering = answering_of(recipe, target)
    if recipe.evaluation.attacks is not None:  # first, as the scores say that the evaluation is whole
        if stage is not None:
            stage("attack")
        attack_model(recipe, target, answering, judges.under_attack or judges, log)
    scores = evaluate_model(recipe, answering, judges, target.folder, log, stage)
    run = RunFolder(Path(recipe.output))
    if target.folder == run.path and trackers_in(recipe.training.get("report_to")) and (step := run.step()) is not None:
        tell_final_scores(training_arguments(recipe), run.path, step, scores)
    return scores


def evaluate_model(
    recipe: Recipe,
    answering: Answering,
    judges: Judges,
    folder: Path,
    log: Log,
    stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Evaluate one model into a folder: generations, verdicts, second-opinions, quality, and the scores with their options.

    The scores are those of `steerclear.evaluation.scores.score`, with ``second_opinions`` and ``quality`` where there are any.
    """
    enter = stage or (lambda _: None)
    enter("generate")
    asked = [suite for suite in recipe.evaluation.suites if suite.metric in PROMPT_METRICS]
    answers = {suite.name: _answers(recipe, suite, answering, folder) for suite in asked}
    enter("judge")
    verdicts = []
    for name, given in answers.items():
        judged = judge_generations(given, judges.harm, judges.refusal)
        write_jsonl(folder / "verdicts" / f"{name}.jsonl", judged)
        verdicts += judged
    enter("score")
    scores = score(verdicts, judges.errors)
    if judges.second_opinions:
        scores["second_opinions"] = _second_opinions(answers, verdicts, judges, folder)
    quality = measure_quality(recipe, answering.weights, answering.id, answers, folder / "quality", log)
    if quality:
        scores["quality"] = quality
    write_text(folder / "scores.md", score_lines(scores))
    write_text(folder / EVALUATION, dump_yaml(to_tree(recipe.evaluation)))
    write_json(folder / "scores.json", scores)  # last: it says that the evaluation is whole
    return scores


def _answers(recipe: Recipe, suite: SuiteOptions, answering: Answering, folder: Path) -> list[Generation]:
    prompts = load_suite(suite)
    rendered = [_rendered(prompt, suite.template or recipe.data.template) for prompt in prompts]
    return answering.answer(prompts, rendered, folder / "generations" / f"{suite.name}.jsonl")


def _rendered(prompt: Prompt, template: str) -> str | Messages:
    rendered = render_prompt(prompt.prompt, "", template)
    return begin_answer(rendered, prompt.tags[PREFILL]) if PREFILL in prompt.tags else rendered


def _second_opinions(
    answers: dict[str, list[Generation]], first: Sequence[Verdict], judges: Judges, folder: Path
) -> list[dict[str, Any]]:
    """Return, for each other judge, its rates and how far its flags agree with those of the first judge."""
    opinions = []
    for number, judge in enumerate(judges.second_opinions, start=1):
        verdicts = []
        for name, given in answers.items():
            judged = judge_generations(given, judge, judges.refusal)
            write_jsonl(folder / "second-opinions" / str(number) / f"{name}.jsonl", judged)
            verdicts += judged
        flags = agreement([v.flagged for v in first], [v.flagged for v in verdicts])
        opinions.append({"judge": judge.name, "scores": score(verdicts), "agreement": asdict(flags)})
    return opinions
