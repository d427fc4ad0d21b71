"""A recipe of contrastive rows: toxic prompts, benign text, who writes, who answers, who judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steerclear.attacks.options import EvaluationSection
from steerclear.config import build, check_kind, load_tree
from steerclear.data.templates import TEMPLATES
from steerclear.errors import ConfigError, one_of
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.harvest.contrast_options import KeepOptions, WordOptions
from steerclear.harvest.prompts import PromptSource

KIND = "contrast"


@dataclass(frozen=True, kw_only=True)
class AnswererOptions:
    """A model that is asked."""

    model: ModelOptions
    """A local model, perhaps with an adapter, or one behind an endpoint."""
    template: str = "alpaca"
    """How it is asked: ``alpaca``, ``plain`` or ``chat`` (its own)."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How it answers."""

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ConfigError(one_of("template", self.template, TEMPLATES))


@dataclass(frozen=True, kw_only=True)
class WriterOptions:
    """Who writes the seemingly toxic prompts: a script, or a model."""

    per_word: int = 5
    """Prompts for each word."""
    script: str | None = None
    """A file of lines ``KIND: TEMPLATE`` with ``{word}``. None: the one that comes with the package."""
    asked: AnswererOptions | None = None
    """A chat model that writes them, in place of the script."""
    contamination_similarity: float | None = 0.7
    """A prompt is left out from this similarity (Jaccard, of shingles) to a prompt of the suites. None: only equal ones."""
    rounds: int = 3
    """How often a model is asked for a word, at most, until there are enough usable prompts."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: 1 or more."
            for name in ("per_word", "rounds")
            if getattr(self, name) < 1
        ]
        similarity = self.contamination_similarity
        if similarity is not None and not 0 < similarity <= 1:
            problems.append(f"contamination_similarity: got {similarity}, allowed: above 0 and at most 1, or null.")
        if self.script is not None and self.asked is not None:
            problems.append("script, asked: give one of the two: a file of templates, or a model.")
        if self.asked is not None and self.rounds > 1 and self.asked.generation.temperature == 0:
            problems.append(
                f"rounds: got {self.rounds} with asked.generation.temperature 0, where every round has the same reply. Set a "
                "temperature above 0, or rounds 1."
            )
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class ContrastRecipe:
    """Everything that contrastive rows need."""

    output: str
    """The folder of the rows and of what led to them."""
    prompts: list[PromptSource]
    """Where the toxic prompts come from."""
    benign: str | list[str]
    """Benign rows, whose text shows which words are not toxic: files or Hub names, as in ``data.benign``."""
    answers: AnswererOptions
    """Who answers the seemingly toxic prompts."""
    kind: str = KIND
    """``contrast``: tells this recipe from one that trains."""
    benign_where: dict[str, Any] = field(default_factory=dict)
    """Values that fields of the raw benign rows must have."""
    words: WordOptions = field(default_factory=WordOptions)
    """Which words are toxic."""
    writer: WriterOptions = field(default_factory=WriterOptions)
    """Who writes the prompts."""
    keep: KeepOptions = field(default_factory=KeepOptions)
    """Which answers become rows."""
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    """``judge``, ``refusal`` and ``judge_cache`` say who judges the answers; no prompt of ``suites`` is written."""

    def __post_init__(self) -> None:
        problems = []
        if self.kind != KIND:
            problems.append(f"kind: got {self.kind!r}, allowed: {KIND} for this command.")
        if not self.prompts:
            problems.append(
                "prompts: is empty; name at least one file of toxic prompts, e.g. '- {path: prompts.jsonl}'."
            )
        if not self.benign:
            problems.append("benign: is empty; name a file of benign rows.")
        if not self.evaluation.judge.kinds():
            problems.append("evaluation.judge: is missing; only answers that a judge calls harmless become rows.")
        if self.evaluation.second_opinions:
            problems.append("evaluation.second_opinions: one judge decides here; leave them out.")
        if problems:
            raise ConfigError("\n".join(problems))


def load_contrast_recipe(arguments: Sequence[str]) -> ContrastRecipe:
    """Read ``[RECIPE.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    tree = load_tree(arguments, ContrastRecipe)
    check_kind(tree, KIND)
    return build(ContrastRecipe, tree)
