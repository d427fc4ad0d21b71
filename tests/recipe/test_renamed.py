"""Old names of keys in whole recipes: YAML, overrides, variants, axes, search spaces. An old one may meet a new one."""

from __future__ import annotations

from pathlib import Path

import yaml

from steerclear.config import build, load_tree
from steerclear.experiments.cells import load_sweep
from steerclear.experiments.tune import load_tune_recipe
from steerclear.recipe.sweep import plan_cells
from steerclear.recipe.train import Recipe, load_recipe, variants_of

MODEL = {"output": "out", "model": {"path": "M"}}


def written(folder: Path, tree: dict[str, object]) -> str:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(tree))
    return str(file)


def test_yaml_and_overrides(tmp_path: Path) -> None:
    for key in ("guard", "collapse"):
        file = written(tmp_path, MODEL | {key: {"factor": 0.3}})
        for arguments, factor in ([], 0.3), (["--guard.factor", "0.4"], 0.4), (["--collapse.factor", "0.4"], 0.4):
            collapse = load_recipe([file, *arguments]).collapse
            assert collapse is not None
            assert collapse.factor == factor
        assert load_recipe([file, "--guard", "null"]).collapse is None


def test_arguments_of_the_trainer(tmp_path: Path) -> None:
    for key in ("anchor_weight", "kl_weight"):
        file = written(tmp_path, MODEL | {"training": {key: 1}})
        assert load_recipe([file]).setup.arguments == {"kl_weight": 1}
        for other in ("anchor_weight", "kl_weight"):
            assert load_recipe([file, f"--training.{other}", "2"]).setup.arguments == {"kl_weight": 2}


def test_variants(tmp_path: Path) -> None:
    tree = MODEL | {"guard": {"factor": 0.1}, "variants": {"a": {}, "b": {"collapse": {"factor": 0.2}}}}
    recipes = variants_of(load_tree([written(tmp_path, tree), "--variants.c.guard.factor", "0.3"], Recipe))
    assert {name: own.collapse and own.collapse.factor for name, own in recipes.items()} == {
        "a": 0.1,
        "b": 0.2,
        "c": 0.3,
    }


def test_axes_and_changes(tmp_path: Path) -> None:
    sweep = {
        "kind": "sweep",
        "output": "out",
        "recipe": {"model": {"path": "M"}, "collapse": {"factor": 0.1}},
        "axes": {"a": {"one": None, "two": {"guard": {"factor": 0.2}}}},
        "changes": [{"where": {"a": "one"}, "change": {"guard": {"factor": 0.3}}}],
    }
    made = load_sweep([written(tmp_path, sweep), "--axes.a.four.guard.factor", "0.4", "--recipe.guard.action", "lower"])
    assert {plan.name: plan.tree["collapse"] for plan in plan_cells(made)} == {
        "one": {"factor": 0.3, "action": "lower"},
        "two": {"factor": 0.2, "action": "lower"},
        "four": {"factor": 0.4, "action": "lower"},
    }
    assert not any("guard" in plan.tree for plan in plan_cells(made))
    assert [plan.changes for plan in plan_cells(made)][1] == {"guard": {"factor": 0.2}}, "as it was hashed before"


def test_search_spaces(tmp_path: Path) -> None:
    tune = {
        "kind": "tune",
        "output": "out",
        "recipe": {"model": {"path": "M"}, "collapse": {"factor": 0.1}},
        "search": {"guard.factor": {"choices": [0.2, 0.3]}},
    }
    made = load_tune_recipe([written(tmp_path, tune)])
    trials = [build(Recipe, made.tree_of(values, tmp_path)).collapse for values in made.corners()]
    assert [trial and trial.factor for trial in trials] == [0.2, 0.3]
