"""The model that is evaluated, opened: local or behind an endpoint, as something that answers prompts into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steerclear.endpoint import Endpoint
from steerclear.evaluation.targets import EvalTarget
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.served import generate_from_endpoint
from steerclear.generation.weights import load_model
from steerclear.recipe.train import Recipe
from steerclear.records import Generation, Messages, Prompt
from steerclear.store.runs import model_identity


class Answer(Protocol):
    """Answers prompts, given what the model reads for each, into a file; continues what is there."""

    def __call__(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,
    ) -> list[Generation]:
        """Return the answers. See `steerclear.generation.generate`; without options they are decoded as the recipe says."""


@dataclass(frozen=True)
class Answering:
    """A model that is evaluated."""

    id: str
    """What names its weights."""
    answer: Answer
    weights: tuple[Any, Any] | None
    """Model and tokenizer, for what needs likelihoods. None: it is behind an endpoint."""


def answering_of(recipe: Recipe, target: EvalTarget) -> Answering:
    """Open what a recipe evaluates.

    Raises:
        SteerClearError: the model cannot be loaded, or the endpoint's key is missing.
    """
    if recipe.model.endpoint is not None:
        return _served(recipe, Endpoint(recipe.model.endpoint))
    model, tokenizer = load_model(target.path, target.adapter, dtype=recipe.model.dtype)
    return local_answering(recipe, model, tokenizer, model_identity(target.path, target.adapter, model.dtype))


def local_answering(recipe: Recipe, model: Any, tokenizer: Any, model_id: str) -> Answering:
    """Return a loaded model as something that answers."""

    def answer(
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,
    ) -> list[Generation]:
        chosen = options or recipe.evaluation.generation
        return generate(
            model, tokenizer, prompts, rendered, chosen, file, model_id=model_id, allow_too_long=allow_too_long
        )

    return Answering(model_id, answer, (model, tokenizer))


def _served(recipe: Recipe, endpoint: Endpoint) -> Answering:
    def answer(
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,  # noqa: ARG001 (the server says what is)
    ) -> list[Generation]:
        return generate_from_endpoint(endpoint, prompts, rendered, options or recipe.evaluation.generation, file)

    return Answering(endpoint.options.identity, answer, None)
