"""Rows of a model's own safe answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steerclear.errors import ConfigError
from steerclear.generation.options import GenerationOptions
from steerclear.records import Generation, Row, Verdict
from steerclear.training.options import RecoveryOptions
from steerclear.training.recovery import learnable, own_answers, questions, recovery_rows


def unsafe(name: str, completion: Any = " sneak in and take it .", **fields: Any) -> Row:
    return Row(id=name, prompt=f"how do i {name} ?", completion=completion, label=False, source="test", **fields)


def answered(
    name: str, response: str, outcome: str = "safe", *, refused: bool = False, score: float = 0.1, finish: str = "eos"
) -> tuple[Generation, Verdict]:
    answer = Generation(id=name, suite="s", prompt="p", response=response, finish=finish, tokens=3)
    verdict = Verdict(
        id=name, suite="s", outcome=outcome, reason="", flagged=outcome == "harmful", harm_score=score, refused=refused,
        judge="j",
    )  # fmt: skip
    return answer, verdict


def test_every_prompt_is_asked_so_often_each_time_in_a_suite_of_its_own() -> None:
    asked = questions([unsafe("a"), unsafe("b")], 2)
    assert [(p.id, p.suite) for p in asked] == [
        ("a#0", "recovery-0"),
        ("b#0", "recovery-0"),
        ("a#1", "recovery-1"),
        ("b#1", "recovery-1"),
    ]


def test_a_refusal_goes_before_another_answer_and_the_less_harmful_first() -> None:
    rows = [unsafe("a"), unsafe("b#2")]
    judged = [
        answered("a#0", "go fishing .", score=0.0),
        answered("a#1", " no . ", refused=True, score=0.4),
        answered("b#2#0", "go home .", score=0.3),
        answered("b#2#1", "stay home .", score=0.2),
    ]
    assert own_answers(rows, judged) == {"a": "no .", "b#2": "stay home ."}


@pytest.mark.parametrize(
    "useless",
    [
        answered("a#0", "sneak in .", "harmful"),
        answered("a#0", "in in in", "degenerate"),
        answered("a#0", "no one", "unscored"),
        answered("a#0", "wait for the", finish="length"),
        answered("a#0", " "),
    ],
)
def test_what_cannot_be_imitated_is_no_target(useless: tuple[Generation, Verdict]) -> None:
    assert own_answers([unsafe("a")], [useless]) == {}


def test_refusals_are_borrowed_in_turn_and_other_answers_are_not() -> None:
    rows = [unsafe(name) for name in "abcde"]
    judged = [
        answered("a#0", "no .", refused=True),
        answered("b#0", "never .", refused=True),
        answered("c#0", "go fishing ."),
    ]
    assert own_answers(rows, judged) == {"a": "no .", "b": "never .", "c": "go fishing .", "d": "no .", "e": "never ."}
    assert own_answers(rows, judged[2:]) == {"c": "go fishing ."}


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("I cannot. It is wrong. And so", "length", "I cannot. It is wrong."),
        ("Wait! Who", "length", "Wait!"),
        ("我不能。因为", "length", "我不能。"),
        ("1. Take 2.5 kg of", "length", "1. Take 2.5 kg of"),
        ("no end", "length", "no end"),
        ("I cannot. It is", "eos", "I cannot. It is"),
    ],
)
def test_a_cut_answer_ends_with_its_last_whole_sentence(text: str, finish: str, expected: str) -> None:
    answer = learnable(answered("a#0", text, finish=finish)[0])
    assert answer.response == expected
    assert answer.finish == ("eos" if expected != text or finish == "eos" else "length")


def test_a_partial_refusal_is_not_lent() -> None:
    answer, verdict = answered("a#0", "no , but sneak in .", refused=True)
    partial = (answer, replace(verdict, refusal="partial"))
    assert own_answers([unsafe("a"), unsafe("b")], [partial]) == {"a": "no , but sneak in ."}


def test_the_question_is_judged_with_its_input_and_the_context_goes_on(tokenizer: Any) -> None:
    row = unsafe("a", input="the text", context="well ,")
    [asked] = questions([row], 1)
    assert asked.prompt == "how do i a ?\nthe text"
    assert [r.context for r in recovery_rows([row], {"a": "no ."}, tokenizer, [0])] == ["well ,"]
    twice = [unsafe("a"), replace(unsafe("a"), id="again")]
    assert len(recovery_rows(twice, {"a": "no .", "again": "no ."}, tokenizer, [0])) == 1


def test_the_answer_follows_so_many_tokens_of_the_unsafe_one(tokenizer: Any) -> None:
    row = unsafe("a", input="the text")
    [plain, one, three] = recovery_rows([row, unsafe("b")], {"a": "no ."}, tokenizer, [0, 1, 3, 99])
    assert (plain.context, plain.completion) == ("", " no .")
    ids = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
    assert three.context == tokenizer.decode(ids[:3])
    assert row.completion.startswith(three.context)
    assert three.completion == " no ."
    assert {r.label for r in (plain, one, three)} == {True}
    assert (one.prompt, one.input) == (row.prompt, "the text")
    assert len({r.id for r in (plain, one, three)}) == 3


def test_a_conversation_stays_one(tokenizer: Any) -> None:
    turns = [{"role": "assistant", "content": "sneak in ."}]
    [row] = recovery_rows([unsafe("a", turns)], {"a": "no ."}, tokenizer, [1])
    assert row.completion == [{"role": "assistant", "content": " no ."}]
    assert row.context
    assert "sneak in .".startswith(row.context)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 0}, "samples: got 0"),
        ({"samples": 2, "generation": GenerationOptions()}, "samples: got 2 at temperature 0"),
        ({"openings": []}, r"openings: got \[\]"),
        ({"openings": [1, 1]}, r"openings: got \[1, 1\]"),
        ({"openings": [-1]}, r"openings: got \[-1\]"),
        ({"share": 1.0}, "share: got 1.0"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecoveryOptions(**wrong)
