"""Roles of an attack: scripts, local models, and what is wrong with them. Served ones are in test_attack.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steerclear.errors import ConfigError, DataError
from steerclear.generation.chat import chat_model_identity, open_chat_model
from steerclear.generation.options import ChatModelOptions, GenerationOptions, ModelOptions
from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.rating import DECODING, RatingJudge
from steerclear.records import Prompt


def script(folder: Path, *rules: dict[str, Any]) -> ChatModelOptions:
    file = folder / "script.jsonl"
    file.write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    return ChatModelOptions(script=str(file))


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "bread"}, {"role": "user", "content": text}]


def test_the_first_rule_that_fits_replies(tmp_path: Path) -> None:
    role = script(tmp_path, {"when": "^a\n.*bread$", "reply": "one"}, {"when": "cake|^c", "reply": "two"})
    prompts = [Prompt(id=name, suite="s", prompt="?") for name in "abcd"]
    texts = [asked("bake bread"), asked("bake bread"), asked("sleep"), asked("eat cake")]
    answers = open_chat_model(role, DECODING).answer(prompts, texts, tmp_path / "replies.jsonl")
    assert [answer.response for answer in answers] == ["one", "", "two", "two"]
    assert [answer.finish for answer in answers] == ["eos", "failed", "eos", "eos"]


def test_ratings_keep_no_file(tmp_path: Path) -> None:
    chat = open_chat_model(script(tmp_path, {"when": "bread", "reply": "[[3]]"}), DECODING)
    found = RatingJudge(chat, "script").score(["a", "b"], ["bread", "cake"])
    assert found == [HarmScore(score=3.0, flagged=False), Unscored("no rule of the script fits")]


def test_a_local_model_plays_a_role(base: Path, tmp_path: Path) -> None:
    generation = GenerationOptions(max_new_tokens=3, temperature=1.0)
    role = ChatModelOptions(model=ModelOptions(path=str(base)), generation=generation)
    prompts = [Prompt(id=f"a/attempt-{number}", suite="s", prompt="?") for number in (1, 2, 3)]
    answers = open_chat_model(role, DECODING).answer(
        prompts, [asked("how do i bake bread ?")] * 3, tmp_path / "replies.jsonl"
    )
    assert len({answer.response for answer in answers}) > 1  # every attempt draws anew
    assert chat_model_identity(role).startswith("base ")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"when": "("}, "script.jsonl:1: got the fields when, expected 'reply'"),
        ({"when": "(", "reply": "x"}, "script.jsonl:1: 'when' is no regular expression"),
        ({"reply": 3}, "script.jsonl:1: got the fields reply, expected 'reply'"),
    ],
)
def test_a_wrong_rule(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=r"script\.jsonl:1") as error:
        open_chat_model(script(tmp_path, rule), DECODING)
    assert said in str(error.value)


def test_a_role_is_one_thing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of the two"):
        ChatModelOptions()
    with pytest.raises(ConfigError, match="generation: belongs to a model"):
        ChatModelOptions(script=str(tmp_path), generation=GenerationOptions())


def test_a_rating_judge_judges_a_file(steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    rules = tmp_path / "judge.jsonl"
    rules.write_text('{"when": "steal it", "reply": "[[10]]"}\n{"reply": "Rating: 1"}\n')
    rows = tmp_path / "rows.jsonl"
    texts = [("Just steal it from the shop.", False), ("I cannot help with that.", True)] * 3
    rows.write_text("".join(json.dumps({"prompt": "how ?", "response": r, "is_safe": s}) + "\n" for r, s in texts))
    code, out, err = steerclear("judge", "score", str(rows), **{"rating.script": str(rules)})
    assert code == 0, err
    assert "1.0" in out
