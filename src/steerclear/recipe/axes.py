"""Combinations of the values on a few axes, each a set of changes to one recipe: a sweep's, and the variants of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import Any

from steerclear.config import Tree, merge
from steerclear.store.status import SEED, SEED_AXIS

Axes = dict[str, dict[str, Tree]]
"""Axis -> name of a value -> what this value changes in the recipe."""


def axes_of(axes: Mapping[str, Any], seeds: Sequence[int]) -> Axes:
    """Return the axes with the seeds as the last one and all names as text."""
    found = {axis: {str(value): own or {} for value, own in values.items()} for axis, values in axes.items()}
    if seeds:
        found[SEED_AXIS] = {str(seed): _seed_changes(seed) for seed in seeds}
    return found


def combinations(axes: Axes) -> Iterator[tuple[dict[str, str], Tree]]:
    """Yield ``({axis: value}, changes)`` in the order of the axes, the last one changing fastest."""
    for values in product(*(own.items() for own in axes.values())):
        labels = {axis: value for axis, (value, _) in zip(axes, values, strict=True)}
        yield labels, reduce(merge, (changes for _, changes in values), {})


def name_of(labels: Mapping[str, str]) -> str:
    """Return a combination's name: the values, with slashes between them.

    >>> name_of({"method": "emd", "seed": "3"})
    'emd/seed-3'
    """
    seed = f"{SEED}{labels[SEED_AXIS]}" if SEED_AXIS in labels else ""
    return ("/".join(value for axis, value in labels.items() if axis != SEED_AXIS) + seed).removeprefix("/")


def _seed_changes(seed: int) -> Tree:
    """Return what a seed changes in a recipe: the order, dropout and first weights, and the choice of rows."""
    return {"training": {"seed": seed}, "data": {"seed": seed}}


def check_seeds(seeds: Any) -> list[str]:
    """Return what is wrong with a list of seeds."""
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if whole and len(set(seeds)) == len(seeds):
        return []
    return [f"seeds: got {seeds!r}, allowed: a list of different whole numbers, such as [0, 1, 2]."]
