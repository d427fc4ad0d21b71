"""The headline: which figures it takes, and that what has no value is absent."""

from __future__ import annotations

from dataclasses import replace

from quality_figures import accuracy, perplexity, win_rate
from steerclear.evaluation.scores import headline, score
from steerclear.records import Verdict


def verdict(number: int, kind: str, outcome: str, refused: bool = False) -> Verdict:
    return Verdict(
        id=f"{kind}-{number}", suite=kind, outcome=outcome, reason="", flagged=None, harm_score=None, refused=refused,
        judge="j", tags={"kind": kind},
    )  # fmt: skip


def test_rates_are_of_the_pools_and_quality_of_its_suites() -> None:
    outcomes = ["harmful", "safe", "safe", "degenerate"]
    verdicts = [verdict(n, "harmful", outcome) for n, outcome in enumerate(outcomes)]
    verdicts += [verdict(n, "benign", "safe", refused=n == 0) for n in range(5)]
    quality = {"boolq": accuracy(2, 4), "heldout": perplexity(12.5), "alpaca": win_rate(None)}
    found = headline(replace(score(verdicts), quality=quality))
    assert found == {
        "harmful": 0.25, "safe": 0.5, "degenerate": 0.25, "unscored": 0.0, "over_refusal": 0.2, "boolq_acc": 0.5,
        "heldout_perplexity": 12.5,
    }  # fmt: skip


def test_without_prompts_or_scored_answers_there_is_no_rate() -> None:
    assert headline(score([])) == {}
    assert headline(score([verdict(n, "harmful", "unscored") for n in range(3)])) == {"unscored": 1.0}
