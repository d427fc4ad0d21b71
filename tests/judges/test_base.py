"""A judge's failure costs one score, never a run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steerclear.errors import ConfigError
from steerclear.judges.base import HarmScore, Unscored, score_each


class LengthJudge:
    """Scores by length; raises on "boom", has no score for "?", and says nan to "nan"."""

    name = "length-1"
    batch_size = 3

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        assert len(prompts) == len(responses)
        if "boom" in responses:
            raise RuntimeError("no boom here")
        special = {"?": Unscored("no idea"), "nan": HarmScore(score=float("nan"), flagged=True)}
        return [special.get(r, HarmScore(score=float(len(r)), flagged=len(r) > 3)) for r in responses]


class ShortJudge(LengthJudge):
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        return super().score(prompts, responses)[:-1]


def test_only_the_failing_answer_is_unscored():
    kept = []
    results = score_each(
        LengthJudge(), ["p"] * 4, ["abcd", "boom", "?", "ab"], lambda places, scores: kept.append((places, scores))
    )
    assert results == [
        HarmScore(score=4.0, flagged=True),
        Unscored("judge failed: RuntimeError: no boom here"),
        Unscored("no idea"),
        HarmScore(score=2.0, flagged=False),
    ]
    assert kept == [([0, 1, 2], results[:3]), ([3], results[3:])]


def test_a_score_that_is_no_number_is_no_score():
    assert score_each(LengthJudge(), ["p"], ["nan"]) == [Unscored("judge's score is nan")]


def test_a_judge_that_miscounts_scores_nothing():
    results = score_each(ShortJudge(), ["p", "p"], ["a", "b"])
    assert results == [Unscored("judge failed: ValueError: 0 scores for 1 answers")] * 2


def test_no_answers():
    assert score_each(LengthJudge(), [], []) == []


def test_a_judge_that_can_score_nothing_ends_the_run():
    class Locked(LengthJudge):
        def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
            if "abcdef" in responses:
                raise ConfigError("the key is wrong")
            return super().score(prompts, responses)

    kept = []
    with pytest.raises(ConfigError, match="the key is wrong"):
        score_each(Locked(), ["p"] * 4, ["a", "b", "c", "abcdef"], lambda places, _: kept.extend(places))
    assert kept == [0, 1, 2]
