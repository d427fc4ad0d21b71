"""The paper's experiments as sweeps: tables and figures, the models' presets, and the grid that two of these make together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from steerclear.config import Tree, build, load_yaml, merge
from steerclear.errors import ConfigError, one_of
from steerclear.experiments.published import published_table
from steerclear.recipe.sweep import KIND

FOLDER = Path(__file__).with_suffix("")

OWN_INPUTS = ("base", "unsafe")
"""Inputs of which each model has its own."""

MODEL, METHOD, ROWS, CONTRAST, WEIGHT = "model", "method", "rows", "contrast", "weight"
"""The axes."""

STL = "stl"
"""The method whose rows are safe answers."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or a figure: what is varied, and what is asked."""

    models: list[str]
    """Whose numbers or curves the paper shows, by their presets."""
    methods: list[str]
    """Of ``paper/methods.yaml``."""
    rows: list[int]
    """Numbers of unsafe rows, of safe ones for `STL`."""
    suites: list[str] = field(default_factory=list)
    """Cards."""
    weights: list[float] = field(default_factory=list)
    """Multiples of the preset's penalty weights. Empty: these alone."""
    contrast: bool = False
    """Without and with contrastive rows."""
    along: bool = False
    """Evaluate through the training."""
    pair: bool = False
    """Attack the models with PAIR."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model with everything that its trainings and evaluations share."""

    about: str
    """In a few words."""
    inputs: dict[str, str | None]
    """As in a recipe: name -> default."""
    recipe: dict[str, Any]
    """As in a sweep."""
    penalty_weights: str | dict[str, dict[int, float]]
    """λ by method and number of unsafe rows, or the model whose λ of Table 4 are taken."""
    methods: dict[str, Any] = field(default_factory=dict)
    """Method -> what it changes more."""
    every_steps: int
    """Steps between two evaluations, where an experiment looks along the training."""

    def penalty_weight(self, method: str, rows: int) -> float | None:
        """Return λ of a method with so many unsafe rows; None where it has none."""
        if isinstance(self.penalty_weights, str):
            found = published_table("table4").find(model=self.penalty_weights, method=method, unsafe_rows=rows)
            return None if found is None else found.value
        return self.penalty_weights.get(method, {}).get(rows)


@cache
def experiments() -> dict[str, Experiment]:
    """Return the paper's tables and figures by the ids of `steerclear.experiments.published`, in its order."""
    return {id: build(Experiment, tree) for id, tree in load_yaml(FOLDER / "experiments.yaml").items()}


@cache
def presets() -> dict[str, Preset]:
    """Return the models by name."""
    return {path.stem: build(Preset, _inherited(path)) for path in sorted((FOLDER / "presets").glob("*.yaml"))}


def _inherited(path: Path) -> Tree:
    tree = load_yaml(path)
    like = tree.pop("like", None)
    return tree if like is None else merge(load_yaml(FOLDER / f"{like}.yaml"), tree)


def compose(
    table: str,
    names: Sequence[str],
    *,
    only: Mapping[str, Sequence[str]] | None = None,
    judge: Tree | None = None,
    attacker: Tree | None = None,
) -> Tree:
    """Return the sweep of a table or figure with one or more models, as the tree of a recipe with inputs.

    With several models ``base`` and ``unsafe`` are inputs of each: ``llama_7b_base`` and so on.

    Args:
        names: of presets.
        only: axis -> the values that are kept.
        judge: in place of the presets' judges, first and second.
        attacker: who writes the prompts of PAIR, as a recipe has it.

    Raises:
        ConfigError: an unknown table, preset, axis or value; another table is about that model; or the attacker is missing, or
            there is none to name.
    """
    published_table(table)
    experiment = experiments()[table]
    if experiment.pair != (attacker is not None):
        raise ConfigError(
            f"attacker: {table} is about no attack; leave it out."
            if attacker is not None
            else f"attacker: is missing; {table} needs a chat model that writes prompts: --attacker and a folder, a Hub name, "
            "a script of replies (.jsonl), or a role in YAML."
        )
    chosen = _chosen(table, experiment, names)
    alone = len(chosen) == 1
    recipes = [_recipe(experiment, preset, name, judge, attacker, alone=alone) for name, preset in chosen.items()]
    common = _shared(recipes)
    models = {name: _without(recipe, common) for name, recipe in zip(chosen, recipes, strict=True)}
    axes = _kept(_axes(experiment, models), only or {})
    return {
        "kind": KIND,
        "title": f"{published_table(table).title}; on {', '.join(chosen)}",
        "paper": {"table": table, "preset": ",".join(chosen)},
        "inputs": _inputs(experiment, chosen),
        "output": f"runs/paper/{table}-{'+'.join(chosen)}",
        "recipe": common,
        "axes": axes,
        "changes": [
            change
            for model in axes[MODEL]
            for method in axes[METHOD]
            for change in _changes(experiment, chosen[model], {MODEL: model, METHOD: method}, axes)
        ],
    }


def _chosen(table: str, experiment: Experiment, names: Sequence[str]) -> dict[str, Preset]:
    others = {model for other in experiments().values() for model in other.models} - set(experiment.models)
    allowed = [*experiment.models, *(name for name in presets() if name not in {*experiment.models, *others})]
    if not names:
        raise ConfigError(f"preset: is missing; {table} can be run with {', '.join(allowed)}.")
    for name in names:
        if name in others:
            raise ConfigError(f"preset: got '{name}', which {table} is not about. Allowed: {', '.join(allowed)}.")
        if name not in allowed:
            raise ConfigError(one_of("preset", name, allowed))
    return {name: presets()[name] for name in names}


def _inputs(experiment: Experiment, chosen: Mapping[str, Preset]) -> Tree:
    contrast = {"contrast": None} if experiment.contrast else {}
    alone = len(chosen) == 1
    return {
        _input(key, name, alone): default for name, preset in chosen.items() for key, default in preset.inputs.items()
    } | contrast


def _input(key: str, name: str, alone: bool) -> str:
    return key if alone or key not in OWN_INPUTS else f"{re.sub(r'[^a-z0-9]', '_', name)}_{key}"


def _recipe(
    experiment: Experiment, preset: Preset, name: str, judge: Tree | None, attacker: Tree | None, *, alone: bool
) -> Tree:
    """Return what all trainings of a model share, with the names of its inputs."""
    evaluation = preset.recipe["evaluation"] | {"suites": [{"card": c, "data": "${data}"} for c in experiment.suites]}
    if experiment.along:
        evaluation |= {"every_steps": preset.every_steps}
    if attacker is not None:
        behaviors = {"card": "pair_subset_50", "data": "${data}"}
        evaluation |= {"attacks": {"behaviors": behaviors, "pair": {"attacker": attacker}}}
    if judge is not None:
        evaluation |= {"judge": judge, "second_opinions": []}
    text = json.dumps(preset.recipe | {"evaluation": evaluation})
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda found: f"${{{_input(found[1], name, alone)}}}", text))


def _shared(trees: Sequence[Tree]) -> Tree:
    """Return what is the same in all trees."""
    common: Tree = {}
    for key, value in trees[0].items():
        values = [tree[key] for tree in trees if key in tree]
        if len(values) < len(trees):
            continue
        if all(isinstance(one, dict) for one in values):
            common[key] = _shared(values)
        elif all(one == value for one in values):
            common[key] = value
    return common


def _without(tree: Tree, common: Tree) -> Tree:
    """Return what a tree has more than what it shares."""
    rest = {}
    for key, value in tree.items():
        own = _without(value, common[key]) if key in common and isinstance(value, dict) else value
        if key not in common or (isinstance(value, dict) and own):
            rest[key] = own
    return rest


def _axes(experiment: Experiment, models: Tree) -> dict[str, Tree]:
    methods = load_yaml(FOLDER / "methods.yaml")
    axes: dict[str, Tree] = {
        MODEL: models,
        METHOD: {method: methods[method] for method in experiment.methods},
        ROWS: {str(rows): {"data": {"unsafe_count": rows}} for rows in experiment.rows},
    }
    if experiment.contrast:
        axes[CONTRAST] = {"without": {}, "with": {"data": {"extra": "${contrast}"}}}
    if experiment.weights:
        axes[WEIGHT] = {_times(factor): {} for factor in experiment.weights}
    return axes


def _kept(axes: dict[str, Tree], only: Mapping[str, Sequence[str]]) -> dict[str, Tree]:
    for axis, values in only.items():
        if axis not in axes:
            raise ConfigError(one_of("only", axis, axes))
        for value in values:
            if value not in axes[axis]:
                raise ConfigError(one_of(f"only {axis}", value, axes[axis]))
    return {
        axis: {value: own for value, own in values.items() if axis not in only or value in only[axis]}
        for axis, values in axes.items()
    }


def _times(factor: float) -> str:
    return f"x{factor:g}"


def _changes(
    experiment: Experiment, preset: Preset, where: dict[str, str], axes: Mapping[str, Tree]
) -> Iterator[dict[str, Any]]:
    """Yield what a method changes with a model: its own settings, and by the number of rows how many, and λ."""
    method = where[METHOD]
    if method in preset.methods:
        yield {"where": where, "change": preset.methods[method]}
    for rows in map(int, axes[ROWS]):
        here = where | {ROWS: str(rows)}
        if method == STL:
            yield {"where": here, "change": {"data": {"unsafe_count": None, "extra_count": rows}}}
        weight = preset.penalty_weight(method, rows)
        if weight is None:
            continue
        yield {"where": here, "change": {"training": {"penalty_weight": weight}}}
        for factor in experiment.weights:
            if factor != 1 and _times(factor) in axes[WEIGHT]:
                change = {"training": {"penalty_weight": round(weight * factor, 6)}}
                yield {"where": here | {WEIGHT: _times(factor)}, "change": change}
