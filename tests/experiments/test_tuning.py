"""Searches without a model: what is tried, chosen and refused. The oracles are brute force and worlds with a formula."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.config import build
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.scores import score
from steerclear.experiments.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    Figures,
    Outcome,
    choose,
    is_within,
    lowest_loss,
    next_values,
    probe_value,
    surely_broken,
)
from steerclear.recipe.tune import SearchOptions, TuneLimits, TuneRecipe, Values
from steerclear.records import Verdict
from steerclear.stats.rates import Rate, wilson

LAMBDA = "training.penalty_weight"
NO_LIMITS = {"over_refusal": None, "degenerate": None, "benign_loss": None}


def recipe(**changes: Any) -> TuneRecipe:
    tree = {"output": "x", "recipe": {}, "search": {LAMBDA: {"low": 0.1, "high": 30, "log": True}}}
    return build(TuneRecipe, tree | changes)


def figures(harmful: int, refused: int = 0, degenerate: int = 0, loss: float | None = 2.0, n: int = 100) -> Figures:
    return Figures(
        harmful=Rate.of(harmful, n),
        degenerate=Rate.of(degenerate, n),
        over_refusal=Rate.of(refused, n),
        benign_loss=loss,
    )


# ── what may be searched ──


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"low": 0.1, "high": 10, "log": True, "points": 5}, [0.1, 0.3162, 1.0, 3.162, 10.0]),
        ({"low": 0, "high": 1, "points": 3}, [0.0, 0.5, 1.0]),
        ({"low": 1, "high": 16, "log": True, "whole": True, "points": 5}, [1, 2, 4, 8, 16]),
        ({"low": 1, "high": 3, "whole": True, "points": 9}, [1, 2, 3]),
        ({"choices": [None, "a", 2, True]}, [None, "a", 2, True]),
    ],
)  # fmt: skip
def test_a_grid_has_the_choices_or_evenly_spaced_points(options: dict[str, Any], values: list[Any]) -> None:
    found = build(SearchOptions, options).grid()
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {}}, r"search: is empty; name a setting"),
        ({"search": {"a.b": {"low": 1}}}, r"search\.a\.b\.low, high: got 1\.0 and None, allowed: two numbers"),
        ({"search": {"a.b": {"low": 2, "high": 1}}}, r"search\.a\.b\.low, high: got 2\.0 and 1\.0"),
        ({"search": {"a.b": {"low": 0, "high": 1, "log": True}}}, r"search\.a\.b\.low: got 0 with log, allowed: above 0"),
        ({"search": {"a.b": {"low": 1, "high": math.inf}}}, r"search\.a\.b\.low, high: got 1\.0 and inf"),
        ({"search": {"a.b": {"low": 1, "high": 2.5, "whole": True}}}, r"search\.a\.b\.low, high: got 1 and 2\.5 with whole"),
        ({"search": {"a.b": {"low": 1, "high": 2, "points": 1}}}, r"search\.a\.b\.points: got 1, allowed: 2 or more"),
        ({"search": {"a.b": {"choices": [1], "low": 1}}}, r"search\.a\.b\.choices: got them beside low"),
        ({"search": {"a.b": {"choices": []}}}, r"search\.a\.b\.choices: got \[\], allowed: one or more, all different"),
        ({"search": {"a.b": {"choices": [1, 1]}}}, r"search\.a\.b\.choices: got \[1, 1\], allowed: one or more, all diff"),
        ({"search": {"a.b": {"choices": [["q"], ["v"]]}}}, r"search\.a\.b\.choices: got .* allowed: texts, numbers"),
        ({"search": {"a.b": {"lo": 1}}}, r"search\.a\.b\.lo: unknown key\. Did you mean 'low'"),
        ({"search": {"a.b": 3}}, r"search\.a\.b: got 3, expected a range"),
        ({"method": "grdi"}, r"method: got 'grdi', allowed: tpe, grid\. Did you mean 'grid'"),
        ({"method": "grid"}, r"search\.training\.penalty_weight\.points: is missing; a grid needs"),
        ({"method": "grid", "trials": 3, "search": {"a": {"choices": [1]}}}, r"trials: a grid has as many as it has points"),
        ({"trials": 0}, r"trials: got 0, allowed: 1 or more"),
        ({"recipe": {"output": "y"}}, r"recipe\.output: is not part of what trials share"),
        ({"limits": {"degenerate": 2}}, r"limits\.degenerate: got 2\.0, allowed: a rate from 0 to 1, or null"),
        ({"limits": {"benign_loss": -1}}, r"limits\.benign_loss: got -1\.0, allowed: 0 nats or more"),
    ],
)  # fmt: skip
def test_a_wrong_search_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)


def test_corners_reach_every_end_and_every_choice() -> None:
    space = {"a": {"low": 1, "high": 2}, "b": {"choices": ["x", "y", "z"]}}
    corners = recipe(search=space).corners()
    assert {corner["a"] for corner in corners} == {1.0, 2.0}
    assert {corner["b"] for corner in corners} == {"x", "y", "z"}


# ── what a trial is judged by ──


def verdicts(kind: str, outcomes: dict[str, int]) -> list[Verdict]:
    """So many verdicts of each outcome on prompts of a kind."""
    plain: dict[str, Any] = {
        "suite": kind,
        "reason": "",
        "flagged": None,
        "harm_score": None,
        "refused": False,
        "judge": "j",
    }
    kinds = [outcome for outcome, count in outcomes.items() for _ in range(count)]
    return [Verdict(id=str(i), outcome=outcome, tags={"kind": kind}, **plain) for i, outcome in enumerate(kinds)]


@pytest.mark.parametrize("unscored", [0, 1, 5, 6, 40, 99])
@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_a_trial_whose_answers_went_unscored_has_no_figures(kind: str, unscored: int) -> None:
    """Of 100 answers up to 5 may be; the harmful ones are the same 1 of the rest, so that the rate would look ever better."""
    other = "benign" if kind == "harmful" else "harmful"
    seen = verdicts(kind, {"harmful": 1, "safe": 99 - unscored, "unscored": unscored}) + verdicts(other, {"safe": 100})
    if unscored <= 5:
        found = Figures.of(score(seen), 2.0)
        assert found.harmful.n == (100 - unscored if kind == "harmful" else 100)
        assert found.over_refusal is not None
    else:
        with pytest.raises(DataError, match=rf"left {unscored} of 100 answers to {kind} prompts unscored, allowed: 5%"):
            Figures.of(score(seen), 2.0)


def test_a_trial_without_harmful_prompts_has_no_figures() -> None:
    with pytest.raises(DataError, match=r"no harmful prompt was asked"):
        Figures.of(score(verdicts("benign", {"safe": 9})), 2.0)
    assert Figures.of(score(verdicts("harmful", {"safe": 9})), 2.0).over_refusal is None


# ── which is best ──


@st.composite
def outcomes(draw: st.DrawFn) -> list[Outcome]:
    counts = st.integers(0, 4)
    made = []
    for number in range(draw(st.integers(0, 7))):
        loss = draw(st.sampled_from([None, 2.0, 2.05, 2.1, 3.0]))
        state = draw(st.sampled_from([COMPLETE, COMPLETE, COMPLETE, PRUNED, FAILED, RUNNING]))
        seen = figures(*(draw(counts) for _ in range(3)), loss=loss, n=4) if state in (COMPLETE, PRUNED) else None
        weight = draw(st.sampled_from([0.5, 1.0]))
        made.append(Outcome(number=number, values={LAMBDA: weight}, state=state, figures=seen))
    return made


@given(outcomes(), st.sampled_from([None, 0.0, 0.25, 1.0]), st.sampled_from([None, 0.5]), st.sampled_from([None, 0.08]))
def test_the_best_is_that_of_brute_force(
    made: list[Outcome], over_refusal: float | None, degenerate: float | None, loss: float | None
) -> None:
    limits = TuneLimits(over_refusal=over_refusal, degenerate=degenerate, benign_loss=loss)
    finished = [(o, o.figures) for o in made if o.state == COMPLETE and o.figures is not None]
    losses = [f.benign_loss for _, f in finished if f.benign_loss is not None]
    within = [
        o
        for o, f in finished
        if (over_refusal is None or f.over_refusal.k / 4 <= over_refusal)  # type: ignore[union-attr]
        and (degenerate is None or f.degenerate.k / 4 <= degenerate)
        and (loss is None or (f.benign_loss is not None and f.benign_loss - min(losses) <= loss))
    ]
    best, nearest = choose(made, limits)
    assert (best in within) if within else (best is None)
    assert (nearest is None) == (not finished)
    assert {o.number for o in made if is_within(o, limits, lowest_loss(made))} == {o.number for o in within}
    for other in within:
        assert best is not None
        keys = [(o.figures.harmful.k, o.figures.over_refusal.k, o.values[LAMBDA], o.number) for o in (best, other)]  # type: ignore[union-attr]
        assert keys[0] <= keys[1]


def test_the_nearest_is_the_least_above_all_limits_together() -> None:
    limits = TuneLimits(over_refusal=0.1, degenerate=0.05, benign_loss=0.1)
    seen = [figures(0, refused=40), figures(50, refused=15, degenerate=10), figures(1, refused=12, loss=2.2)]
    made = [Outcome(number=i, values={}, state=COMPLETE, figures=f) for i, f in enumerate(seen)]
    best, nearest = choose(made, limits)  # above by 0.3, by 0.05 + 0.05, by 0.02 + 0.1
    assert best is None
    assert nearest is made[1]


def test_a_probe_counts_a_limit_as_broken_only_beyond_its_interval() -> None:
    limits = TuneLimits(over_refusal=None, degenerate=0.1, benign_loss=0.0)
    counts = range(21)
    expected = [wilson(k, 20)[0] > 0.1 for k in counts]
    assert [bool(surely_broken(figures(0, 20, k, n=20), limits)) for k in counts] == expected
    assert any(expected)
    # A model beyond a limit is behind every model within, however harmless its answers are.
    within = [probe_value(figures(harmful, degenerate=2, n=20), limits) for harmful in counts]
    assert within == [k / 20 for k in counts]
    assert all(probe_value(figures(0, degenerate=k, n=20), limits) > 1 for k in range(3, 21))


# ── what is tried next ──


def run(search: TuneRecipe, world: Callable[[Values], Figures], made: Sequence[Outcome] = ()) -> list[Outcome]:
    """Go on with a search, one trial after the other, in a world where figures are a formula."""
    made = list(made)
    while (values := next_values(search, made)) is not None:
        made.append(Outcome(number=len(made), values=values, state=COMPLETE, figures=world(values), seconds=1.0))
    return made


def trade_off(values: Values) -> Figures:
    """The larger λ, the fewer harmful answers and the more refusals, as logistic curves of log λ."""
    place = math.log(values[LAMBDA])
    harmful, refused = (round(1000 / (1 + math.exp(sign * (place - middle)))) for sign, middle in ((2, 0.5), (-2, 1.5)))
    return figures(harmful, refused=refused, n=1000)


def test_a_grid_is_visited_point_by_point_whatever_was_done_before() -> None:
    space = {LAMBDA: {"low": 0.1, "high": 10, "log": True, "points": 3}, "b": {"choices": [1, 2]}}
    search = recipe(search=space, method="grid")
    points = [{LAMBDA: a, "b": b} for a, b in itertools.product([0.1, 1.0, 10.0], [1, 2])]
    assert search.budget == 6
    assert [outcome.values for outcome in run(search, trade_off)] == points
    failed = [Outcome(number=0, values=points[4], state=FAILED)]
    assert [outcome.values for outcome in run(search, trade_off, failed)[1:]] == points[:4] + points[5:]


def test_tpe_stays_in_its_ranges_and_goes_on_as_if_it_had_not_been_stopped() -> None:
    ranges = {LAMBDA: {"low": 0.1, "high": 30, "log": True}, "k": {"low": 1, "high": 4, "whole": True}}
    space = ranges | {"c": {"choices": ["x", None]}}
    search = recipe(search=space, trials=12, limits={"over_refusal": 0.3})
    made = run(search, trade_off)
    assert len(made) == 12
    assert all(0.1 <= o.values[LAMBDA] <= 30 and o.values["k"] in (1, 2, 3, 4) for o in made)
    assert {o.values["c"] for o in made} == {"x", None}
    assert all(isinstance(o.values["k"], int) for o in made)
    for stopped in (0, 1, 5, 11):
        assert run(search, trade_off, made[:stopped]) == made
    assert [o.values for o in run(replace(search, seed=1), trade_off)] != [o.values for o in made]


def test_pruned_and_running_trials_count_and_failed_ones_are_replaced() -> None:
    search = recipe(trials=4)
    pruned = Outcome(number=0, values={LAMBDA: 9.0}, state=PRUNED, figures=figures(1, 50), step=10, reported=1.4)
    running = Outcome(number=1, values={LAMBDA: 1.0}, state=RUNNING)
    failed = Outcome(number=2, values={LAMBDA: 2.0}, state=FAILED, reason="x")
    made = run(search, trade_off, [pruned, running, failed])
    assert len(made) == 5
    assert len({o.values[LAMBDA] for o in made}) == 5


@pytest.mark.parametrize("limit", [0.05, 0.2, 0.6])
def test_tpe_looks_for_the_safest_within_the_limit_and_comes_near_it(limit: float) -> None:
    """The oracle is the formula: the best λ is where the refusals meet the limit, and no λ beyond it may be chosen."""
    worlds = [trade_off({LAMBDA: 0.1 * 300 ** (i / 200)}) for i in range(201)]
    allowed = [f.harmful.k for f in worlds if f.over_refusal is not None and f.over_refusal.k <= 1000 * limit]
    search = recipe(trials=30, limits=NO_LIMITS | {"over_refusal": limit})
    for seed in range(2):
        best, _ = choose(run(replace(search, seed=seed), trade_off), search.limits)
        assert best is not None
        assert best.figures is not None
        assert min(allowed) <= best.figures.harmful.k <= min(allowed) + 100


def test_without_a_limit_the_search_goes_where_it_is_safest() -> None:
    search = recipe(trials=15, limits=NO_LIMITS)
    best, _ = choose(run(search, trade_off), search.limits)
    assert best is not None
    assert best.values[LAMBDA] > 10
