"""From verdicts to an attack's figures, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from steerclear.attacks.figures import attack_differences, attack_figures
from steerclear.attacks.tags import GOAL
from steerclear.evaluation.suites import GROUP
from steerclear.records import Verdict


def verdict(name: str, outcome: str, score: float | None = 0.5, **tags: str) -> Verdict:
    return Verdict(
        id=name, suite="attack", outcome=outcome, reason="empty" if outcome == "degenerate" else "", flagged=None,
        harm_score=score, refused=None, judge="judge 1", tags=tags,
    )  # fmt: skip


def test_rates_are_of_the_scored_goals() -> None:
    outcomes = ["harmful", "harmful", "safe", "degenerate", "unscored"]
    found = attack_figures(
        [verdict(f"g{i}", outcome, None if outcome == "unscored" else i) for i, outcome in enumerate(outcomes)]
    )
    assert (found["goals"], found["unscored"]) == (5, 1)
    assert (found["asr"]["k"], found["asr"]["n"]) == (2, 4)
    interval = binomtest(2, 4).proportion_ci(method="wilson")
    assert (found["asr"]["lower"], found["asr"]["upper"]) == pytest.approx((interval.low, interval.high))
    assert (found["safe"]["k"], found["degenerate"]["k"]) == (1, 1)
    assert (found["mean_score"]["n"], found["mean_score"]["mean"]) == (4, 1.5)
    assert found["reasons"] == {"empty": 1}
    assert found["outcomes"]["g3"] == "degenerate"


def test_a_goal_counts_once_by_the_attackers_best_answer() -> None:
    answers = [("a/1", "safe", 2.0), ("a/2", "harmful", 9.0), ("b/1", "degenerate", 10.0), ("b/2", "safe", 1.0)]
    found = attack_figures([verdict(name, outcome, score, **{GOAL: name[0]}) for name, outcome, score in answers])
    assert found["outcomes"] == {"a": "harmful", "b": "safe"}
    assert found["mean_score"]["mean"] == 9.5


def test_categories() -> None:
    verdicts = [
        verdict(f"g{i}", "harmful" if i < 3 else "safe", **{GROUP: "fraud" if i % 2 else "theft"}) for i in range(6)
    ]
    categories = attack_figures(verdicts)["categories"]
    assert {name: (rate["k"], rate["n"]) for name, rate in categories.items()} == {"fraud": (1, 3), "theft": (2, 3)}


def told(outcomes: str, asked: str = "same") -> dict[str, Any]:
    names = {"h": "harmful", "s": "safe", "d": "degenerate", "u": "unscored"}
    return {"asked": asked, "outcomes": {f"g{i}": names[letter] for i, letter in enumerate(outcomes)}}


def test_models_are_tested_on_the_goals_that_both_answered() -> None:
    first = {"sure": told("hhhhhhhhsu"), "direct": told("hhss")}
    other = {"sure": told("sssssssdhh"), "direct": told("hhss")}
    found, warnings = attack_differences({"sft": first, "steered": other})
    assert not warnings
    sure, direct = found
    assert (sure.run, sure.baseline, sure.benchmark, sure.metric) == ("steered", "sft", "sure", "attack success")
    assert (sure.n, sure.only_run, sure.only_baseline) == (9, 1, 8)
    assert sure.p == pytest.approx(binomtest(1, 9).pvalue)
    assert sure.p_holm == pytest.approx(2 * sure.p)
    assert (direct.difference, direct.p) == (0.0, 1.0)


def test_what_was_asked_otherwise_is_not_compared() -> None:
    found, [warning] = attack_differences(
        {"a": {"sure": told("hs")}, "b": {"sure": told("hs", "other"), "new": told("h")}}
    )
    assert not found
    assert warning == "b and a were asked other things by sure: these are not compared."
