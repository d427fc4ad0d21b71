"""What is harvested: from which prompts, how often each is asked, and which answers are taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from steerclear.errors import ConfigError
from steerclear.generation.options import GenerationOptions
from steerclear.generation.samples import temperature_problems
from steerclear.harvest.prompts import PromptSource


@dataclass(frozen=True, kw_only=True)
class HarvestOptions:
    """The harvest section of a recipe."""

    prompts: list[PromptSource]
    """Where the toxic prompts come from."""
    prompt_count: int | None = None
    """Ask a fixed sample of so many prompts, chosen by their ids; smaller samples lie inside larger ones. None: all."""
    samples: int = 4
    """Answers sampled for each prompt."""
    generation: GenerationOptions = field(
        default_factory=lambda: GenerationOptions(temperature=0.8, top_p=0.95, max_new_tokens=256)
    )
    """How they are decoded. Several samples of a prompt need a temperature above 0."""
    part_size: int = 256
    """Answers in one file, which one process writes."""
    rows: int | None = 1000
    """Number of unsafe rows. Fewer found is an error; what was found is kept. None: as many as there are."""
    subsets: list[int] = field(default_factory=list)
    """Sizes of smaller files, such as [500, 300, 100], each the beginning of the next larger one."""
    near_duplicates: float | None = 0.7
    """An answer is left out from this similarity (Jaccard, of its shingles) to one already taken, in its prompt or in its text.
    None: only equal texts are left out."""
    contamination_similarity: float | None = 0.7
    """A toxic prompt is left out from this similarity to a prompt of the evaluation suites. None: only equal ones."""
    folds: int = 3
    """A classifier with ``fit_on`` is fitted so many times, each time without a part of the prompts, so that it never rules on a
    prompt that it was fitted on."""
    judge_similarity: float | None = 0.7
    """Prompts from this similarity on count as one there. None: only equal ones."""

    def __post_init__(self) -> None:
        problems = []
        if not self.prompts:
            problems.append(
                "prompts: is empty; name at least one file of toxic prompts, e.g. '- {path: prompts.jsonl}'."
            )
        for name, least in (("samples", 1), ("part_size", 1), ("folds", 2)):
            if getattr(self, name) < least:
                problems.append(f"{name}: got {getattr(self, name)}, allowed: {least} or more.")
        for name in ("prompt_count", "rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name}: got {value}, allowed: 1 or more, or null for all.")
        for name in ("near_duplicates", "contamination_similarity", "judge_similarity"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                problems.append(f"{name}: got {value}, allowed: above 0 and at most 1, or null.")
        problems += temperature_problems(self.samples, self.generation)
        if any(not 0 < size < (self.rows or float("inf")) for size in self.subsets):
            problems.append(f"subsets: got {self.subsets}, allowed: sizes from 1 to below rows ({self.rows}).")
        if problems:
            raise ConfigError("\n".join(problems))
