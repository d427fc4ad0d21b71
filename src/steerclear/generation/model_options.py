"""Which model: a folder or Hub name, with an adapter or without, or one behind an endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.endpoint import EndpointOptions
from steerclear.errors import ConfigError, one_of
from steerclear.generation.weights import DTYPES


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The base model, or a served one to evaluate."""

    path: str = ""
    """Folder or Hub name."""
    dtype: str = "auto"
    """``float32``, ``bfloat16`` or ``auto``: bfloat16 on a GPU, float32 on a CPU and wherever all weights train."""
    adapter: str | None = None
    """A trained adapter to evaluate instead of the run's own."""
    endpoint: EndpointOptions | None = None
    """A model behind an OpenAI-compatible endpoint, to evaluate in place of a local one."""

    def __post_init__(self) -> None:
        if bool(self.path) == (self.endpoint is not None):
            raise ConfigError("path, endpoint: give one of the two: a folder or Hub name, or a served model.")
        if self.endpoint is not None and (self.adapter is not None or self.dtype != "auto"):
            raise ConfigError(
                "adapter, dtype: are the server's own affair where model.endpoint is given; leave them out."
            )
        if self.dtype not in ("auto", *DTYPES):
            raise ConfigError(one_of("dtype", self.dtype, ("auto", *DTYPES)))
