"""Nothing is judged twice, and nothing that was judged is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.cache import CachedJudge


class CountingJudge:
    """Scores by length, notes what it was asked, fails on "later" until told otherwise, dies on "kill"."""

    name = "counting/1 (of: x)"
    batch_size = 2

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = True

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        if "kill" in responses:
            raise KeyboardInterrupt
        self.asked += [f"{p}:{r}" for p, r in zip(prompts, responses, strict=True)]
        return [
            Unscored("busy")
            if r == "later" and self.failing
            else HarmScore(score=len(r) / 7, flagged=len(r) > 3, categories={"length": 1.5}, refused=r == "no")
            for r in responses
        ]


def test_what_is_known_is_not_asked_again(tmp_path):
    judge = CountingJudge()
    first = CachedJudge(judge, tmp_path).score(["p", "p", "q", "p"], ["abcd", "no", "abcd", "abcd"])
    assert judge.asked == ["p:abcd", "p:no", "q:abcd"]  # one of two like answers, but the same answer to another prompt
    assert first[0] == first[3] == HarmScore(score=4 / 7, flagged=True, categories={"length": 1.5}, refused=False)
    again = CachedJudge(judge, tmp_path).score(["p", "p", "q", "p"], ["abcd", "no", "abcd", "abcd"])
    assert again == first
    assert len(judge.asked) == 3


def test_failures_are_asked_again(tmp_path):
    judge = CountingJudge()
    cached = CachedJudge(judge, tmp_path)
    assert cached.score(["p", "p"], ["later", "a"]) == [
        Unscored("busy"),
        HarmScore(score=1 / 7, flagged=False, categories={"length": 1.5}, refused=False),
    ]
    judge.failing = False
    assert isinstance(cached.score(["p"], ["later"])[0], HarmScore)
    assert judge.asked == ["p:later", "p:a", "p:later"]


def test_a_kill_loses_only_the_batch_that_was_under_way(tmp_path):
    judge = CountingJudge()
    with pytest.raises(KeyboardInterrupt):
        CachedJudge(judge, tmp_path).score(["p"] * 4, ["a", "b", "c", "kill"])
    file = CachedJudge(judge, tmp_path).file
    with file.open("a", encoding="utf-8") as out:
        out.write('{"key": "half a li')  # the line that was being written
    judge.asked.clear()
    scores = CachedJudge(judge, tmp_path).score(["p"] * 3, ["a", "b", "c"])
    assert judge.asked == ["p:c"]
    assert [s.score for s in scores if isinstance(s, HarmScore)] == [1 / 7] * 3


def test_another_judge_has_another_file(tmp_path):
    judge = CountingJudge()
    one = CachedJudge(judge, tmp_path)
    judge.name = "counting/2"
    assert CachedJudge(judge, tmp_path).file != one.file
    assert one.file.parent == tmp_path


def test_nothing_to_do_writes_nothing(tmp_path):
    cached = CachedJudge(CountingJudge(), tmp_path / "new")
    assert cached.score([], []) == []
    assert not (tmp_path / "new").exists()
