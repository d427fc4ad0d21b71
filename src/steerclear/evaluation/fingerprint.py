"""What an evaluation's files hold: the same paths with other prompts or another judge give figures that do not compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear.attacks.attacking import attack_fingerprints
from steerclear.evaluation.evaluate import evaluation_prompts
from steerclear.generation.chat import chat_model_identity
from steerclear.judges.options import JudgeOptions
from steerclear.recipe.train import EvaluationSection, Recipe
from steerclear.records import Prompt, sha256_of, sha256_of_file
from steerclear.store.runs import model_fingerprint


def evaluation_fingerprint(recipe: Recipe, prompts: Sequence[Prompt] | None = None) -> dict[str, Any]:
    """Return hashes of what a recipe's evaluation reads.

    ``{"prompts": {suite: hash}, "judges": hash}``, and ``{"attacks": {attack: hash}}`` where there are any.

    A judge that is fitted on rows is known by these, as it has no file before its first use; any other by its own file.

    Args:
        prompts: what `evaluation_prompts` returned, where it is at hand.

    Raises:
        SteerClearError: a suite's or a judge's file is missing or wrong.
    """
    suites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt in evaluation_prompts(recipe.evaluation) if prompts is None else prompts:
        suites[prompt.suite].append(asdict(prompt))
    attacks = recipe.evaluation.attacks
    return {
        "prompts": {name: sha256_of(asked) for name, asked in suites.items()},
        **({} if attacks is None else {"attacks": attack_fingerprints(attacks)}),
        "judges": sha256_of(_judges(recipe.evaluation)),
    }


def _judges(options: EvaluationSection) -> list[Any]:
    refusal = options.refusal
    return [
        _judge(options.judge),
        [_judge(other) for other in options.second_opinions],
        *([_judge(options.attacks.judge)] if options.attacks is not None and options.attacks.judge is not None else []),
        refusal and _fitted(refusal.model, refusal.fit_on),
    ]


def _judge(options: JudgeOptions) -> list[Any]:
    return [
        options.classifier and _fitted(options.classifier, options.fit_on),
        options.reward and model_fingerprint(options.reward.model),
        options.guard and model_fingerprint(options.guard.model),
        options.rating and chat_model_identity(options.rating),
        options.labelled and sha256_of_file(Path(options.labelled)),
    ]


def _fitted(file: str, fit_on: str | None) -> str:
    has_rows = fit_on is not None and Path(fit_on).is_file()
    return sha256_of_file(Path(str(fit_on) if has_rows else file))
