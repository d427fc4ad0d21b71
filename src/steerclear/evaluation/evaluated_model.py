"""The model that is evaluated, opened: local or behind an endpoint, as something that answers prompts into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steerclear.endpoint import Endpoint
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.generation.served import generate_from_endpoint
from steerclear.generation.weights import load_model
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
        options: GenerationOptions,
        allow_too_long: bool = False,
    ) -> list[Generation]:
        """Return the answers. See `steerclear.generation.generate`."""


@dataclass(frozen=True)
class Answering:
    """A model that is evaluated."""

    id: str
    """What names its weights."""
    answer: Answer
    weights: tuple[Any, Any] | None
    """Model and tokenizer, for what needs likelihoods. None: it is behind an endpoint."""


def answering_of(model: ModelOptions) -> Answering:
    """Open a model.

    Raises:
        SteerClearError: the model cannot be loaded, or the endpoint's key is missing.
    """
    if model.endpoint is not None:
        return _served(Endpoint(model.endpoint))
    loaded, tokenizer = load_model(model.path, model.adapter, dtype=model.dtype)
    return local_answering(loaded, tokenizer, model_identity(model.path, model.adapter, loaded.dtype))


def local_answering(model: Any, tokenizer: Any, model_id: str) -> Answering:
    """Return a loaded model as something that answers."""

    def answer(
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions,
        allow_too_long: bool = False,
    ) -> list[Generation]:
        return generate(
            model, tokenizer, prompts, rendered, options, file, model_id=model_id, allow_too_long=allow_too_long
        )

    return Answering(model_id, answer, (model, tokenizer))


def _served(endpoint: Endpoint) -> Answering:
    def answer(
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions,
        allow_too_long: bool = False,  # noqa: ARG001 (the server says what is)
    ) -> list[Generation]:
        return generate_from_endpoint(endpoint, prompts, rendered, options, file)

    return Answering(endpoint.options.identity, answer, None)
