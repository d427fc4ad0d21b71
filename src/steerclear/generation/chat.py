"""Chat models that play a part, such as an attacker or a judge: each a `Model`, or a script of rules in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.errors import DataError
from steerclear.generation.answers import fill_file, unanswered
from steerclear.generation.model import Model, open_model
from steerclear.generation.options import ChatModelOptions, GenerationOptions
from steerclear.records import Generation, Messages, Prompt, read_jsonl, sha256_of_file
from steerclear.store.runs import model_identity

_SCRIPTED = GenerationOptions(max_new_tokens=16)
"""What the files of scripted answers say of their decoding."""


def chat_model_identity(options: ChatModelOptions) -> str:
    """Return what names a chat model, without the folders that it lies in."""
    if options.script is not None:
        return f"script {sha256_of_file(Path(options.script))[:12]}"
    model: Any = options.model
    if model.endpoint is not None:
        return str(model.endpoint.identity)
    return f"{Path(model.path).name} {model_identity(model.path, model.adapter, model.dtype)[:12]}"


def open_chat_model(options: ChatModelOptions, published: GenerationOptions) -> Model:
    """Return the chat model that options name.

    Args:
        published: how replies are decoded where the recipe does not say.

    Raises:
        SteerClearError: a script is wrong, or an endpoint's key is missing; other faults show when it is first asked.
    """
    if options.script is not None:
        return ScriptedModel(Path(options.script))
    model: Any = options.model
    return open_model(model, options.generation or published)


@dataclass(frozen=True)
class _Rule:
    when: re.Pattern[str]
    reply: str


class ScriptedModel:
    """Rules as a model. It has no memory, so that a run goes on as it began.

    Args:
        file: rules; see `ChatModelOptions.script`.

    Raises:
        DataError: the file cannot be read, or a rule is wrong.
    """

    weights = None

    def __init__(self, file: Path) -> None:
        self._rules = [_rule(value, f"{file}:{line}") for line, value in read_jsonl(file)]
        self.id = f"script {sha256_of_file(file)}"

    def answer(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,  # noqa: ARG002 (a rule decodes nothing)
        allow_too_long: bool = False,  # noqa: ARG002 (nothing is too long for a rule)
        progress: bool = True,
    ) -> list[Generation]:
        """Answer prompts; see `steerclear.generation.model.Model`."""
        read = {prompt.id: text for prompt, text in zip(prompts, rendered, strict=True)}

        def answer(todo: Sequence[Prompt]) -> Iterator[list[Generation]]:
            yield [self._reply(prompt, read[prompt.id]) for prompt in todo]

        return fill_file(prompts, rendered, _SCRIPTED, file, answer, model_id=self.id, progress=progress)

    def _reply(self, prompt: Prompt, rendered: str | Messages) -> Generation:
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
