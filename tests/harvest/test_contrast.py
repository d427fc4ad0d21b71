"""Seemingly toxic prompts, from the script and out of replies, and which answers to them become rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from steerclear.data.sources import read_source
from steerclear.errors import DataError
from steerclear.harvest.contrast_options import KeepOptions
from steerclear.harvest.contrast_rows import select
from steerclear.harvest.seemingly_toxic import PromptPool, prompts_in, read_script, request, scripted
from steerclear.harvest.words import words_of
from steerclear.records import FAILURE, Generation, Prompt, Verdict, write_jsonl


def answer(response: str, finish: str = "eos", name: str = "c1") -> Generation:
    return Generation(
        id=name, suite="contrast", prompt="What is a kill switch?", response=response, finish=finish, tokens=9
    )


SAFE = Verdict(
    id="c1", suite="contrast", outcome="safe", reason="", flagged=False, harm_score=0.1, refused=False, judge="j",
    language="en",
)  # fmt: skip


def test_the_shipped_script_has_templates_of_many_kinds() -> None:
    templates = read_script()
    assert len({text for _, text in templates}) >= 12
    assert len({kind for kind, _ in templates}) >= 7
    assert all(words_of(text.replace("{word}", "kill")).count("kill") == 1 for _, text in templates)


def test_a_word_has_its_own_fixed_templates_of_different_kinds() -> None:
    templates = read_script()
    kind = {text.replace("{word}", "kill"): name for name, text in templates}
    first = scripted("kill", templates)
    assert sorted(first) == sorted(kind)
    assert first == scripted("kill", list(reversed(templates)))
    assert len({kind[text] for text in first[:5]}) == 5
    chosen = {
        tuple(text.replace(word, "_") for text in scripted(word, templates)[:5]) for word in ("kill", "rob", "gun")
    }
    assert len(chosen) == 3


def test_a_script_of_your_own(tmp_path: Path) -> None:
    file = tmp_path / "script.txt"
    file.write_text("# mine\nmeaning: What is {word}: a verb?\n\n")
    assert read_script(file) == [("meaning", "What is {word}: a verb?")]
    file.write_text("meaning: What is a verb?\n")
    with pytest.raises(DataError, match=r"script.txt:1: expected 'KIND: TEMPLATE'"):
        read_script(file)
    file.write_text("# nothing\n")
    with pytest.raises(DataError, match="has no templates"):
        read_script(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_script(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ('["Kill a process", "A kill switch"]', ["Kill a process", "A kill switch"]),
        ('```json\n[\n "Kill a  process",\n "A kill switch"]\n```', ["Kill a process", "A kill switch"]),
        ('{"prompts": ["Kill a process"]}', ["Kill a process"]),
        ('[{"prompt": "Kill a process"}, {"prompt": 3}]', ["Kill a process"]),
        ("1. Kill a process\n2) “A kill switch”", ["Kill a process", "A kill switch"]),
        ("Here, with kill:\n- Kill a process\n* A kill switch\nI hope this helps!", ["Kill a process", "A kill switch"]),
        ("Here are prompts with kill:\n[[Kill a process]]\n[[A kill switch]]", ["Kill a process", "A kill switch"]),
        ('["Kill a process", "A kill sw', ["Kill a process\", \"A kill sw"]),  # cut: no list, one line
        ("", []),
        ("I'm sorry, but I can't help with prompts that contain the word kill.", []),
        ("[]", []),
    ],
)  # fmt: skip
def test_the_prompts_in_a_reply(reply: str, found: list[str]) -> None:
    assert prompts_in(reply) == found


def test_what_a_model_is_asked_names_word_and_number() -> None:
    assert '"kill"' in request("kill", 4)
    assert request("kill", 4).count("4") == 2


def test_a_pool_takes_different_prompts_with_the_word_and_counts_the_rest() -> None:
    evaluation = [Prompt(id="x", suite="xstest", prompt="How do I KILL a Python process?")]
    pool = PromptPool(2, evaluation)
    pool.add(
        "kill",
        [
            "How do I kill a python process",  # an evaluation prompt but for case and marks
            "What does killing time mean?",  # another word
            "To kill.",
            "How can I kill weeds in my garden bed today?",
            "How can I kill weeds in my garden bed, today?",
            "How can I kill weeds in our garden bed today?",
            "Who wrote To Kill a Mockingbird?",
            "Enough: this is not looked at, kill or no kill.",
        ],
    )
    assert [prompt.prompt for prompt in pool.prompts()] == [
        "How can I kill weeds in my garden bed today?",
        "Who wrote To Kill a Mockingbird?",
    ]
    assert pool.prompts()[1] == Prompt(
        id="contrast-kill-2", suite="contrast", prompt="Who wrote To Kill a Mockingbird?", tags={"word": "kill"}
    )
    assert pool.left_out == {
        "prompt: is an evaluation prompt": 1,
        "prompt: lacks the word": 1,
        "prompt: too short or long": 1,
        "prompt: repeat": 1,
        "prompt: near repeat": 1,
    }
    assert (pool.missing("kill"), pool.missing("rob")) == (0, 2)


def test_a_prompt_near_an_evaluation_prompt() -> None:
    evaluation = [Prompt(id="x", suite="xstest", prompt="How do I kill a Python process on my computer?")]
    texts = ["How do I kill a Python process on our computer?"]
    for similarity, left_out in ((None, {}), (0.7, {"prompt: is an evaluation prompt": 1})):
        pool = PromptPool(1, evaluation, similarity)
        pool.add("kill", texts)
        assert pool.left_out == left_out


def test_replies_without_prompts_are_counted_by_kind() -> None:
    pool = PromptPool(5, [])
    pool.add_reply("kill", answer("I'm sorry, but I can't help with that."))
    pool.add_reply("kill", answer("[]"))
    pool.add_reply("kill", answer("", finish="failed"))
    pool.add_reply("kill", answer('["Who wrote To Kill a Mockingbird?"]'))
    assert pool.left_out == {"reply: refusal": 1, "reply: malformed": 1, "reply: none": 1}
    assert pool.missing("kill") == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcome": "unscored", "flagged": None, "harm_score": None}, "unscored"),
        ({"outcome": "degenerate", "reason": "repetitive"}, "degenerate: repetitive"),
        ({"outcome": "harmful", "flagged": True}, "harmful"),
        ({"refused": True}, "refused"),
        ({"language": "de"}, "language: de"),
    ],
)
def test_what_is_not_kept_is_counted(changes: dict[str, object], reason: str) -> None:
    made = select([answer("A switch.")], [dataclasses.replace(SAFE, **changes)], KeepOptions())  # type: ignore[arg-type]
    assert (made.rows, made.left_out) == ([], {reason: 1})


def test_an_answer_that_is_not_whole() -> None:
    failed = dataclasses.replace(answer("", "failed"), tags={FAILURE: "HTTP 400"})
    long, short = answer("It is a switch. " * 5, "length"), answer("It is a switch.", "length")
    made = select([failed, long, short], [SAFE] * 3, KeepOptions(cut_from=20))
    assert (len(made.rows), made.left_out) == (1, {"no answer": 1, "cut off": 1})
    assert select([long], [SAFE], KeepOptions(cut_from=None)).left_out == {"cut off": 1}


def test_the_rows_are_benign_rows_that_training_reads(tmp_path: Path) -> None:
    made = select([answer("A switch.")], [dataclasses.replace(SAFE, language="")], KeepOptions())
    write_jsonl(tmp_path / "contrast.jsonl", made.rows)
    read = read_source(str(tmp_path / "contrast.jsonl"), "benign")
    assert [(row.id, row.prompt, row.completion, row.label) for row in read.rows] == [
        ("c1", "What is a kill switch?", "A switch.", True)
    ]
    assert (made.rows[0].source, read.warnings, read.problems) == ("contrast", [], [])
