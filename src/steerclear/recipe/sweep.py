"""A grid of trainings: every combination of the values on a few axes, each one laid over a common recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Annotated, Any

from steerclear.config import PartOf, Tree, merge, old_names
from steerclear.errors import ConfigError, did_you_mean
from steerclear.recipe.axes import axes_of, check_seeds, combinations, name_of
from steerclear.recipe.train import Recipe
from steerclear.store.status import SEED_AXIS

KIND = "sweep"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What some combinations change more, or that they are left out."""

    where: dict[str, Any]
    """Axis -> the value, or the list of values, that a combination must have. All axes that are named must fit."""
    change: Annotated[dict[str, Any], PartOf(Recipe)] = field(default_factory=dict)
    """Laid over the recipe after the axes' own changes, in the order of the list."""
    skip: bool = False
    """Leave these combinations out."""

    def __post_init__(self) -> None:
        if bool(self.change) == self.skip:
            raise ConfigError("change, skip: give one of the two: what these combinations change, or 'skip: true'.")
        if not self.where:
            raise ConfigError("where: is empty; name at least one axis. What all cells share belongs into the recipe.")

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Return whether a combination is one of these."""
        return all(labels[axis] in _texts(wanted) for axis, wanted in self.where.items())


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How the training of a cell is started."""

    processes: int = 1
    """Processes of one training, started by ``accelerate launch``. 1: none is started."""
    config: str | None = None
    """A configuration file that ``accelerate config`` wrote."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes: got {self.processes}, allowed: 1 or more.")
        if self.config is not None and self.processes == 1:
            raise ConfigError("config: needs 'processes', 2 or more: one process is not launched.")


@dataclass(frozen=True, kw_only=True)
class SweepRecipe:
    """A grid of trainings with their evaluations."""

    output: str
    """The sweep's folder."""
    recipe: Annotated[dict[str, Any], PartOf(Recipe)]
    """What all cells share: a recipe that trains, without output."""
    axes: Annotated[dict[str, Any], PartOf(Recipe, below=2)] = field(default_factory=dict)
    """Axis -> name of a value -> what this value changes in the recipe. A cell has one value of each axis."""
    seeds: list[int] = field(default_factory=list)
    """A last axis ``seed``, as ``training.seed`` and ``data.seed``."""
    changes: list[Change] = field(default_factory=list)
    """What single combinations change more."""
    launch: LaunchOptions = field(default_factory=LaunchOptions)
    """How each training is started."""
    kind: str = KIND
    """``sweep``: tells this recipe from one that trains."""
    title: str | None = None
    """Heading of the page. None: the name of the output folder."""
    paper: dict[str, str] | None = None
    """For `steerclear paper`: the table that this is."""

    def __post_init__(self) -> None:
        problems = [
            f"recipe.{key}: {why}"
            for key, why in (
                ("output", "each cell has a folder of its own below the sweep's output; leave it out."),
                ("variants", "belongs to steerclear compare; make it an axis."),
                ("seeds", "belongs beside 'recipe', not into it."),
            )
            if self.recipe.get(key)
        ]
        problems += check_seeds(self.seeds)
        problems += [problem for axis, values in self.axes.items() for problem in _wrong_axis(axis, values)]
        if not self.axes and not self.seeds:
            problems.append(
                "axes: is missing; name at least one, e.g. 'axes: {rows: {100: {data: {unsafe_count: 100}}}}'."
            )
        if SEED_AXIS in self.axes:
            problems.append(f"axes.{SEED_AXIS}: is the axis that 'seeds: [0, 1]' makes; give these instead.")
        if not problems:
            problems = self._wrong_changes()
        if problems:
            raise ConfigError("\n".join(problems))

    def _wrong_changes(self) -> list[str]:
        axes, problems = axes_of(self.axes, self.seeds), []
        for number, change in enumerate(self.changes):
            for axis, wanted in change.where.items():
                if axis not in axes:
                    problems.append(f"changes[{number}].where.{axis}: no such axis.{did_you_mean(axis, axes)}")
                    continue
                problems += [
                    f"changes[{number}].where.{axis}: got '{value}', allowed: {', '.join(axes[axis])}."
                    for value in _texts(wanted)
                    if value not in axes[axis]
                ]
        return problems


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One combination."""

    name: str
    """The values, with slashes between them."""
    labels: dict[str, str]
    """Axis -> value, in the order of the axes."""
    changes: Tree
    """What this combination changes in the common recipe, by the names of keys that hashes have."""
    tree: Tree
    """Its recipe, without output."""


def plan_cells(sweep: SweepRecipe) -> list[CellPlan]:
    """Return the combinations in the order of the axes, the last one changing fastest, without those that are skipped.

    Raises:
        ConfigError: all are skipped.
    """
    plans = []
    for labels, changes in combinations(axes_of(sweep.axes, sweep.seeds)):
        fitting = [change for change in sweep.changes if change.fits(labels)]
        if any(change.skip for change in fitting):
            continue
        changes = reduce(merge, (change.change for change in fitting), changes)
        hashed, tree = old_names(Recipe, changes), merge(sweep.recipe, changes)
        plans.append(CellPlan(name=name_of(labels), labels=labels, changes=hashed, tree=tree))
    if not plans:
        raise ConfigError("changes: leave no combination; take out a 'skip: true'.")
    return plans


def _wrong_axis(axis: str, values: Any) -> list[str]:
    if not isinstance(values, Mapping) or not values:
        return [f"axes.{axis}: got {values!r}, expected names of values, each with what it changes in the recipe."]
    problems = []
    for value, changes in values.items():
        if not str(value) or "/" in str(value):
            problems.append(f"axes.{axis}: got the value '{value}', allowed: a name without slashes.")
        if not isinstance(changes, Mapping | None):
            problems.append(f"axes.{axis}.{value}: got {changes!r}, expected a section of changes, or nothing.")
    return problems


def _texts(wanted: Any) -> list[str]:
    return [str(value) for value in (wanted if isinstance(wanted, list) else [wanted])]
