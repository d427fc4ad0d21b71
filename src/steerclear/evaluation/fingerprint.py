"""What an evaluation's files hold: the same paths with other prompts or another judge give figures that do not compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear.evaluation.options import EvaluationOptions
from steerclear.generation.chat import chat_model_identity
from steerclear.judges.options import JudgeOptions
from steerclear.records import Prompt, sha256_of, sha256_of_file
from steerclear.store.runs import model_fingerprint


def evaluation_fingerprint(
    options: EvaluationOptions, prompts: Sequence[Prompt], attack_judge: JudgeOptions | None = None
) -> dict[str, Any]:
    """Return hashes of what an evaluation reads: ``{"prompts": {suite: hash}, "judges": hash}``.

    A judge that is fitted on rows is known by these, as it has no file before its first use; any other by its own file.

    Args:
        prompts: all that is asked.
        attack_judge: who judges answers under attack, where that is another.

    Raises:
        SteerClearError: a judge's file is missing or wrong.
    """
    suites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt in prompts:
        suites[prompt.suite].append(asdict(prompt))
    return {
        "prompts": {name: sha256_of(asked) for name, asked in suites.items()},
        "judges": sha256_of(_judges(options, attack_judge)),
    }


def _judges(options: EvaluationOptions, attack_judge: JudgeOptions | None) -> list[Any]:
    refusal = options.refusal
    return [
        _judge(options.judge),
        [_judge(other) for other in options.second_opinions],
        *([] if attack_judge is None else [_judge(attack_judge)]),
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
