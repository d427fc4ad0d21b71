"""Chat roles of an attack: the attacker and the judge, each a local model, a model behind an endpoint, or a script."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.attacks.pair import Asks
from steerclear.errors import DataError
from steerclear.generation.answers import fill_file, unanswered
from steerclear.generation.model import Answerer
from steerclear.generation.options import ChatModelOptions, GenerationOptions
from steerclear.judges.base import Unscored
from steerclear.records import FAILURE, Generation, Messages, Prompt, read_jsonl, sha256_of_file
from steerclear.store.runs import model_identity

ATTACKER = GenerationOptions(temperature=1.0, top_p=0.9, max_new_tokens=500)
"""How an attacker's replies are decoded, as published."""

JUDGE = GenerationOptions(max_new_tokens=16)
"""How a rating is decoded, as published but for some more tokens."""


def chat_model_identity(role: ChatModelOptions) -> str:
    """Return what names who plays a role, without the folders that it lies in."""
    if role.script is not None:
        return f"script {sha256_of_file(Path(role.script))[:12]}"
    model: Any = role.model
    if model.endpoint is not None:
        return str(model.endpoint.identity)
    return f"{Path(model.path).name} {model_identity(model.path, model.adapter, model.dtype)[:12]}"


def open_chat_model(role: ChatModelOptions, published: GenerationOptions) -> Asks:
    """Return the role as something that answers conversations into a file.

    Args:
        published: how replies are decoded where the recipe does not say.

    Raises:
        SteerClearError: a script is wrong; a model's faults show when it is first asked.
    """
    if role.script is not None:
        return _Script(Path(role.script))
    model: Any = role.model
    answerer = Answerer(model, role.generation or published)

    def ask(prompts: Sequence[Prompt], rendered: Sequence[str | Messages], file: Path) -> list[Generation]:
        return answerer.answer(prompts, rendered, file, allow_too_long=True)

    return ask


def replies_of(
    role: ChatModelOptions, published: GenerationOptions
) -> Callable[[Sequence[Messages]], list[str | Unscored]]:
    """Return the role as something that replies to conversations and keeps no file."""
    asks = open_chat_model(role, published)

    def reply(conversations: Sequence[Messages]) -> list[str | Unscored]:
        prompts = [Prompt(id=str(n), suite="replies", prompt=turns) for n, turns in enumerate(conversations)]
        with tempfile.TemporaryDirectory() as folder:
            answers = asks(prompts, conversations, Path(folder) / "replies.jsonl")
        return [
            Unscored(answer.tags.get(FAILURE, "no reply")) if answer.finish == "failed" else answer.response
            for answer in answers
        ]

    return reply


@dataclass(frozen=True)
class _Rule:
    when: re.Pattern[str]
    reply: str


class _Script:
    """Rules as a role. It has no memory, so that a run goes on as it began."""

    def __init__(self, file: Path) -> None:
        self._rules = [_rule(value, f"{file}:{line}") for line, value in read_jsonl(file)]
        self._id = f"script {sha256_of_file(file)}"

    def __call__(self, prompts: Sequence[Prompt], rendered: Sequence[str | Messages], file: Path) -> list[Generation]:
        read = {prompt.id: text for prompt, text in zip(prompts, rendered, strict=True)}

        def answer(todo: Sequence[Prompt]) -> Iterator[list[Generation]]:
            yield [self._answer(prompt, read[prompt.id]) for prompt in todo]

        return fill_file(prompts, rendered, JUDGE, file, answer, model_id=self._id, progress=False)

    def _answer(self, prompt: Prompt, rendered: str | Messages) -> Generation:
        last = rendered if isinstance(rendered, str) else rendered[-1]["content"]
        for rule in self._rules:
            if rule.when.search(f"{prompt.id}\n{last}"):
                return Generation(
                    id=prompt.id, suite=prompt.suite, prompt=prompt.prompt, response=rule.reply, finish="eos",
                    tokens=len(rule.reply.split()), tags=prompt.tags,
                )  # fmt: skip
        return unanswered(prompt, "no rule of the script fits")


def _rule(value: dict[str, Any], place: str) -> _Rule:
    when, reply = value.get("when", ""), value.get("reply")
    if not isinstance(when, str) or not isinstance(reply, str):
        raise DataError(
            f"{place}: got the fields {', '.join(value) or 'none'}, expected 'reply' and, if need be, 'when', as texts."
        )
    try:
        return _Rule(re.compile(when), reply)
    except re.error as error:
        raise DataError(f"{place}: 'when' is no regular expression: {error}.") from error
