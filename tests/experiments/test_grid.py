"""Grids: which combinations there are, what each changes, and what is refused."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.config import build
from steerclear.errors import ConfigError
from steerclear.recipe.sweep import SweepRecipe, plan_cells

AXES = {
    "objective": {"emd": {"training": {"objective": "emd_bound"}}, "sft": {"training": {"penalty_weight": 0}}},
    "rows": {100: {"data": {"unsafe_count": 100}}, 20: {"data": {"unsafe_count": 20}}},
}


def sweep(**changes: Any) -> SweepRecipe:
    return build(SweepRecipe, {"output": "out", "recipe": {"data": {"benign": "b.jsonl"}}, "axes": AXES} | changes)


def test_cells_are_all_combinations_in_order_and_lie_over_the_recipe() -> None:
    plans = plan_cells(sweep(seeds=[0, 7]))
    assert [plan.name for plan in plans] == [
        "emd/100/seed-0", "emd/100/seed-7", "emd/20/seed-0", "emd/20/seed-7",
        "sft/100/seed-0", "sft/100/seed-7", "sft/20/seed-0", "sft/20/seed-7",
    ]  # fmt: skip
    assert plans[1].labels == {"objective": "emd", "rows": "100", "seed": "7"}
    assert plans[1].tree == {
        "data": {"benign": "b.jsonl", "unsafe_count": 100, "seed": 7},
        "training": {"objective": "emd_bound", "seed": 7},
    }


def test_changes_apply_in_order_to_all_that_fit_and_skips_leave_out() -> None:
    plans = plan_cells(
        sweep(
            changes=[
                {"where": {"objective": "emd"}, "change": {"training": {"penalty_weight": 1, "max_steps": 5}}},
                {"where": {"objective": "emd", "rows": 20}, "change": {"training": {"penalty_weight": 9}}},
                {"where": {"objective": "sft", "rows": [20]}, "skip": True},
            ]
        )
    )
    assert {plan.name: plan.tree["training"] for plan in plans} == {
        "emd/100": {"objective": "emd_bound", "penalty_weight": 1, "max_steps": 5},
        "emd/20": {"objective": "emd_bound", "penalty_weight": 9, "max_steps": 5},
        "sft/100": {"penalty_weight": 0},
    }


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    skipped=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3),
)
def test_the_number_of_cells_is_the_product_without_the_skipped(
    sizes: list[int], skipped: list[tuple[int, int]]
) -> None:
    axes = {
        f"a{n}": {f"v{value}": {"training": {f"k{n}": value}} for value in range(size)} for n, size in enumerate(sizes)
    }
    skips = [(f"a{n}", f"v{value}") for n, value in skipped if n < len(sizes) and value < sizes[n]]
    expected = [
        dict(zip(axes, values, strict=True))
        for values in product(*axes.values())
        if not any(dict(zip(axes, values, strict=True))[axis] == value for axis, value in skips)
    ]
    recipe = sweep(axes=axes, changes=[{"where": {axis: value}, "skip": True} for axis, value in skips])
    if not expected:
        with pytest.raises(ConfigError, match="no combination"):
            plan_cells(recipe)
        return
    plans = plan_cells(recipe)
    assert [plan.labels for plan in plans] == expected
    assert all(
        plan.tree["training"] == {f"k{n}": int(v[1:]) for n, v in enumerate(plan.labels.values())} for plan in plans
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {}}, "axes: is missing"),
        ({"axes": {"rows": {}}}, "axes.rows: got {}"),
        ({"axes": {"rows": {"a/b": {}}}}, "axes.rows: got the value 'a/b'"),
        ({"axes": {"rows": {"a": 3}}}, "axes.rows.a: got 3"),
        ({"seeds": [1, 1]}, "seeds: got"),
        ({"axes": {"seed": {1: {}}}}, "axes.seed: is the axis that 'seeds"),
        ({"recipe": {"output": "x"}}, "recipe.output: each cell has a folder"),
        ({"recipe": {"variants": {"a": {}}}}, "recipe.variants: belongs to steerclear compare"),
        ({"changes": [{"where": {"row": 20}, "skip": True}]}, r"no such axis. Did you mean 'rows'\?"),
        ({"changes": [{"where": {"rows": 21}, "skip": True}]}, "got '21', allowed: 100, 20"),
        ({"changes": [{"where": {"rows": 20}}]}, "give one of the two"),
        ({"changes": [{"where": {}, "skip": True}]}, "where: is empty"),
        ({"launch": {"processes": 0}}, "launch.processes: got 0"),
        ({"launch": {"config": "a.yaml"}}, "launch.config: needs 'processes'"),
    ],
)
def test_a_wrong_sweep_is_refused_with_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(**changes)
