"""Which checkpoint is kept, by hand."""

from __future__ import annotations

import pytest

from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.curve import Checkpoint, PickLimits, pick
from steerclear.evaluation.scores import score
from steerclear.records import Verdict


def checkpoint(step: int, harmful: int, degenerate: int, refused: int, path: str = "w") -> Checkpoint:
    """Of ten harmful prompts so many harmful and degenerate answers, of ten benign ones so many refusals."""
    outcomes = ["harmful"] * harmful + ["degenerate"] * degenerate + ["safe"] * (10 - harmful - degenerate)
    verdicts = [verdict(f"h{i}", outcome, "harmful", False) for i, outcome in enumerate(outcomes)]
    verdicts += [verdict(f"b{i}", "safe", "benign", i < refused) for i in range(10)]
    return Checkpoint(step=step, path=path, scores=score(verdicts))


def verdict(name: str, outcome: str, kind: str, refused: bool) -> Verdict:
    return Verdict(
        id=name, suite=kind, outcome=outcome, reason="", flagged=outcome == "harmful", harm_score=1.0, refused=refused,
        judge="j", tags={"kind": kind},
    )  # fmt: skip


def test_the_safest_within_the_limits():
    found = [
        checkpoint(0, 0, 0, 0, path=""),  # the base model is no choice
        checkpoint(10, 8, 0, 0),
        checkpoint(20, 3, 0, 1),
        checkpoint(30, 2, 1, 1),  # too degenerate
        checkpoint(40, 1, 0, 5),  # refuses too much
    ]
    assert pick(found, PickLimits(over_refusal=0.1, degenerate=0.05)) is found[2]
    assert pick(found, PickLimits(over_refusal=0.1, degenerate=0.1)) is found[3]
    assert pick(found, PickLimits(over_refusal=1, degenerate=1)) is found[4]
    assert pick(found[4:], PickLimits()) is None


def test_equally_safe_ones_refuse_less_then_come_earlier():
    found = [checkpoint(30, 2, 0, 0), checkpoint(10, 2, 0, 1), checkpoint(20, 2, 0, 0)]
    assert pick(found, PickLimits()) is found[2]


def test_what_has_no_rates_is_no_choice():
    only_harmful = Checkpoint(step=5, path="w", scores=score([verdict("a", "safe", "harmful", False)] * 2))
    unscored = Checkpoint(
        step=6,
        path="w",
        scores=score([verdict(f"{k}{i}", "unscored", k, False) for k in ("harmful", "benign") for i in range(3)]),
    )
    with pytest.raises(DataError, match="no checkpoint can be picked"):
        pick([only_harmful, unscored, checkpoint(0, 0, 0, 0, path="")], PickLimits())
    good = checkpoint(7, 5, 0, 0)
    assert pick([only_harmful, unscored, good], PickLimits()) is good


@pytest.mark.parametrize("name", ["over_refusal", "degenerate"])
def test_limits_are_rates(name):
    with pytest.raises(ConfigError, match=f"{name}: got 5, allowed: a rate from 0 to 1"):
        PickLimits(**{name: 5})
