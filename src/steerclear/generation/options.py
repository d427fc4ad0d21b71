"""Which model answers, and how its answers are decoded. Nothing heavy, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from steerclear.endpoint.options import EndpointOptions
from steerclear.errors import ConfigError, one_of

DTYPES = ("auto", "float32", "bfloat16")

CACHES = ("dynamic", "static", "paged")

SPEED_ONLY = ("batch_size", "batch_tokens", "cache")
"""Options that change no answer, so a run may be resumed with others."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How answers are decoded. Greedy by default."""

    max_new_tokens: int = 256
    """Tokens after which an answer is cut."""
    temperature: float = 0.0
    """0 decodes greedily; above 0 samples from the distribution sharpened (below 1) or flattened (above 1)."""
    top_p: float = 1.0
    """Sample from the fewest tokens that hold this probability together. 1 keeps all."""
    top_k: int = 0
    """Sample from this many most probable tokens. 0 keeps all."""
    num_beams: int = 1
    """Beams of a beam search, which is deterministic: only with temperature 0."""
    seed: int = 0
    """Seed of sampling. Each prompt has its own stream, derived from this and its id."""
    batch_size: int = 32
    """Most prompts in a batch. Changes speed and memory only."""
    batch_tokens: int = 32768
    """Most tokens in a batch, padding, new tokens and beams counted in. Changes speed and memory only."""
    cache: str = "dynamic"
    """Where keys and values of earlier tokens lie: ``dynamic`` grows with the answers, ``static`` has its full size at once.
    ``paged`` is transformers' continuous batching, where the next prompt takes the place of a finished one: greedy only, and made
    for GPUs. Changes speed and memory only, up to the rounding of the model's own arithmetic."""

    @property
    def decoding(self) -> dict[str, Any]:
        """What the answers depend on: all options but those of `SPEED_ONLY`."""
        return {name: value for name, value in asdict(self).items() if name not in SPEED_ONLY}

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams", "batch_size", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, allowed: 1 or more.")
        if self.cache not in CACHES:
            raise ConfigError(one_of("cache", self.cache, CACHES))
        if self.cache == "paged" and (self.temperature > 0 or self.num_beams > 1):
            raise ConfigError(
                f"cache: got 'paged' with temperature {self.temperature} and num_beams {self.num_beams}; continuous batching "
                "decodes greedily here. Set temperature 0 and num_beams 1, or cache dynamic."
            )
        if self.temperature < 0:
            raise ConfigError(f"temperature: got {self.temperature}, allowed: 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: got {self.top_p}, allowed: above 0 and at most 1 (keeps all).")
        if self.top_k < 0:
            raise ConfigError(f"top_k: got {self.top_k}, allowed: 0 (keeps all) or more.")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k > 0):
            raise ConfigError(
                f"top_p {self.top_p} and top_k {self.top_k} have no effect at temperature 0 (greedy). "
                "Set a temperature above 0, or leave top_p at 1 and top_k at 0."
            )
        if self.temperature > 0 and self.num_beams > 1:
            raise ConfigError(
                f"num_beams: got {self.num_beams} with temperature {self.temperature}; a beam search does not sample. "
                "Set temperature 0, or num_beams 1."
            )


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
        if self.dtype not in DTYPES:
            raise ConfigError(one_of("dtype", self.dtype, DTYPES))


@dataclass(frozen=True, kw_only=True)
class ChatModelOptions:
    """Who plays a role."""

    model: ModelOptions | None = None
    """A local chat model, or one behind an endpoint."""
    script: str | None = None
    """In its place: JSONL file of rules ``{"when": pattern, "reply": text}``. The first one whose pattern (none: any) is found in
    the prompt's id, a line break and the last message replies. For tests, and to try a recipe out."""
    generation: GenerationOptions | None = None
    """How replies are decoded. None: as the role was published."""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.script is None):
            raise ConfigError("model, script: give one of the two: a chat model, or a file of rules.")
        if self.script is not None and self.generation is not None:
            raise ConfigError("generation: belongs to a model; a script's replies are written down. Leave it out.")
