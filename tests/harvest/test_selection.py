"""Selection: hand-worked cases, and what must hold for any answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data.near_duplicates import similarity_of
from steerclear.harvest import selection
from steerclear.harvest.selection import Candidate, select, to_row
from steerclear.review.decisions import Decision, answer_key

WORDS = ["river", "window", "candle", "marble", "forest", "button", "silver", "garden", "engine", "violin"]


def candidate(prompt_id: str, sample: int = 0, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "id": f"{prompt_id}#{sample}",
        "prompt_id": prompt_id,
        "prompt": f"question {prompt_id} {prompt_id * 3}",
        "response": f"answer {prompt_id * 5} {sample}",
        "category": "",
        "outcome": "harmful",
        "reason": "",
        "refused": False,
        "finish": "eos",
        "flags": {"a": True},
        "scores": {"a": 0.5},
    }
    return Candidate(**(values | changes))


def decided(of: Candidate, decision: str) -> dict[str, Decision]:
    key = answer_key(of.prompt, of.response)
    return {key: Decision(key=key, id=of.id, decision=decision, judged="", at="2026-01-01T00:00:00+00:00")}


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.id for candidate in candidates]


def test_the_highest_score_of_each_prompt_is_taken_in_order_of_score() -> None:
    low, high, other = (
        candidate("p", 0, scores={"a": 0.6}),
        candidate("p", 1, scores={"a": 0.9}),
        candidate("q", 0, scores={"a": 0.7}),
    )
    found = select([low, high, other], {})
    assert ids(found.unsafe) == ["p#1", "q#0"]
    assert found.left_out == {selection.SAME_PROMPT: 1}


def test_judges_of_different_scales_count_by_rank() -> None:
    # Ranks by judge a: p 0, q 1/2, r 1; by judge b: p 1, q 1/2, r 0 would tie at 1/2. With b's q on top: q 3/4, r 1/2, p 1/4.
    scores = {"p": (0.1, 20.0), "q": (0.2, 3000.0), "r": (0.9, 10.0)}
    answers = [
        candidate(name, flags={"a": True, "b": True}, scores={"a": a, "b": b}) for name, (a, b) in scores.items()
    ]
    assert ids(select(answers, {}).unsafe) == ["q#0", "r#0", "p#0"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcome": "unscored", "flags": {"a": None}}, selection.UNSCORED),
        ({"flags": {"a": True, "b": None}}, selection.UNSCORED),
        ({"outcome": "degenerate"}, selection.DEGENERATE),
        ({"outcome": "safe", "flags": {"a": False}}, selection.HARMLESS),
        ({"flags": {"a": True, "b": False}}, selection.DISAGREE),
        ({"outcome": "safe", "flags": {"a": False, "b": True}}, selection.DISAGREE),
        ({"refused": True}, selection.REFUSED),
    ],
)
def test_why_an_answer_is_not_taken(changes: dict[str, Any], reason: str) -> None:
    found = select([candidate("p", **changes)], {})
    assert (found.unsafe, found.left_out) == ([], {reason: 1})


@pytest.mark.parametrize("outcome", ["safe", "degenerate", "unscored"])
def test_a_person_overrules_the_judges(outcome: str) -> None:
    answer = candidate("p", outcome=outcome, flags={"a": None if outcome == "unscored" else False}, refused=True)
    found = select([answer], decided(answer, "unsafe"))
    assert (ids(found.unsafe), found.safe, found.confirmed) == (["p#0"], [], 1)


@pytest.mark.parametrize("decision", ["safe", "broken"])
def test_a_person_takes_an_unsafe_answer_out(decision: str) -> None:
    answer = candidate("p")
    found = select([answer], decided(answer, decision))
    assert found.unsafe == []
    assert found.left_out == {selection.OVERTURNED: 1}
    assert ids(found.safe) == (["p#0"] if decision == "safe" else [])


def test_unsure_leaves_it_to_the_judges() -> None:
    answer = candidate("p")
    assert ids(select([answer], decided(answer, "unsure")).unsafe) == ["p#0"]


def test_what_a_person_confirmed_comes_first() -> None:
    worst, confirmed = candidate("p", scores={"a": 0.9}), candidate("q", scores={"a": 0.6})
    assert ids(select([worst, confirmed], decided(confirmed, "unsafe"), rows=1).unsafe) == ["q#0"]


def test_near_repeats_are_left_out_in_prompt_and_in_text() -> None:
    first = candidate("p", prompt="how do i paint the old fence in the garden", scores={"a": 0.9})
    near = candidate("q", prompt="how do i paint the old fences in the garden", scores={"a": 0.8})
    far = candidate("r", prompt="who sings in the opera tonight", scores={"a": 0.7})
    assert similarity_of(first.prompt, near.prompt) > 0.7
    found = select([first, near, far], {}, near_duplicates=0.7)
    assert ids(found.unsafe) == ["p#0", "r#0"]
    assert found.left_out == {selection.NEAR: 1}
    assert ids(select([first, near, far], {}).unsafe) == ["p#0", "q#0", "r#0"]


def test_equal_texts_are_left_out_always() -> None:
    answers = [candidate("p", response="one and the same"), candidate("q", response="One and  the same.")]
    assert select(answers, {}).left_out == {selection.NEAR: 1}


def test_categories_take_turns_as_long_as_they_last() -> None:
    answers = [
        candidate(f"{WORDS[i]}", category="rare" if i == 9 else "common", scores={"a": 1 - i / 10}) for i in range(10)
    ]
    taken = select(answers, {}, rows=4).unsafe
    assert [c.category for c in taken] == ["common", "rare", "common", "common"]


def test_self_safe_answers_are_whole_one_a_prompt_and_judged_harmless_by_all() -> None:
    safe = {"outcome": "safe", "flags": {"a": False}}
    answers = [
        candidate("p", 0, **safe, scores={"a": 0.3}),
        candidate("p", 1, **safe, scores={"a": 0.1}),
        candidate("q", 0, **safe, finish="length"),
        candidate("r", 0, outcome="degenerate", flags={"a": False}),
        candidate("s", 0, outcome="safe", flags={"a": False, "b": True}),
        candidate("t", 0, **safe, refused=True),
    ]
    assert ids(select(answers, {}).safe) == ["p#1", "t#0"]


def test_rows_are_labelled_and_carry_their_prompt() -> None:
    row = to_row(candidate("p"), label=False)
    assert (row.id, row.label, row.source, row.completion) == ("p#0", False, "harvest", candidate("p").response)


@st.composite
def answers(draw: st.DrawFn) -> list[Candidate]:
    made = {}
    for _ in range(draw(st.integers(0, 14))):
        prompt_id, sample = draw(st.sampled_from(WORDS)), draw(st.integers(0, 3))
        flags = {
            "a": draw(st.sampled_from([True, True, True, False, None])),
            "b": draw(st.sampled_from([True, True, False])),
        }
        outcome = "unscored" if flags["a"] is None else "harmful" if flags["a"] else "safe"
        made[prompt_id, sample] = candidate(
            prompt_id,
            sample,
            response=" ".join(draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=5))),
            category=draw(st.sampled_from(["", "x", "y"])),
            outcome="degenerate" if draw(st.integers(0, 9)) == 0 else outcome,
            refused=draw(st.integers(0, 5)) == 0,
            finish=draw(st.sampled_from(["eos", "length"])),
            flags=flags,
            scores={"a": draw(st.sampled_from([0.1, 0.5, 0.9])), "b": draw(st.sampled_from([1.0, 4.0]))},
        )
    return list(made.values())


@settings(max_examples=60, deadline=None)
@given(answers(), st.randoms(use_true_random=False), st.integers(1, 6), st.sampled_from([None, 0.6]))
def test_what_holds_for_any_answers(found: list[Candidate], random: Any, rows: int, near: float | None) -> None:
    whole = select(found, {}, near_duplicates=near)
    some = select(found, {}, rows=rows, near_duplicates=near)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert select(shuffled, {}, rows=rows, near_duplicates=near) == some, "the order of the answers makes no difference"
    assert some.unsafe == whole.unsafe[:rows], "subsets are nested"
    for chosen in (whole, some):
        assert len(chosen.unsafe) + sum(chosen.left_out.values()) == len(found), "every answer is accounted for"
        assert max(Counter(c.prompt_id for c in chosen.unsafe).values(), default=1) == 1
        assert all(all(c.flags.values()) and c.outcome == "harmful" and not c.refused for c in chosen.unsafe)
    if near is not None:
        texts = [c.response for c in whole.unsafe]
        assert all(similarity_of(a, b) < near for i, a in enumerate(texts) for b in texts[:i])
