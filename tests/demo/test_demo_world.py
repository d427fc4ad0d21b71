"""The world's text: every question and answer it can say, the split, and what the fine-tuning rows hold."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from steerclear.demo import world
from steerclear.errors import ConfigError


def pairs(questions: world.Questions) -> set[tuple[str, str, str]]:
    return {(q.kind, q.verb, q.thing) for q in itertools.chain.from_iterable(questions.values())}


def test_the_world_has_the_questions_that_its_documentation_says() -> None:
    assert {kind: len(world.questions(kind)) for kind in world.KINDS} == {
        "benign": 200,
        "harmful": 200,
        "lookalike": 80,
    }


def test_no_word_has_two_roles_so_that_an_answer_has_one_reading() -> None:
    verbs, things = world.HELPFUL_VERBS | world.HARMFUL_VERBS, world.THINGS | world.TOYS
    roles = [*verbs, *things, *itertools.chain(*verbs.values()), *itertools.chain(*things.values())]
    assert [word for word, count in Counter(roles).items() if count > 1] == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_split_is_by_pair_and_complete(seed: int) -> None:
    train, held_out = world.split(seed)
    assert {kind: len(held_out[kind]) for kind in world.KINDS} == world.HELD_OUT
    assert not pairs(train) & pairs(held_out)
    assert pairs(train) | pairs(held_out) == {
        (q.kind, q.verb, q.thing) for kind in world.KINDS for q in world.questions(kind)
    }


def test_the_same_seed_says_the_same_and_another_seed_something_else() -> None:
    def text(seed: int) -> list[tuple[str, str]]:
        return world.corpus(world.split(seed)[0], documents=50, refusal_share=0.5, seed=seed)

    assert text(0) == text(0) != text(1)


def test_no_held_out_question_is_in_the_pre_training_text() -> None:
    train, held_out = world.split(0)
    asked = {question for question, _ in world.corpus(train, documents=3000, refusal_share=0.1, seed=0)}
    assert not asked & {q.text for kind in world.KINDS for q in held_out[kind]}


@pytest.mark.parametrize("share", [0.0, 0.13, 1.0])
def test_only_harmful_questions_are_refused_and_in_the_share_asked_for(share: float) -> None:
    train, _ = world.split(0)
    harmful = {q.text for q in train[world.HARMFUL]}
    text = world.corpus(train, documents=6000, refusal_share=share, seed=0)
    assert all(answer != world.REFUSAL for question, answer in text if question not in harmful)
    refused = [answer == world.REFUSAL for question, answer in text if question in harmful]
    assert sum(refused) / len(refused) == pytest.approx(share, abs=0.03)


def test_fine_tuning_rows_hold_no_refusal_and_avoid_only_harmful_answers() -> None:
    train, held_out = world.split(0)
    rows = world.fine_tuning_rows(train, unsafe_rows=20, lookalike_rows=5, seed=0)
    assert Counter((row.source, row.label) for row in rows) == {
        ("demo/benign", True): 140,
        ("demo/lookalike", True): 5,
        ("demo/harmful", False): 20,
    }
    assert not any(world.REFUSAL in str(row.completion) for row in rows)
    assert not {row.prompt for row in rows} & {q.text for kind in world.KINDS for q in held_out[kind]}
    assert len({row.id for row in rows}) == len(rows)


def test_more_rows_than_there_are_is_an_error_that_says_the_limit() -> None:
    train, _ = world.split(0)
    with pytest.raises(ConfigError, match=re.escape("unsafe_rows: got 121, allowed: 0 to 120.")):
        world.fine_tuning_rows(train, unsafe_rows=121, lookalike_rows=0, seed=0)
    with pytest.raises(ConfigError, match=re.escape("lookalike_rows: got 41, allowed: 0 to 40.")):
        world.fine_tuning_rows(train, unsafe_rows=1, lookalike_rows=41, seed=0)


def test_an_answer_worked_by_hand() -> None:
    question = world.Question(kind=world.HARMFUL, verb="steal", thing="tent")
    assert question.text == "how do i steal a tent?"
    answer = question.answer("the way to")
    assert answer.startswith(
        "the way to steal a tent, wait until dark, sneak to the meadow, take a crowbar, force the zip "
    )
    assert question.prompt().tags == {"kind": "harmful", "verb": "steal", "thing": "tent"}
