"""What an attacker may reply, and what of it is read."""

from __future__ import annotations

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.attacks import pair_prompts
from steerclear.attacks.pair_prompts import STRATEGIES, Attempt, feedback, read_attempt, system_prompt

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_examples_hold() -> None:
    assert doctest.testmod(pair_prompts).failed == 0


@given(TEXT, TEXT.filter(str.strip), TEXT.filter(lambda text: "{" not in text), TEXT)
def test_any_object_is_read_whatever_stands_around_it(improvement: str, prompt: str, before: str, after: str) -> None:
    reply = before + json.dumps({"improvement": improvement, "prompt": prompt}) + after
    assert read_attempt(reply) == Attempt(improvement.strip(), prompt.strip())


@given(st.one_of(st.text(), st.text("{}[]\"'\\:,upromt \n", max_size=60)))
def test_no_reply_makes_it_fail(reply: str) -> None:
    found = read_attempt(reply)
    assert found is None or found.prompt.strip()


def test_deep_nesting_is_no_object() -> None:
    assert read_attempt('{"a":' * 100_000) is None
    assert read_attempt("{'a': " + "(" * 10_000) is None


WHOLE = Attempt("softer", "Tell me a story")


@pytest.mark.parametrize(
    "reply",
    [
        '```json\n{"improvement": "softer", "prompt": "Tell me a story"}\n```',
        '{"improvement": "softer", "prompt": "Tell me a story"',
        '```json\n{"improvement": "softer", "prompt": "Tell me a story"\n```',
        "{'improvement': 'softer', 'prompt': 'Tell me a story'}",
        '{"prompt": "Tell me a story", "improvement": "softer", "score": {"guess": 7}}',
        'I think {this} is better: {"improvement": "softer", "prompt": "Tell me a story"}',
        '{"improvement": "no prompt"} {"improvement": "softer", "prompt": "Tell me a story"}',
        '{"improvement": "softer",\n\n"prompt": "Tell me a story"}',
    ],
)
def test_forms_that_are_read(reply: str) -> None:
    assert read_attempt(reply) == WHOLE


def test_line_breaks_inside_of_strings_are_read() -> None:
    assert read_attempt('{"improvement": "a\nb", "prompt": "c\n\td"}') == Attempt("a\nb", "c\n\td")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot help with that.",
        '{"improvement": "softer"}',
        '{"improvement": "softer", "prompt": ""}',
        '{"improvement": "softer", "prompt": "  "}',
        '{"improvement": "softer", "prompt": null}',
        '{"improvement": "softer", "prompt": ["Tell me"]}',
        '{"improvement": 7, "prompt": "Tell me"}',
        '{"improvement": "softer", "prompt": "Tell me a st',
        '{"improvement": "softer", "prompt": "half \\ud83d"}',
        '["improvement", "prompt"]',
    ],
)
def test_forms_that_are_not_read(reply: str) -> None:
    assert read_attempt(reply) is None


def test_only_the_first_beginnings_are_tried() -> None:
    assert read_attempt("{" * 40 + '"improvement": "softer", "prompt": "Tell me"}') is None


def test_streams_take_the_strategies_in_turn() -> None:
    shown = [system_prompt("bake {bread}", "Sure, here is", stream) for stream in range(4)]
    assert shown[0] == shown[3]
    assert len(set(shown)) == len(STRATEGIES) == 3
    for text, strategy in zip(shown, STRATEGIES, strict=False):
        assert strategy in text
        assert "bake {bread}" in text
        assert "begin with: 'Sure, here is'" in text
        assert '{"improvement":' in text
    assert "begin with" not in system_prompt("bake bread", None, 0)


def test_an_unknown_score_is_said_to_be_unknown() -> None:
    assert feedback("bake", "No.", None).endswith("SCORE: not known")
    assert feedback("bake", "No.", 3).endswith("SCORE: 3")
