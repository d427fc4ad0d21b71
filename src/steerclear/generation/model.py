"""A model that answers prompts into a file: local, or behind an endpoint. Scripted ones are in `steerclear.generation.chat`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from steerclear.endpoint import Endpoint, EndpointOptions
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.generation.served import generate_from_endpoint
from steerclear.records import Generation, Messages, Prompt
from steerclear.store.runs import model_identity


class Model(Protocol):
    """Something that answers prompts."""

    @property
    def id(self) -> str:
        """What names its weights in the files of its answers."""

    @property
    def weights(self) -> tuple[Any, Any] | None:
        """Model and tokenizer, for what needs likelihoods. None: they are not here."""

    def answer(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,
        progress: bool = True,
    ) -> list[Generation]:
        """Answer prompts, given what the model reads for each, into a file; continue what is there.

        See `steerclear.generation.answers.generate`. Without options the answers are decoded as the model was opened for.
        """


class LocalModel:
    """Weights on this machine, loaded when they are first needed.

    Args:
        source: folder or Hub name, with an adapter or without.
        decoding: how answers are decoded.
        id: what names the weights. None: their fingerprints, and the type that they were loaded in.
        loaded: model and tokenizer, where they are loaded already.
    """

    def __init__(
        self,
        source: ModelOptions,
        decoding: GenerationOptions,
        *,
        id: str | None = None,
        loaded: tuple[Any, Any] | None = None,
    ) -> None:
        self._source, self._decoding, self._id, self._loaded = source, decoding, id, loaded

    @cached_property
    def id(self) -> str:
        """What names its weights in the files of its answers."""
        source = self._source
        return self._id or model_identity(source.path, source.adapter, self.weights[0].dtype)

    @cached_property
    def weights(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        from steerclear.generation.weights import load_model  # torch, which a served model does not need

        return self._loaded or load_model(self._source.path, self._source.adapter, dtype=self._source.dtype)

    def answer(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,
        progress: bool = True,
    ) -> list[Generation]:
        """Answer prompts; see `Model`."""
        return generate(
            *self.weights,
            prompts,
            rendered,
            options or self._decoding,
            file,
            model_id=self.id,
            allow_too_long=allow_too_long,
            progress=progress,
        )


class ServedModel:
    """A model behind an endpoint.

    Raises:
        ConfigError: the endpoint's key is missing.
    """

    weights = None

    def __init__(self, endpoint: EndpointOptions, decoding: GenerationOptions) -> None:
        self._endpoint, self._decoding = Endpoint(endpoint), decoding
        self.id = endpoint.identity

    def answer(
        self,
        prompts: Sequence[Prompt],
        rendered: Sequence[str | Messages],
        file: Path,
        *,
        options: GenerationOptions | None = None,
        allow_too_long: bool = False,  # noqa: ARG002 (the server says what is)
        progress: bool = True,
    ) -> list[Generation]:
        """Answer prompts; see `Model`."""
        return generate_from_endpoint(
            self._endpoint, prompts, rendered, options or self._decoding, file, progress=progress
        )


def open_model(source: ModelOptions, decoding: GenerationOptions, *, id: str | None = None) -> Model:
    """Return the model that options name. A local one is loaded when it is first asked.

    Args:
        decoding: how its answers are decoded where a call does not say.
        id: what names a local model's weights; see `LocalModel`.

    Raises:
        ConfigError: the endpoint's key is missing.
    """
    if source.endpoint is not None:
        return ServedModel(source.endpoint, decoding)
    return LocalModel(source, decoding, id=id)


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
