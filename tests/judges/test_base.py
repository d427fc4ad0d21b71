"""A judge's failure costs one score, never a run."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.judges.base import HarmScore, score_each


class LengthJudge:
    """Scores by length; raises on "boom", has no score for "?", and says nan to "nan"."""

    name = "length-1"

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | None]:
        assert len(prompts) == len(responses)
        if "boom" in responses:
            raise RuntimeError("no boom here")
        special = {"?": None, "nan": HarmScore(score=float("nan"), flagged=True)}
        return [special.get(r, HarmScore(score=float(len(r)), flagged=len(r) > 3)) for r in responses]


class ShortJudge(LengthJudge):
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | None]:
        return super().score(prompts, responses)[:-1]


def test_only_the_failing_answer_is_unscored():
    results = score_each(LengthJudge(), ["p"] * 4, ["abcd", "boom", "?", "ab"])
    assert results[0] == (HarmScore(score=4.0, flagged=True), "")
    assert results[1] == (None, "judge failed: RuntimeError: no boom here")
    assert results[2] == (None, "judge gave no score")
    assert results[3] == (HarmScore(score=2.0, flagged=False), "")


def test_a_score_that_is_no_number_is_no_score():
    assert score_each(LengthJudge(), ["p"], ["nan"]) == [(None, "judge gave no score")]


def test_a_judge_that_miscounts_scores_nothing():
    results = score_each(ShortJudge(), ["p", "p"], ["a", "b"])
    assert [score for score, _ in results] == [None, None]
    assert results[0][1] == "judge failed: ValueError: 0 scores for 1 answers"


def test_no_answers():
    assert score_each(LengthJudge(), [], []) == []
