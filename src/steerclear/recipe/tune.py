"""The recipe of `steerclear tune`: which settings are searched, how, and within which limits."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from steerclear.config import PartOf, Tree, build, override
from steerclear.errors import ConfigError, one_of
from steerclear.recipe.train import Recipe

KIND = "tune"
METHODS = ("tpe", "grid")
TRIALS = 20
"""Trials of method tpe where the recipe gives no number."""

Values = dict[str, Any]
"""Dotted key of the recipe that trains -> value."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What one setting may be: a range from ``low`` to ``high``, or ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    """Look at the range on a logarithmic scale."""
    whole: bool = False
    """Whole numbers only."""
    choices: list[Any] | None = None
    """Texts, numbers, true, false or null."""
    points: int | None = None
    """How many values of the range a grid has, both ends among them."""

    def __post_init__(self) -> None:
        problems = self._wrong_range() if self.choices is None else self._wrong_choices(self.choices)
        if problems:
            raise ConfigError("\n".join(problems))

    def _wrong_choices(self, choices: list[Any]) -> list[str]:
        problems = []
        if (self.low, self.high, self.points) != (None, None, None) or self.log or self.whole:
            problems.append("choices: got them beside low, high, log, whole or points. Give a range or choices.")
        if not all(choice is None or isinstance(choice, str | int | float) for choice in choices):
            problems.append(f"choices: got {choices!r}, allowed: texts, numbers, true, false or null.")
        elif not choices or len(set(choices)) < len(choices):
            problems.append(f"choices: got {choices!r}, allowed: one or more, all different.")
        return problems

    def _wrong_range(self) -> list[str]:
        low, high = self.low, self.high
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
            return [f"low, high: got {low} and {high}, allowed: two numbers, low below high; or choices instead."]
        problems = []
        if self.log and low <= 0:
            problems.append(f"low: got {low:g} with log, allowed: above 0.")
        if self.whole and not (low.is_integer() and high.is_integer()):
            problems.append(f"low, high: got {low:g} and {high:g} with whole, allowed: whole numbers.")
        if self.points is not None and self.points < 2:
            problems.append(f"points: got {self.points}, allowed: 2 or more.")
        return problems

    def ends(self) -> list[Any]:
        """Return the values between which all others lie; all of them where they are choices."""
        if self.choices is not None:
            return self.choices
        return [int(end) if self.whole else end for end in (self.low, self.high) if end is not None]

    def grid(self) -> list[Any]:
        """Return the values of a grid: the choices, or ``points`` of the range, evenly spaced (on its scale) and shortened.

        >>> SearchOptions(low=0.1, high=30, log=True, points=4).grid()
        [0.1, 0.6694, 4.481, 30.0]
        """
        if self.choices is not None or self.points is None:
            return self.ends()
        low, high = float(self.low or 0), float(self.high or 0)
        shares = [place / (self.points - 1) for place in range(1, self.points - 1)]
        inner = [low * (high / low) ** share if self.log else low + (high - low) * share for share in shares]
        values = [low, *(float(f"{value:.4g}") for value in inner), high]
        return list(dict.fromkeys(round(value) for value in values)) if self.whole else values


@dataclass(frozen=True, kw_only=True)
class TuneLimits:
    """What a trial must not exceed to be chosen. ``null``: no limit."""

    over_refusal: float | None = 0.1
    """Highest rate of refused benign prompts."""
    degenerate: float | None = 0.05
    """Highest rate of degenerate answers to harmful prompts."""
    benign_loss: float | None = 0.1
    """How far the held-out benign loss may lie above the lowest of all finished trials, in nats a token."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: got {rate}, allowed: a rate from 0 to 1, or null."
            for name, rate in (("over_refusal", self.over_refusal), ("degenerate", self.degenerate))
            if rate is not None and not 0 <= rate <= 1
        ]
        if self.benign_loss is not None and not self.benign_loss >= 0:
            problems.append(f"benign_loss: got {self.benign_loss}, allowed: 0 nats or more, or null.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """A look at a model in training, to end a trial that leads nowhere."""

    every_steps: int = 10
    """Steps between probes."""
    prompts: int = 64
    """How many prompts of each suite are asked, where it has so many."""
    warmup_steps: int = 0
    """No trial ends before this step."""
    warmup_trials: int = 4
    """No trial ends for being worse than the median before so many are finished."""

    def __post_init__(self) -> None:
        lowest = {"every_steps": 1, "prompts": 2, "warmup_steps": 0, "warmup_trials": 1}
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: {least} or more."
            for name, least in lowest.items()
            if getattr(self, name) < least
        ]
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class TuneRecipe:
    """A search for settings."""

    output: str
    """The search's folder."""
    recipe: Annotated[dict[str, Any], PartOf(Recipe)]
    """What all trials share: a recipe of `steerclear train` without ``output`` and ``variants``."""
    search: dict[str, Any]
    """Dotted key of that recipe -> `SearchOptions`."""
    method: str = "tpe"
    """``tpe`` (Optuna's tree-structured Parzen estimator, which learns from finished trials) or ``grid`` (all combinations)."""
    trials: int | None = None
    """How many are finished or pruned in the end. Only for tpe, default 20; a grid has as many as it has points."""
    startup_trials: int = 5
    """Of tpe: the first ones, drawn at random."""
    seed: int = 0
    """Of the draws."""
    limits: TuneLimits = field(default_factory=TuneLimits)
    probe: ProbeOptions | None = None
    """``null``: every trial is trained to its end; ``{}``: the defaults."""
    kind: str = KIND
    """``tune``: tells this recipe from one that trains."""

    def __post_init__(self) -> None:
        problems = []
        if self.kind != KIND:
            problems.append(f"kind: got {self.kind!r}, allowed: {KIND} for this command.")
        if self.method not in METHODS:
            problems.append(one_of("method", self.method, METHODS))
        for name, least in (("trials", self.trials), ("startup_trials", self.startup_trials)):
            if least is not None and least < 1:
                problems.append(f"{name}: got {least}, allowed: 1 or more.")
        problems += [
            f"recipe.{name}: is not part of what trials share; leave it out."
            for name in ("output", "variants", "seeds")
            if name in self.recipe
        ]
        problems += self._wrong_search()
        if problems:
            raise ConfigError("\n".join(problems))

    def _wrong_search(self) -> list[str]:
        if not self.search:
            return [
                "search: is empty; name a setting, such as 'training.penalty_weight: {low: 0.1, high: 30, log: true}'."
            ]
        problems = []
        for key, tree in self.search.items():
            try:
                options = _options(key, tree)
            except ConfigError as error:
                problems += str(error).splitlines()
                continue
            if self.method == "grid" and options.choices is None and options.points is None:
                problems.append(f"search.{key}.points: is missing; a grid needs the number of values, or choices.")
        if self.method == "grid" and self.trials is not None:
            problems.append("trials: a grid has as many as it has points; leave it out.")
        return problems

    @property
    def space(self) -> dict[str, SearchOptions]:
        """What each searched setting may be."""
        return {key: _options(key, tree) for key, tree in self.search.items()}

    @property
    def budget(self) -> int:
        """How many trials are finished or pruned in the end."""
        return len(self.grid()) if self.method == "grid" else self.trials or TRIALS

    def grid(self) -> list[Values]:
        """Return all combinations of the values of a grid, the last setting changing fastest."""
        space = self.space
        return [
            dict(zip(space, values, strict=True))
            for values in itertools.product(*(options.grid() for options in space.values()))
        ]

    def tree_of(self, values: Values, output: Path) -> Tree:
        """Return the recipe of a trial's values as a tree, for `steerclear train`."""
        return override(self.recipe, list(values.items()), Recipe) | {"output": str(output)}

    def corners(self) -> list[Values]:
        """Return values that show whether all of them can be trained: of a grid all, else each setting's ends, one at a time."""
        if self.method == "grid":
            return self.grid()
        ends = {key: options.ends() for key, options in self.space.items()}
        first = {key: values[0] for key, values in ends.items()}
        return [first, *(first | {key: value} for key, values in ends.items() for value in values[1:])]


def _options(key: str, tree: Any) -> SearchOptions:
    if not isinstance(tree, dict):
        raise ConfigError(
            f"search.{key}: got {tree!r}, expected a range {{low: ..., high: ...}} or {{choices: [...]}}."
        )
    try:
        return build(SearchOptions, tree)
    except ConfigError as error:
        raise ConfigError("\n".join(f"search.{key}.{line}" for line in str(error).splitlines())) from error
