"""`steerclear evaluate`: ask the model the suites' prompts, judge its answers, count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from steerclear.commands.recipe import JudgeOptions, Recipe
from steerclear.commands.runs import RunFolder
from steerclear.commands.train import model_identity
from steerclear.data.templates import render_prompt
from steerclear.errors import ConfigError
from steerclear.evaluation.scores import score
from steerclear.evaluation.suites import load_suite
from steerclear.generation import generate
from steerclear.judges import classifier
from steerclear.judges.base import HarmJudge
from steerclear.judges.verdicts import judge_generations
from steerclear.models import load_model
from steerclear.records import Prompt, write_json, write_jsonl

Say = Callable[[str], None]


def evaluation_prompts(recipe: Recipe) -> list[Prompt]:
    """Return the prompts of all suites of the recipe.

    Raises:
        DataError: a suite's file is missing or wrong.
    """
    return [prompt for suite in recipe.evaluation.suites for prompt in load_suite(suite)]


def evaluate(recipe: Recipe, say: Say, checkpoint: str = "final") -> dict[str, Any]:
    """Evaluate a model on the recipe's suites and return its scores; answers and verdicts land in the run's folder.

    Args:
        checkpoint: ``final`` (what the run trained, or the recipe's ``model.adapter``), ``base``, or an adapter's folder.

    Raises:
        SteerClearError: no suite, nothing trained yet, or a wrong file.
    """
    if not recipe.evaluation.suites:
        raise ConfigError("evaluation.suites: is empty; name at least one file of prompts.")
    run = RunFolder(Path(recipe.output))
    path, adapter, folder = _what_to_load(recipe, run, checkpoint)
    judge = harm_judge(recipe.evaluation.judge, say)
    model, tokenizer = load_model(path, adapter, dtype=recipe.model.dtype)
    model_id = model_identity(path, adapter)
    verdicts = []
    for suite in recipe.evaluation.suites:
        prompts = load_suite(suite)
        rendered = [render_prompt(prompt.prompt, "", recipe.data.template) for prompt in prompts]
        file = folder / "generations" / f"{suite.name}.jsonl"
        answers = generate(model, tokenizer, prompts, rendered, recipe.evaluation.generation, file, model_id=model_id)
        judged = judge_generations(answers, judge)
        write_jsonl(folder / "verdicts" / f"{suite.name}.jsonl", judged)
        verdicts += judged
    scores = score(verdicts)
    write_json(folder / "scores.json", scores)
    return scores


def _what_to_load(recipe: Recipe, run: RunFolder, checkpoint: str) -> tuple[str, str | None, Path]:
    """Return the model's path, the adapter's path, and the folder for the results."""
    if checkpoint == "base":
        return recipe.model.path, None, run.path / "base"
    if checkpoint != "final":
        return recipe.model.path, checkpoint, run.path / f"of-{Path(checkpoint).name}"
    if recipe.model.adapter is not None:
        return recipe.model.path, recipe.model.adapter, run.path
    if run.model.is_dir():
        return str(run.model), None, run.path
    if run.adapter.is_dir():
        return recipe.model.path, str(run.adapter), run.path
    raise ConfigError(
        f"output: {run.path} has no trained model yet. Run 'steerclear train' with this recipe first, set model.adapter, or "
        "evaluate the base model with --checkpoint base."
    )


def harm_judge(options: JudgeOptions, say: Say) -> HarmJudge | None:
    """Return the recipe's harm judge, fitted first where its file does not exist yet; None where none is named.

    Raises:
        ConfigError: the file does not exist and there is nothing to fit it on.
    """
    if options.classifier is None:
        say("no harm judge (evaluation.judge.classifier): every answer will be unscored.")
        return None
    file = Path(options.classifier)
    if not file.exists():
        if options.fit_on is None:
            raise ConfigError(
                f"evaluation.judge.classifier: {file} does not exist. Fit one with "
                f"'steerclear judge fit ROWS --output {file}', or "
                "set evaluation.judge.fit_on."
            )
        say(f"fitting the harm judge on {options.fit_on} ...")
        classifier.fit(classifier.read_rows(Path(options.fit_on))).save(file)
    return classifier.ClassifierJudge.load(file)
