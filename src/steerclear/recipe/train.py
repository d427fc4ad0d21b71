"""A recipe: everything a run needs, in one tree. Sections are the option classes of the stages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from steerclear.attacks.options import EvaluationSection
from steerclear.config import (
    PartOf,
    Tree,
    build,
    check_kind,
    load_tree,
    merge,
    raise_all,
    to_tree,
)
from steerclear.data.options import DataOptions
from steerclear.errors import ConfigError
from steerclear.generation.options import ModelOptions
from steerclear.recipe.axes import axes_of, check_seeds, combinations, name_of
from steerclear.training.options import CollapseOptions, LoraOptions, RecoveryOptions, TrainerArguments, TrainingSetup


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run."""

    output: str
    """The run's folder."""
    model: ModelOptions
    data: DataOptions = field(default_factory=DataOptions)
    training: Annotated[dict[str, Any], PartOf(TrainerArguments)] = field(default_factory=dict)
    """Arguments of `steerclear.SteerClearConfig`, which are those of trl.SFTConfig and the avoidance term's; with ``objective:
    kto`` those of `steerclear.training.kto.KtoBaselineConfig`."""
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    """``null`` trains all weights."""
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    recovery: RecoveryOptions | None = None
    """Steer, then recover: train a second time, on the steered model's own safe answers too. ``{}`` takes the defaults."""
    collapse: CollapseOptions | None = None
    """What watches the training for collapse. ``null``: nothing; ``{}``: the defaults."""
    variants: Annotated[dict[str, Any], PartOf(Recipe, below=1)] = field(default_factory=dict)
    """For `steerclear compare`: name -> what that run changes."""
    kind: str = "train"
    """``train``: tells this recipe, which trains and evaluates, from one of `steerclear harvest` or `steerclear contrast`."""
    seeds: list[int] = field(default_factory=list)
    """For `steerclear compare`: run every variant once with each, as ``training.seed`` and ``data.seed``."""

    RENAMED: ClassVar[dict[str, str]] = {"guard": "collapse"}

    @property
    def setup(self) -> TrainingSetup:
        """The sections that decide the weights."""
        return TrainingSetup(
            output=Path(self.output),
            model=self.model,
            data=self.data,
            arguments=self.training,
            lora=self.lora,
            recovery=self.recovery,
            collapse=self.collapse,
            described=to_tree(self),
        )


KIND = "train"
"""What a recipe without a ``kind`` is."""


def load_recipe(arguments: Sequence[str]) -> Recipe:
    """Read ``[RECIPE.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    tree = load_tree(arguments, Recipe)
    check_kind(tree, KIND)
    return build(Recipe, tree)


def variants_of(tree: Tree) -> dict[str, Recipe]:
    """Return one recipe per variant, or per variant and seed: a sweep of one axis, each in its own folder under the output.

    Raises:
        ConfigError: there are no variants, or one of them makes a wrong recipe; its name is given.
    """
    if not tree.get("output"):
        raise ConfigError("output: is missing; it has no default.")
    variants = tree.get("variants") or {}
    if not variants:
        raise ConfigError(
            "variants: is missing; name the runs to compare, e.g. 'variants: {sft: {training: {penalty_weight: 0}}}'."
        )
    seeds = tree.get("seeds") or []
    raise_all(check_seeds(seeds))
    recipes, problems = {}, []
    for labels, changes in combinations(axes_of({"variant": variants}, seeds)):
        name = name_of(labels)
        own = merge({k: v for k, v in tree.items() if k not in ("variants", "seeds")}, changes)
        own = merge({"training": {"run_name": name}}, own)
        own["output"] = str(Path(str(tree["output"])) / name)
        try:
            recipes[name] = build(Recipe, own)
        except ConfigError as error:
            problems.append("\n".join(f"variants.{name}: {line}" for line in str(error).splitlines()))
    raise_all(problems)
    return recipes
