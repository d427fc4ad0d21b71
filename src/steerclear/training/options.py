"""What decides the weights of a run: model, rows, arguments, adapter. Nothing heavy, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from steerclear.config import Tree, raise_all, to_tree, with_new_names, with_old_names
from steerclear.data.options import DataOptions
from steerclear.errors import ConfigError, one_of
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.generation.samples import temperature_problems

ACTIONS = ("stop", "lower")

RENAMED_ARGUMENTS = {"anchor_weight": "kl_weight", "added_share": "extra_share"}
"""Old name of an argument of the trainer -> its name. Recipes may have the old one, and hashes always have it."""


@dataclass(frozen=True)
class TrainerArguments:
    """Marks mappings of the trainer's arguments, as ``PartOf(TrainerArguments)``, for their old names."""

    RENAMED: ClassVar[dict[str, str]] = RENAMED_ARGUMENTS


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
class CollapseOptions:
    """How a training is watched, and what ends it."""

    unsafe_prompts: int = 16
    """Prompts of unsafe training rows that are asked at each probe, where there are so many."""
    benign_prompts: int = 16
    """Held-out benign rows that are asked, and whose loss is measured, where there are so many."""
    every_steps: int = 10
    """Steps between probes. The model before the first step and that after the last one are probed too."""
    max_new_tokens: int = 32
    """Tokens after which an answer is cut. Answers are greedy."""
    max_degenerate_rise: float = 0.25
    """How far the share of degenerate answers may lie above that before the first step."""
    max_loss_rise: float = 0.3
    """How far the benign loss may lie above its lowest so far, in nats."""
    action: str = "stop"
    """``stop`` ends the training with the last weights within the limits; ``lower`` first goes back to them with a smaller λ."""
    factor: float = 0.5
    """What ``lower`` multiplies λ by."""
    max_lowerings: int = 3
    """How often ``lower`` does so before it stops."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: 1 or more."
            for name in ("benign_prompts", "every_steps", "max_new_tokens", "max_lowerings")
            if getattr(self, name) < 1
        ]
        if self.unsafe_prompts < 0:
            problems.append(f"unsafe_prompts: got {self.unsafe_prompts}, allowed: 0 (ask benign ones alone) or more.")
        if not 0 <= self.max_degenerate_rise <= 1:
            problems.append(f"max_degenerate_rise: got {self.max_degenerate_rise}, allowed: 0 to 1, a share.")
        if not self.max_loss_rise > 0:
            problems.append(f"max_loss_rise: got {self.max_loss_rise}, allowed: above 0, in nats.")
        if self.action not in ACTIONS:
            problems.append(one_of("action", self.action, ACTIONS))
        if not 0 < self.factor < 1:
            problems.append(f"factor: got {self.factor}, allowed: above 0 and below 1.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class RecoveryOptions:
    """The recovery section of a recipe: what happens after the steering."""

    samples: int = 4
    """Answers that the steered model gives to each unsafe row's prompt."""
    generation: GenerationOptions = field(
        default_factory=lambda: GenerationOptions(temperature=0.8, top_p=0.95, max_new_tokens=256)
    )
    """How they are decoded. Several samples need a temperature above 0."""
    openings: list[int] = field(default_factory=lambda: list(range(9)))
    """Numbers of tokens of the unsafe answer that stand before the target; a row for each. 0: none."""
    share: float = 0.25
    """Share of these rows in every optimizer step of the second training."""
    training: dict[str, Any] = field(default_factory=lambda: {"avoid_first_k": 8, "penalty_weight": 0.3})
    """Arguments of the second training that differ from the first's. Its rows say what to do after the first tokens of an unsafe
    answer, so with ``avoid_tokens: first`` those may be pushed away too, softly: the mass has somewhere to go."""

    def __post_init__(self) -> None:
        problems = []
        if self.samples < 1:
            problems.append(f"samples: got {self.samples}, allowed: 1 or more.")
        problems += temperature_problems(self.samples, self.generation)
        if not self.openings or len(set(self.openings)) < len(self.openings) or min(self.openings) < 0:
            problems.append(f"openings: got {self.openings}, expected different numbers of tokens, 0 or more each.")
        if not 0 < self.share < 1:
            problems.append(f"share: got {self.share}, allowed: above 0 and below 1.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """The sections of a recipe that decide the weights, and where they go."""

    output: Path
    """The run's folder."""
    model: ModelOptions
    data: DataOptions
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the trainer: the recipe's ``training``."""
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    """None trains all weights."""
    recovery: RecoveryOptions | None = None
    """Steer, then recover. None: one phase."""
    collapse: CollapseOptions | None = None
    """What watches the training for collapse. None: nothing."""
    described: Tree = field(default_factory=dict)
    """The rest of the recipe, for the run's ``config.yaml``."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        object.__setattr__(self, "arguments", with_new_names(self.arguments, RENAMED_ARGUMENTS, "training.", problems))
        raise_all(problems)

    def as_tree(self) -> Tree:
        """Return the recipe's tree with these sections as they are here."""
        sections = {name: getattr(self, name) for name in ("model", "data", "lora", "recovery", "collapse")}
        own = {name: section and to_tree(section) for name, section in sections.items()}
        return self.described | {"output": str(self.output), "training": self.arguments} | own

    def changed(self, **sections: Any) -> TrainingSetup:
        """Return the setup with other sections."""
        return replace(self, **sections)


def arguments_for_hashes(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of the trainer by the names that they have in hashes, which a new name must not change."""
    return with_old_names(arguments, RENAMED_ARGUMENTS)
