"""Prompts as the model sees them, compared with the template file of alpaca-lora written out."""

from __future__ import annotations

import pytest

from steerclear.data.templates import TEMPLATES, render_prompt, render_row
from steerclear.errors import ConfigError, DataError
from steerclear.records import Row

USER = {"role": "user", "content": "Sum up {this}."}
ANSWER = {"role": "assistant", "content": "Done."}

WITHOUT_INPUT = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
Sum up {this}.

### Response:
"""

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
    """

### Instruction:
Sum up {this}.

### Input:
A {long} text.

### Response:
"""
)


def row(**changes: object) -> Row:
    values = {"id": "a", "prompt": "Sum up {this}.", "completion": "Done.", "label": True, "source": "f.jsonl:3"}
    return Row(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["Sum up {this}.", [USER]])
def test_text_templates(prompt: str | list[dict[str, str]]) -> None:
    assert render_prompt(prompt, "", "alpaca") == WITHOUT_INPUT
    assert render_prompt(prompt, "", "plain") == "Sum up {this}."


def test_templates_with_an_input() -> None:
    assert render_prompt("Sum up {this}.", "A {long} text.", "alpaca") == WITH_INPUT
    assert render_prompt("Sum up {this}.", "A {long} text.", "plain") == "Sum up {this}.\n\nA {long} text."
    assert render_prompt("Sum up {this}.", "A {long} text.", "chat") == [
        {"role": "user", "content": "Sum up {this}.\n\nA {long} text."}
    ]


def test_chat_leaves_a_conversation_as_it_is() -> None:
    turns = [USER, ANSWER, USER]
    assert render_prompt(turns, "", "chat") == turns
    assert render_prompt("Sum up {this}.", "", "chat") == [USER]


@pytest.mark.parametrize("turns", [[USER, ANSWER, USER], [{"role": "system", "content": "s"}, USER], [ANSWER], []])
@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_a_text_template_refuses_longer_conversations(turns: list[dict[str, str]], template: str) -> None:
    with pytest.raises(
        DataError, match=f"the template {template} takes a prompt of one user message.*data.template: chat"
    ):
        render_prompt(turns, "", template)


def test_messages_with_an_input_are_refused() -> None:
    with pytest.raises(DataError, match="a prompt of messages comes with an input"):
        render_prompt([USER], "x", "chat")


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"template: got 'alpacca', allowed: alpaca, plain, chat\. Did you mean 'alpaca'\?"
    ):
        render_prompt("p", "", "alpacca")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("completion", ["Done.", [ANSWER]])
@pytest.mark.parametrize("prompt", ["Sum up {this}.", [USER]])
def test_a_rendered_row_has_prompt_and_completion_of_one_kind(
    prompt: object, completion: object, template: str
) -> None:
    rendered = render_row(row(prompt=prompt, completion=completion), template)
    expected = {"alpaca": (WITHOUT_INPUT, "Done."), "plain": ("Sum up {this}.", "Done."), "chat": ([USER], [ANSWER])}
    assert (rendered.prompt, rendered.completion) == expected[template]
    assert rendered.input == ""


def test_a_rendered_row_keeps_everything_else() -> None:
    rendered = render_row(row(input="A {long} text.", label=False, weight=0.5), "alpaca")
    assert rendered == row(prompt=WITH_INPUT, label=False, weight=0.5)


def test_a_row_that_cannot_be_rendered_names_file_and_line() -> None:
    with pytest.raises(DataError, match=r"^f.jsonl:3: the template plain takes a completion of one assistant message"):
        render_row(row(completion=[ANSWER, USER, ANSWER]), "plain")


def test_a_context_ends_the_prompt() -> None:
    row = Row(id="1", prompt="how?", completion=" no", label=True, source="f:1", context="walk in")
    text = render_row(row, "alpaca")
    assert (text.prompt, text.completion, text.context) == (f"{render_prompt('how?')}walk in", " no", "")
    chat = render_row(row, "chat")
    assert chat.prompt == [{"role": "user", "content": "how?"}, {"role": "assistant", "content": "walk in"}]
    assert chat.completion == [{"role": "assistant", "content": " no"}]
