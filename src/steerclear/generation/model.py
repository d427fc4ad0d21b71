"""A model that a recipe names, local or behind an endpoint, as something that answers prompts into a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from steerclear.endpoint import Endpoint
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.generation.served import generate_from_endpoint
from steerclear.generation.weights import load_model
from steerclear.records import Generation, Messages, Prompt
from steerclear.store.runs import model_identity


class Answerer:
    """A model with its decoding. A local one is loaded when it is first asked."""

    def __init__(self, model: ModelOptions, options: GenerationOptions) -> None:
        self._source, self._options = model, options

    @cached_property
    def _local(self) -> tuple[Any, Any]:
        return load_model(self._source.path, self._source.adapter, dtype=self._source.dtype)

    def answer(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        model_id: str | None = None,
        allow_too_long: bool = False,
        progress: bool = True,
    ) -> list[Generation]:
        """Answer prompts into a file, continuing what is there; see `steerclear.generation.generate`.

        Args:
            model_id: what names a local model's weights. None: `model_identity`, with the type that they were loaded in.
        """
        source, options = self._source, self._options
        if source.endpoint is not None:
            return generate_from_endpoint(
                Endpoint(source.endpoint), prompts, rendered, options, file, progress=progress
            )
        model, tokenizer = self._local
        return generate(
            model,
            tokenizer,
            prompts,
            rendered,
            options,
            file,
            model_id=model_id or model_identity(source.path, source.adapter, model.dtype),
            allow_too_long=allow_too_long,
            progress=progress,
        )


def source_identity(model: ModelOptions) -> str:
    """Return what names a model's answers before it is loaded: the fingerprints of model and adapter, and the type asked for."""
    if model.endpoint is not None:
        return model.endpoint.identity
    return model_identity(model.path, model.adapter, model.dtype)


def name_of(model: ModelOptions) -> str:
    """Return a model's name for people, without the folders or the server that it lies in."""
    if model.endpoint is not None:
        return model.endpoint.model
    adapter = f" with the adapter {Path(model.adapter).name}" if model.adapter else ""
    return Path(model.path).name + adapter
