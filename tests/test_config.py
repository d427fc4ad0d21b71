"""Recipes: overrides, inputs, types, and all problems at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from steerclear.config import (
    PartOf,
    build,
    dump_yaml,
    fill_inputs,
    load_yaml,
    merge,
    new_names,
    old_names,
    override,
    parse_overrides,
    to_tree,
    with_new_names,
)
from steerclear.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError(f"rate: got {self.rate}, allowed: 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Outer:
    path: str
    count: int | None = None
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    either: str | list[str] = ""
    free: dict[str, Any] = field(default_factory=dict)
    flag: bool = False


def test_overrides_are_read_as_yaml_and_numbers_as_numbers() -> None:
    arguments = ["--a.b", "1e-4", "--c=[1, x]", "--d", "null", "--e-f", "true", "--g=a=b", "--h", "text"]
    assert parse_overrides(arguments) == [
        ("a.b", 1e-4), ("c", [1, "x"]), ("d", None), ("e_f", True), ("g", "a=b"), ("h", "text"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), [(["x"], "got 'x', expected --key"), (["--a"], "--a: the value is missing")]
)
def test_wrong_overrides(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(arguments)


def test_override_reaches_into_sections_and_merge_keeps_the_rest() -> None:
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    assert override(tree, [("a.b", 9), ("x.y", 1)]) == {"a": {"b": 9, "c": 2}, "d": 3, "x": {"y": 1}}
    assert tree == {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(tree, {"a": {"c": None}})["a"] == {"b": 1, "c": None}
    with pytest.raises(ConfigError, match="'d' is a value, not a section"):
        override(tree, [("d.e", 1)])


def test_inputs_fill_the_recipe_and_must_have_values() -> None:
    tree = {"inputs": {"base": None, "data": "d"}, "m": {"p": ["${base}/x", "${data}"]}}
    filled, rest = fill_inputs(tree, [("base", "B"), ("other", 1)])
    assert filled == {"m": {"p": ["B/x", "d"]}}
    assert rest == [("other", 1)]
    with pytest.raises(ConfigError, match="--base: this recipe needs a value"):
        fill_inputs(tree, [])
    with pytest.raises(ConfigError, match=r"\$\{bse\}: not declared under inputs. Did you mean 'base'\?"):
        fill_inputs({"inputs": {"base": 1}, "x": "${bse}"}, [])


def test_build_converts_and_nests() -> None:
    made = build(
        Outer,
        {
            "path": "p",
            "count": 3.0,
            "inner": {"rate": "1e-4"},
            "many": [{"rate": 2}],
            "either": ["a"],
            "free": {"x": 1},
        },
    )
    assert made == Outer(path="p", count=3, inner=Inner(rate=1e-4), many=[Inner(rate=2.0)], either=["a"], free={"x": 1})
    assert build(Outer, to_tree(made)) == made


def test_all_problems_come_together_with_their_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        build(
            Outer,
            {
                "cuont": 1,
                "inner": {"rate": -1},
                "many": [{}, {"rate": "fast"}],
                "flag": 1,
                "either": 5,
                "free": [],
                "count": True,
            },
        )
    assert str(caught.value).splitlines() == [
        "cuont: unknown key. Did you mean 'count'?",
        "inner.rate: got -1.0, allowed: 0 or more.",
        "many[1].rate: got 'fast', expected a number.",
        "flag: got 1, expected true or false.",
        "either: got 5, which fits none of its forms.",
        "free: got [], expected a mapping.",
        "count: got True, expected a whole number.",
        "path: is missing; it has no default.",
    ]


def test_yaml_files(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("a: {b: 1}\n")
    assert load_yaml(file) == {"a": {"b": 1}}
    file.write_text("")
    assert load_yaml(file) == {}
    for text, message in (("- 1", "got a list at the top"), ("a: [", "not valid YAML")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_yaml(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "absent.yaml")
    assert dump_yaml({"b": 1, "a": "λ"}) == "b: 1\na: λ\n"


def test_an_old_name_of_a_key_is_accepted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    problems: list[str] = []
    renamed = {"guard": "collapse"}
    assert with_new_names({"a": 1, "guard": 2, "b": 3}, renamed, "section.", problems) == {
        "a": 1,
        "collapse": 2,
        "b": 3,
    }
    assert [record.message for record in caplog.records] == [
        "section.guard: is now called section.collapse; the old name still works. Rename it in your recipe."
    ]
    with_new_names({"guard": 2, "collapse": 3}, renamed, "", problems)
    assert problems == ["guard: is the old name of collapse, which is given too. Leave the old one out."]


@dataclass(frozen=True, kw_only=True)
class Renamed(Inner):
    many: list[Inner] = field(default_factory=list)
    weight: float = 0.0
    RENAMED: ClassVar[dict[str, str]] = {"anchor": "weight", "list": "many"}


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Renamed | None = None
    parts: list[Renamed] = field(default_factory=list)
    over: Annotated[dict[str, Any], PartOf(Whole)] = field(default_factory=dict)
    axes: Annotated[dict[str, Any], PartOf(Whole, below=2)] = field(default_factory=dict)
    RENAMED: ClassVar[dict[str, str]] = {"piece": "part"}


OLD = {
    "piece": {"anchor": 1.0, "list": [{"rate": 2.0}]},
    "parts": [{"anchor": 3.0}],
    "over": {"piece": {"anchor": 4.0}, "elsewhere": 5},
    "axes": {"piece": {"anchor": {"piece": {"anchor": 6.0}}, "nothing": None}},
}
NEW = {
    "part": {"weight": 1.0, "many": [{"rate": 2.0}]},
    "parts": [{"weight": 3.0}],
    "over": {"part": {"weight": 4.0}, "elsewhere": 5},
    "axes": {"piece": {"anchor": {"part": {"weight": 6.0}}, "nothing": None}},
}


def test_old_names_are_taken_for_the_new_ones_wherever_they_stand() -> None:
    assert build(Whole, OLD) == build(Whole, NEW)
    assert new_names(Whole, OLD) == NEW
    assert old_names(Whole, NEW) == OLD
    assert old_names(Whole, OLD) == OLD


def test_overrides_by_an_old_name_replace_the_new_one() -> None:
    tree = override(new_names(Whole, OLD), [("piece.anchor", 9), ("part.rate", 8)], Whole)
    assert tree["part"] == NEW["part"] | {"weight": 9, "rate": 8}
    assert "piece" not in tree


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"part": {"anchor": 1, "weight": 2}}, "part.anchor: is the old name of part.weight, which is given too."),
        ({"parts": [{"anchor": 1, "weight": 2}]}, "parts[0].anchor: is the old name of parts[0].weight, which is"),
        ({"piece": {}, "part": {}}, "piece: is the old name of part, which is given too. Leave the old one out."),
    ],
)
def test_both_names_are_an_error(tree: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Whole, tree)
    assert str(caught.value).startswith(problem)
