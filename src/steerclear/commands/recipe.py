"""A recipe: everything a run needs, in one tree. Sections are the option classes of the stages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.config import Tree, build, fill_inputs, load_yaml, merge, override, parse_overrides
from steerclear.data.prepare import DataOptions
from steerclear.errors import ConfigError, one_of
from steerclear.evaluation.suites import SuiteOptions
from steerclear.generation import GenerationOptions
from steerclear.models import DTYPES


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The base model."""

    path: str
    """Folder or Hub name."""
    dtype: str = "auto"
    """``float32``, ``bfloat16`` or ``auto``: bfloat16 on a GPU, float32 on a CPU and wherever all weights train."""
    adapter: str | None = None
    """A trained adapter to evaluate instead of the run's own."""

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ConfigError(one_of("dtype", self.dtype, ("auto", *DTYPES)))


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Low-rank adaptation, with the paper's values."""

    r: int = 8
    """Rank."""
    alpha: int = 16
    """Scale: updates are multiplied by alpha / r."""
    dropout: float = 0.05
    """Dropout on the adapter's input."""
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """Which linear layers get an adapter."""

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha < 1:
            raise ConfigError(f"r: got {self.r}, alpha: got {self.alpha}, allowed: 1 or more.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout: got {self.dropout}, allowed: 0 to below 1.")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The harmfulness judge."""

    classifier: str | None = None
    """A classifier file that `steerclear judge fit` wrote. Without a judge every answer is unscored."""
    fit_on: str | None = None
    """Labelled rows (prompt, response, is_safe) to fit it on where the file does not exist yet."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is asked after training, and who judges the answers."""

    suites: list[SuiteOptions] = field(default_factory=list)
    """Prompt files. None: training ends without an evaluation."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the answers are decoded."""
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    """Who judges."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run."""

    output: str
    """The run's folder."""
    model: ModelOptions
    data: DataOptions
    training: dict[str, Any] = field(default_factory=dict)
    """Arguments of `steerclear.SteerClearConfig`, which are those of trl.SFTConfig and the avoidance term's."""
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    """``null`` trains all weights."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    variants: dict[str, Any] = field(default_factory=dict)
    """For `steerclear compare`: name -> what that run changes."""


def load_recipe(arguments: Sequence[str]) -> Recipe:
    """Read ``[RECIPE.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    return build(Recipe, load_tree(arguments))


def load_tree(arguments: Sequence[str]) -> Tree:
    """Return the recipe as a tree, its inputs filled and the overrides laid over it."""
    tree: Tree = {}
    if arguments and not arguments[0].startswith("--"):
        tree, arguments = load_yaml(Path(arguments[0])), arguments[1:]
    tree, pairs = fill_inputs(tree, parse_overrides(arguments))
    return override(tree, pairs)


def variants_of(tree: Tree) -> dict[str, Recipe]:
    """Return one recipe per variant, each in its own folder under the tree's output.

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
    recipes, problems = {}, []
    for name, changes in variants.items():
        own = merge({k: v for k, v in tree.items() if k != "variants"}, changes or {})
        own["output"] = str(Path(str(tree["output"])) / name)
        try:
            recipes[name] = build(Recipe, own)
        except ConfigError as error:
            problems.append("\n".join(f"variants.{name}: {line}" for line in str(error).splitlines()))
    if problems:
        raise ConfigError("\n".join(problems))
    return recipes
