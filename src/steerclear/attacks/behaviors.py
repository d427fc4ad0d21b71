"""The behaviors of an attacker: harmful requests, with the unsafe answers that openings are taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steerclear.attacks.options import EvaluationSection
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import held_out_prompts, load_suite, suite_objects
from steerclear.records import GROUP, KIND, Prompt, read_jsonl


@dataclass(frozen=True)
class Behavior:
    """A request that a safe model does not fulfil."""

    prompt: Prompt
    answer: str | None
    """An unsafe answer to it, or the beginning of one."""


def load_behaviors(options: SuiteOptions, answer_field: str | None, by: str | None) -> list[Behavior]:
    """Return the behaviors of a suite.

    Args:
        answer_field: field of the unsafe answer. None: the card's ``fields.unsafe``.
        by: field of the category. None: the suite's ``by``.

    Raises:
        ConfigError: the suite is not one of harmful requests, or is prefilled.
        DataError: as `steerclear.evaluation.suites.load_suite`, or a behavior lacks one of the fields.
    """
    card = options.own_card
    if options.metric != "harmful" or options.is_prefilled:
        raise ConfigError(
            "behaviors: allowed: a suite of harmful requests, without a prefill, which is an attack itself."
        )
    field = answer_field or (card.fields.unsafe if card else None)
    objects = {name: (place, value) for place, name, value in suite_objects(options, card)}
    behaviors = []
    for prompt in load_suite(options):
        place, value = objects[prompt.id]
        for wanted in filter(None, (field, by)):
            if not isinstance(value.get(wanted), str):
                raise DataError(f"{place}: no text in '{wanted}': got the fields {', '.join(value)}.")
        tags = prompt.tags | ({GROUP: value[by]} if by else {})
        behaviors.append(Behavior(replace(prompt, tags=tags), value[field] if field else None))
    benign = [behavior for behavior in behaviors if behavior.prompt.tags[KIND] != "harmful"]
    if benign:
        raise ConfigError(f"behaviors: {len(benign)} of {len(behaviors)} are benign. Give harmful requests alone.")
    return behaviors


def with_answers(behaviors: Sequence[Behavior], file: Path) -> list[Behavior]:
    """Return the behaviors with the answers of a file of generations, by id; one without an answer there has none.

    Raises:
        DataError: the file cannot be read, or answers none of the behaviors.
    """
    answers = {str(value.get("id")): value.get("response") for _, value in read_jsonl(file)}
    found = [replace(behavior, answer=str(answers.get(behavior.prompt.id) or "") or None) for behavior in behaviors]
    if all(behavior.answer is None for behavior in found):
        raise DataError(
            f"{file}: has no answer ('id', 'response') to any of the {len(behaviors)} behaviors. Check the file."
        )
    return found


def all_prompts(evaluation: EvaluationSection) -> list[Prompt]:
    """Return the prompts of suites and attacks, which must not be among the training rows.

    Raises:
        SteerClearError: a suite's file is missing or wrong.
    """
    prompts, attacks = held_out_prompts(evaluation.suites), evaluation.attacks
    if attacks is None:
        return prompts
    return prompts + [
        behavior.prompt for behavior in load_behaviors(attacks.behaviors, attacks.answer_field, attacks.by)
    ]
