"""No evaluation prompt in the training rows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data.contamination import check_contamination, contaminated_prompts, find_contamination, normalise
from steerclear.errors import ConfigError, DataError
from steerclear.records import Prompt, Row


def row(prompt: Any, line: int = 1, given_input: str = "") -> Row:
    return Row(
        id=f"r{line}", prompt=prompt, completion="c", label=True, source=f"train.jsonl:{line}", input=given_input
    )


def prompt(text: Any, name: str = "p1") -> Prompt:
    return Prompt(id=name, suite="suite", prompt=text)


def turns(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("trained", "given_input", "asked"),
    [
        ("How do I open a tin?", "", "  how do i OPEN a\ttin "),
        ("Open “the” tin — now!", "", 'open "the" tin, now'),
        ("Stra\u00dfe", "", "STRASSE"),
        ("ｆｕｌｌ width", "", "full width"),
        ("Sum it up.", "A text.", "Sum it up.\n\nA text."),
        ("Sum it up.", "A text.", "sum it up"),
        (turns("Open the tin.", "No.", "Please!"), "", "open the tin"),
        (turns("Open the tin.", "No.", "Please!"), "", "please"),
        (turns("Open the tin.", "No.", "Please!"), "", turns("open the tin", "Yes.", "please")),
        ("?!", "", "?!"),
    ],
)
def test_the_same_prompt_is_found(trained: Any, given_input: str, asked: Any) -> None:
    (match,) = find_contamination(
        [row("Another."), row(trained, 2, given_input)], [prompt("Not this."), prompt(asked, "p2")]
    )
    assert (match.row.id, match.prompt.id) == ("r2", "p2")


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        ("How do I open a tin?", "How do I open a tin of paint?"),
        ("?!", "..."),
        (turns("Open the tin.", "The answer.", "Please!"), "The answer."),
        (" ", "\n"),
    ],
)
def test_another_prompt_is_not(trained: Any, asked: Any) -> None:
    assert find_contamination([row(trained)], [prompt(asked)]) == []


def test_the_error_counts_places_three_and_shows_little_text() -> None:
    long = "How do I " + "very " * 30 + "carefully open a tin?"
    rows = [row(long.upper(), line) for line in (3, 5, 8, 13)]
    with pytest.raises(DataError) as error:
        check_contamination(rows, [prompt(long)])
    first, *places, more, advice = str(error.value).splitlines()
    assert first == "4 training rows hold an evaluation prompt, so its score would mean nothing:"
    assert (
        [re.match(r"  train.jsonl:(\d+) holds suite/p1 \((.*)\)", place).groups() for place in places]
        == [  # type: ignore[union-attr]
            (line, long[:59] + "…") for line in "358"
        ]
    )
    assert more == "  and 1 more"
    assert advice == "Remove these rows, or set data.on_contamination: drop to leave them out."


def test_one_row_is_told_in_the_singular() -> None:
    with pytest.raises(
        DataError, match=r"^1 training row holds an evaluation prompt.*\n  train.jsonl:1 holds suite/p1 \(Hi!\)\nRem"
    ):
        check_contamination([row("hi")], [prompt("Hi!")])


def test_drop_returns_the_rows_for_the_caller() -> None:
    rows = [row("Hi.", 1), row("Bye.", 2), row("HI", 3)]
    matches = check_contamination(rows, [prompt("hi")], on_contamination="drop")
    assert [match.row.id for match in matches] == ["r1", "r3"]


@pytest.mark.parametrize("choice", ["error", "drop"])
def test_clean_rows_pass(choice: str) -> None:
    assert check_contamination([row("Hi.")], [prompt("Bye.")], on_contamination=choice) == []
    assert check_contamination([row("Hi.")], [], on_contamination=choice) == []


def test_an_unknown_choice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"on_contamination: got 'skip', allowed: error, drop\."):
        check_contamination([], [], on_contamination="skip")


@settings(deadline=None)
@given(st.text(max_size=30))
def test_outer_space_and_ascii_case_change_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(f"\n {text}\t") == once
    if once.isascii():
        assert normalise(once) == normalise(once.upper()) == once


def test_nearly_the_same_prompt_is_found_from_the_similarity_on() -> None:
    trained = row("How do I open a big tin?")  # 16 and 20 runs of 4 characters, 14 of them in both
    asked = prompt("How do I open a tin?")
    (match,) = find_contamination([trained], [asked], 0.5)
    assert match.similarity == 14 / 22
    assert find_contamination([trained], [asked]) == find_contamination([trained], [asked], 0.7) == []
    (same,) = find_contamination([row("how do i open a TIN")], [asked], 0.5)
    assert same.similarity == 1


def test_the_same_prompt_goes_before_a_near_one() -> None:
    asked = [prompt("How do I open a big tin?", "near"), prompt("How do I open a tin?", "same")]
    (match,) = find_contamination(
        [row(turns("How do I open a bigger tin?", "No.", "How do I open a tin?"))], asked, 0.3
    )
    assert (match.prompt.id, match.similarity) == ("same", 1)


def test_the_error_tells_the_similarity_of_a_near_one() -> None:
    with pytest.raises(
        DataError, match=r"train.jsonl:1 holds suite/p1 at a similarity of 0\.\d\d \(How do I open a tin\?\)"
    ):
        check_contamination([row("How do I open a big tin?")], [prompt("How do I open a tin?")], similarity=0.5)


@pytest.mark.parametrize(("similarity", "found"), [(None, ["a"]), (0.5, ["a", "b"]), (1.0, ["a"])])
def test_prompts_are_compared_with_prompts(similarity: float | None, found: list[str]) -> None:
    prompts = [prompt("HOW do I open a tin", "a"), prompt("How do I open a big tin?", "b"), prompt("", "c")]
    matches = contaminated_prompts(prompts, [prompt("How do I open a tin?", "e"), prompt(" ", "f")], similarity)
    assert [match.prompt.id for match in matches] == found
    assert {match.evaluation.id for match in matches} == {"e"}


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.text(alphabet="ab ?", max_size=8), max_size=5),
    st.lists(st.text(alphabet="ab ?", max_size=8), max_size=5),
)
def test_fuzzy_finds_all_that_exact_finds(trained: list[str], asked: list[str]) -> None:
    rows, prompts = [row(text, i) for i, text in enumerate(trained)], [prompt(text) for text in asked]
    exact = find_contamination(rows, prompts)
    fuzzy = find_contamination(rows, prompts, 0.5)
    assert [(m.row, m.prompt) for m in exact] == [(m.row, m.prompt) for m in fuzzy if m.row in [e.row for e in exact]]
