"""The reference of settings: true to the classes, and readable without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from steerclear.config import build, dump_yaml, to_tree
from steerclear.recipe.reference import (
    PAGE,
    PAPER,
    SCHEMA,
    field_docs,
    help_text,
    page,
    read_schema,
    recipe_classes,
    schema,
    settings,
)
from steerclear.recipe.train import Recipe
from steerclear.training.options import LoraOptions

ROOT = Path(__file__).resolve().parents[2]


def test_schema_and_page_are_those_of_the_classes() -> None:
    whole = schema()
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json.loads(json.dumps(whole))
    assert PAGE.read_text(encoding="utf-8") == page(whole)


def test_every_setting_says_what_it_is() -> None:
    silent = [
        setting.name
        for kind in recipe_classes()
        for setting in settings(read_schema(), kind)
        if not setting.about and not setting.is_section and setting.name.split(".")[-1] not in ("low", "high", "steps")
    ]
    assert silent == []


def test_a_field_has_the_docstring_under_it() -> None:
    assert field_docs(LoraOptions)["r"] == "Rank."


def test_defaults_are_those_of_the_classes() -> None:
    found = {setting.name: setting for setting in settings(read_schema(), "train")}
    assert found["lora.r"].default == "8"
    assert found["data.heldout_count"].default == "200"
    assert found["evaluation.suites[].path"].type == "text or null"
    assert "guard" not in found
    assert found.keys() >= PAPER.keys()


@pytest.mark.parametrize("kind", sorted(recipe_classes()))
def test_help_lists_the_settings_of_every_kind(kind: str) -> None:
    text = help_text(kind)
    assert "--output" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_accepts_the_names_in_our_recipes(recipe: Path) -> None:
    whole = read_schema()
    tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert tree.keys() <= whole["$defs"][tree.get("kind", "train")]["properties"].keys()


def test_a_whole_recipe_is_the_same_recipe() -> None:
    tree = {"output": "o", "model": {"path": "m"}, "recovery": {}, "collapse": {"action": "lower"}}
    made = build(Recipe, tree)
    assert build(Recipe, yaml.safe_load(dump_yaml(to_tree(made)))) == made
