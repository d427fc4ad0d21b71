"""Runs of one configuration under several seeds."""

from __future__ import annotations

from typing import Any

from steerclear.config import Tree

SEED = "/seed-"
"""Between the name of a configuration and the seed of its run."""


def seed_changes(seed: int) -> Tree:
    """Return what a seed changes in a recipe: the order, dropout and first weights, and the choice of rows."""
    return {"training": {"seed": seed}, "data": {"seed": seed}}


def check_seeds(seeds: Any) -> list[str]:
    """Return what is wrong with a list of seeds."""
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if whole and len(set(seeds)) == len(seeds):
        return []
    return [f"seeds: got {seeds!r}, allowed: a list of different whole numbers, such as [0, 1, 2]."]
