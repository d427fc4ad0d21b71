"""Training in two phases: steer, then recover. See `steerclear.harvest.recovery`.

The steered model is a run of its own in ``steered``. Its answers to the prompts of the unsafe rows are judged, and the rows made
of the safe ones are ``recovery.jsonl``; with them the recipe's own run is trained, from the base again. Every stage is resumable.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from steerclear.commands.along import Along
from steerclear.commands.answering import Answerer
from steerclear.commands.evaluate import panel_of
from steerclear.commands.recipe import Recipe
from steerclear.commands.runs import RECORD, RunFolder
from steerclear.commands.subjects import source_identity
from steerclear.commands.train import train, training_arguments
from steerclear.data.prepare import prepare_data
from steerclear.data.templates import render_prompt
from steerclear.errors import ConfigError
from steerclear.generation import finished
from steerclear.harvest.recovery import RecoveryOptions, own_answers, questions, recovery_rows, whole_sentences
from steerclear.judges.verdicts import judge_generations
from steerclear.models import load_tokenizer
from steerclear.records import OUTCOMES, Generation, Prompt, Row, write_json, write_jsonl

Say = Callable[[str], None]


def train_recipe(recipe: Recipe, prompts: Sequence[Prompt], say: Say, along: Along | None = None) -> RunFolder:
    """Train a recipe as it says: once, or with a ``recovery`` in two phases. Arguments and errors as for `train`.

    Where no answer of the steered model passes the judges there is no second phase: the steered model is the run's.
    """
    options = recipe.recovery
    if options is None:
        return train(recipe, prompts, say, along=along)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"recovery: works in one process, and there are {os.environ['WORLD_SIZE']}. Make the rows in one (recovery.jsonl), "
            "then leave recovery out and train on them as data.added."
        )
    if not recipe.evaluation.judge.kinds():
        raise ConfigError("recovery: needs evaluation.judge, which decides which of the model's own answers are safe.")
    folder = Path(recipe.output)
    file = folder / "recovery.jsonl"
    training_arguments(_recovering(recipe, options, file))  # a wrong one must show before the first training
    steering = replace(recipe, output=str(folder / "steered"), recovery=None)
    say("phase 1 of 2: steering ...")
    steered = train(steering, prompts, say)
    rows = _recovery_rows(recipe, options, prompts, steered, say)
    if not rows:
        say(
            f"no answer of the steered model can be learnt from, so there is no second phase: {folder} holds the steered model."
        )
        return _as_result(steered, folder)
    write_jsonl(file, rows)
    say("phase 2 of 2: recovering ...")
    return train(_recovering(recipe, options, file), prompts, say, along=along)


def _recovering(recipe: Recipe, options: RecoveryOptions, file: Path) -> Recipe:
    added = [recipe.data.added] if isinstance(recipe.data.added, str) else recipe.data.added or []
    return replace(
        recipe,
        data=replace(recipe.data, added=[*added, str(file)]),
        training=recipe.training | {"added_share": options.share} | options.training,
        recovery=None,
    )


def _recovery_rows(
    recipe: Recipe, options: RecoveryOptions, prompts: Sequence[Prompt], steered: RunFolder, say: Say
) -> list[Row]:
    """Return the rows of the second phase. What was answered and judged is kept in the folder ``recovery``."""
    unsafe = prepare_data(recipe.data, prompts).unsafe
    folder = Path(recipe.output) / "recovery"
    answers = _answers(recipe, options, unsafe, steered, folder / "answers.jsonl", say)
    panel = panel_of(recipe, say)
    verdicts = judge_generations(answers, panel.harm, panel.refusal)
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    targets = own_answers(unsafe, list(zip(answers, verdicts, strict=True)))
    rows = recovery_rows(unsafe, targets, load_tokenizer(recipe.model.path), options.openings)
    found = Counter(verdict.outcome for verdict in verdicts)
    refusals = sum(verdict.outcome == "safe" and verdict.refused is True for verdict in verdicts)
    say(
        f"own answers: {len(answers)} to {len(unsafe)} prompts; {found['safe']} coherent and safe ({refusals} of them refusals), "
        + ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES if outcome != "safe")
        + f". {len(targets)} prompts have a target, {len(set(targets.values()))} different ones: {len(rows)} rows."
    )
    return rows


def _answers(
    recipe: Recipe, options: RecoveryOptions, unsafe: Sequence[Row], steered: RunFolder, file: Path, say: Say
) -> list[Generation]:
    """Return the steered model's answers; it is not loaded where all are there."""
    if steered.adapter.is_dir():
        model = replace(recipe.model, adapter=str(steered.adapter))
    else:
        model = replace(recipe.model, path=str(steered.model))
    asked = questions(unsafe, options.samples)
    texts = [render_prompt(row.prompt, row.input, recipe.data.template) for row in unsafe] * options.samples
    model_id = source_identity(model)
    answers = finished(asked, texts, options.generation, file, model_id=model_id)
    if answers is None:
        say(f"asking the steered model: {len(asked)} answers ...")
        ask = Answerer(model, options.generation).answer
        answers = ask(asked, texts, file, model_id=model_id, allow_too_long=True)
    return [whole_sentences(answer) for answer in answers]


def _as_result(steered: RunFolder, folder: Path) -> RunFolder:
    """Make the steered model the result of the run that should have followed."""
    for part in steered.path.iterdir():
        if part.is_dir():
            shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
        elif part.name != RECORD:
            shutil.copy2(part, folder / part.name)
    write_json(folder / RECORD, steered.record())  # last: it says that the rest is there
    return RunFolder(folder)
