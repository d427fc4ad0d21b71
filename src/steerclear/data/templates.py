"""From a row to the text or the messages that the model sees."""

from __future__ import annotations

import dataclasses

from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import Messages, Row

TEMPLATES = ("alpaca", "plain", "chat")
"""``alpaca`` is the template of the paper's and of STL's data, ``plain`` the prompt as it is, ``chat`` the tokenizer's own."""

# Source: templates/alpaca.json of tloen/alpaca-lora, which vinid/safety-tuned-llamas trains and generates with.
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


def render_prompt(prompt: str | Messages, input: str = "", template: str = "alpaca") -> str | Messages:
    """Return what stands before the answer: text, or messages for the tokenizer's chat template if ``template`` is ``chat``.

    A conversation of a single user message is the same as its text. Never render twice.

    Args:
        prompt: the raw prompt.
        input: Alpaca's second field; in ``plain`` and ``chat`` it follows the prompt after a blank line.
        template: one of `TEMPLATES`.

    Raises:
        ConfigError: the template is unknown.
        DataError: a longer conversation meets a text template, or messages come with an input.
    """
    if template not in TEMPLATES:
        raise ConfigError(one_of("template", template, TEMPLATES))
    if not isinstance(prompt, str):
        if input:
            raise DataError("a prompt of messages comes with an input. Put the input into the messages.")
        if template == "chat":
            return prompt
        prompt = _only_turn(prompt, "user", "prompt", template)
    if template == "alpaca":
        return (_ALPACA_WITH_INPUT if input else _ALPACA).format(instruction=prompt, input=input)
    text = f"{prompt}\n\n{input}" if input else prompt
    return [{"role": "user", "content": text}] if template == "chat" else text


def begin_answer(rendered: str | Messages, opening: str) -> str | Messages:
    """Return a rendered prompt with the beginning of its answer, which the model goes on with.

    The tokens are those of a training row whose completion begins so: text is joined, messages get an assistant's turn, which is
    left open where they are encoded.

    Args:
        rendered: what `render_prompt` returned.
        opening: the answer's first words.

    Raises:
        DataError: the conversation ends with the assistant's turn already.
    """
    if isinstance(rendered, str):
        return rendered + opening
    if rendered[-1]["role"] == "assistant":
        raise DataError(
            "a prompt whose last message is the assistant's cannot get an opening too. Leave one of the two out."
        )
    return [*rendered, {"role": "assistant", "content": opening}]


def render_row(row: Row, template: str) -> Row:
    """Return the row as it is trained on: prompt rendered, input used up, completion of the same kind as the prompt.

    A context ends the prompt: as text, or as the beginning of the assistant's message, which the completion continues.

    Raises:
        ConfigError, DataError: as `render_prompt`; the message of a DataError names the row's file and line.
    """
    try:
        prompt = render_prompt(row.prompt, row.input, template)
        completion = row.completion
        if template != "chat" and not isinstance(completion, str):
            completion = _only_turn(completion, "assistant", "completion", template)
        elif template == "chat" and isinstance(completion, str):
            completion = [{"role": "assistant", "content": completion}]
        if row.context:
            prompt = begin_answer(prompt, row.context)
    except DataError as error:
        raise DataError(f"{row.source}: {error}") from error
    return dataclasses.replace(row, prompt=prompt, completion=completion, input="", context="")


def _only_turn(turns: Messages, role: str, what: str, template: str) -> str:
    if len(turns) != 1 or turns[0]["role"] != role:
        roles = ", ".join(turn["role"] for turn in turns) or "none"
        raise DataError(
            f"the template {template} takes a {what} of one {role} message, got messages of the roles: {roles}. "
            "Set data.template: chat for conversations."
        )
    return turns[0]["content"]
