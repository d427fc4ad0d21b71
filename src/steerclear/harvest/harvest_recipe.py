"""A recipe of a harvest: the model, what it is first fine-tuned on, the toxic prompts, and who judges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from steerclear.attacks.options import EvaluationSection
from steerclear.config import PartOf, build, check_kind, load_tree
from steerclear.data.options import DataOptions
from steerclear.errors import ConfigError
from steerclear.generation.options import ModelOptions
from steerclear.harvest.options import HarvestOptions
from steerclear.store.runs import RunFolder
from steerclear.training.options import LoraOptions, TrainerArguments, TrainingSetup

KIND = "harvest"


@dataclass(frozen=True, kw_only=True)
class HarvestRecipe:
    """Everything that a harvest needs."""

    output: str
    """The harvest's folder."""
    model: ModelOptions
    """Who answers. A model without an adapter is first fine-tuned on the benign rows, if there are any."""
    harvest: HarvestOptions
    """What is asked and what is taken."""
    kind: str = KIND
    """``harvest``: tells this recipe from one that trains."""
    data: DataOptions = field(default_factory=DataOptions)
    """Benign rows of the plain fine-tuning, and the template of all prompts. Without ``benign`` the model answers as it is."""
    training: Annotated[dict[str, Any], PartOf(TrainerArguments)] = field(default_factory=dict)
    """Arguments of the plain fine-tuning, as in a recipe that trains."""
    lora: LoraOptions | None = field(default_factory=LoraOptions)
    """``null`` trains all weights."""
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    """``judge`` and all ``second_opinions`` must agree; ``refusal`` and ``judge_cache`` are theirs; a toxic prompt that is one of
    ``suites`` is not asked."""

    def __post_init__(self) -> None:
        problems = []
        if self.kind != KIND:
            problems.append(f"kind: got {self.kind!r}, allowed: {KIND} for this command.")
        if not self.evaluation.judge.kinds():
            problems.append("evaluation.judge: is missing; a judge tells which answers are unsafe.")
        if self.data.unsafe is not None:
            problems.append("data.unsafe: is what a harvest makes; leave it out.")
        if self.evaluation.judge.labelled is not None:
            problems.append("evaluation.judge.labelled: corrects rates, of which a harvest has none; leave it out.")
        if self.training and not self.fine_tunes:
            problems.append(
                "training: is for the plain fine-tuning, which needs data.benign. Leave it out, or name the rows."
            )
        if "penalty_weight" in self.training:
            problems.append("training.penalty_weight: is 0 in a plain fine-tuning; leave it out.")
        if self.fine_tunes and (self.model.adapter is not None or self.model.endpoint is not None):
            problems.append(
                "data.benign: is for the plain fine-tuning, but model.adapter or model.endpoint already answers. Give one."
            )
        if problems:
            raise ConfigError("\n".join(problems))

    @property
    def fine_tunes(self) -> bool:
        """Whether the model is fine-tuned before it is asked."""
        return bool(self.data.benign)

    def fine_tuning(self) -> TrainingSetup:
        """Return the plain fine-tuning, in ``sft`` of the harvest's folder."""
        return TrainingSetup(
            output=Path(self.output) / "sft",
            model=self.model,
            data=self.data,
            arguments=self.training | {"penalty_weight": 0.0},
            lora=self.lora,
        )

    def answering(self) -> ModelOptions:
        """Return who answers, once the fine-tuning is done."""
        if not self.fine_tunes:
            return self.model
        run = RunFolder(self.fine_tuning().output)
        if self.lora is None:
            return dataclasses.replace(self.model, path=str(run.model))
        return dataclasses.replace(self.model, adapter=str(run.adapter))


def load_harvest_recipe(arguments: Sequence[str]) -> HarvestRecipe:
    """Read ``[RECIPE.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    tree = load_tree(arguments, HarvestRecipe)
    check_kind(tree, KIND)
    return build(HarvestRecipe, tree)
