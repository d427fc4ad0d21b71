"""What the guard makes of a probe, at its limits: by hand."""

from __future__ import annotations

from typing import Any

import pytest

from steerclear.training.collapse import Probe, decide, explain, last_passed
from steerclear.training.options import CollapseOptions


def probe(step: int, broken: int, loss: float | None, **changes: Any) -> Probe:
    degenerate = {"empty": broken} if broken else {}
    settings = {"answers": 8, "examples": {"empty": ""}, "penalty_weight": 2.0} | changes
    return Probe(step=step, degenerate=degenerate, benign_loss=loss, **settings)


START = [probe(0, 1, 3.0), probe(10, 0, 2.0)]
"""One of eight answers is degenerate before the first step, and the loss then falls to 2 nats."""
LOWERED = probe(20, 0, 2.5, action="lowered")


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (probe(20, 3, 2.25), "passed"),  # 1/8 + 1/4 is 3/8, and the lowest loss is not the first one
        (probe(20, 4, 2.0), "stopped"),
        (probe(20, 0, 2.5), "stopped"),
        (probe(20, 0, None), "stopped"),
        (probe(0, 8, 9.0), "passed"),
    ],
)
def test_the_limits(seen: Probe, action: str) -> None:
    earlier = START if seen.step else []
    assert decide(seen, earlier, CollapseOptions(), last=False).action == action


@pytest.mark.parametrize(
    ("seen", "earlier", "last", "action", "weight"),
    [
        (probe(30, 0, 2.5), START, False, "lowered", 1.0),
        (probe(30, 0, 2.5), START, True, "stopped", 2.0),
        (probe(30, 0, None), START, False, "stopped", 2.0),
        (probe(30, 0, 2.5, penalty_weight=0.0), START, False, "stopped", 0.0),
        (probe(30, 0, 2.5), [*START, LOWERED], False, "lowered", 1.0),
        (probe(30, 0, 2.5), [*START, LOWERED, LOWERED], False, "stopped", 2.0),
    ],
)
def test_lowering_where_it_can_help_and_not_too_often(
    seen: Probe, earlier: list[Probe], last: bool, action: str, weight: float
) -> None:
    decided = decide(seen, earlier, CollapseOptions(action="lower", max_lowerings=2), last=last)
    assert (decided.action, decided.penalty_weight) == (action, weight)


def test_the_user_is_told_what_was_seen_and_what_to_do() -> None:
    seen = Probe(
        step=20,
        answers=8,
        degenerate={"empty": 4, "repetitive": 2},
        examples={"empty": "", "repetitive": "no no no no"},
        benign_loss=2.5,
        penalty_weight=2.0,
    )
    decided = decide(seen, START, CollapseOptions(), last=False)
    assert explain(decided, START) == (
        "collapse, step 20: training is stopped, as 6 of 8 answers are degenerate (4 empty, 2 repetitive; before the first step "
        "1 were), such as 'no no no no' and the benign loss is 2.50 nats, 0.50 above its lowest so far. Kept are the weights of "
        "step 10. Set penalty_weight below 2, or push fewer tokens (avoid_tokens: first, a smaller avoid_first_k) or less far (a "
        "larger avoid_until, for objectives per token)."
    )
    without = [probe(0, 0, 2.0, penalty_weight=0.0)]
    told = explain(decide(probe(10, 0, 3.0, penalty_weight=0.0), without, CollapseOptions(), last=False), without)
    assert told.endswith(
        "Kept are the weights before the first step. There is no penalty (penalty_weight 0): train for fewer steps, or lower "
        "learning_rate."
    )


def test_weights_are_those_of_the_last_probe_within_the_limits() -> None:
    probes = [*START, LOWERED, probe(30, 0, 2.1)]
    assert [last_passed(probes, step) for step in (None, 29, 10, 9)] == [30, 10, 10, 0]
