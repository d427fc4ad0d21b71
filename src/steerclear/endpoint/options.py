"""Where a server is and how it may be asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from steerclear.errors import ConfigError, one_of

LENGTH_FIELDS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """A server that speaks OpenAI's protocol: OpenAI itself, `vllm serve`, `transformers serve`, llama.cpp, ..."""

    model: str
    """The model's name at the server. Names ending in ``-latest`` move; pin a dated one for figures that can be repeated."""
    base_url: str = "https://api.openai.com/v1"
    """Address up to and with ``/v1``."""
    key_variable: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key, never the key. ``null``: the server wants none."""
    concurrency: int = 8
    """Requests under way at a time."""
    requests_per_minute: float | None = None
    """Requests are started evenly, at most so many a minute, repeats counted in. ``null``: as fast as answers come."""
    timeout: float = 120.0
    """Seconds for one request, up to the last byte of its answer."""
    max_retries: int = 6
    """Repeats of a request that failed in a way that may pass: 408, 409, 429, 5xx, time-outs, broken connections and bodies."""
    retry_wait: float = 0.5
    """Seconds before the first repeat; doubles each time, up to a minute, give or take a quarter."""
    length_field: str = "max_tokens"
    """Field of the limit on new tokens in chats. OpenAI's reasoning models want ``max_completion_tokens``."""

    def __post_init__(self) -> None:
        if not _is_plain(self.base_url):
            raise ConfigError(  # without the address: it may hold what was meant as a key
                "base_url: allowed: http:// or https:// with a host and a path, such as http://127.0.0.1:8000/v1, "
                "without a user, a password or a query. A key belongs into the variable named by key_variable."
            )
        if self.key_variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable):
            raise ConfigError(  # without the value, for the same reason
                "key_variable: allowed: the name of an environment variable, in capitals, such as OPENAI_API_KEY, or "
                "null. Put the key itself into that variable only."
            )
        if not self.model:
            raise ConfigError("model: got an empty name. Name the model as the server does.")
        if self.length_field not in LENGTH_FIELDS:
            raise ConfigError(one_of("length_field", self.length_field, LENGTH_FIELDS))
        if self.concurrency < 1:
            raise ConfigError(f"concurrency: got {self.concurrency}, allowed: 1 or more.")
        if self.max_retries < 0:
            raise ConfigError(f"max_retries: got {self.max_retries}, allowed: 0 or more.")
        for name in ("requests_per_minute", "timeout", "retry_wait"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name}: got {value}, allowed: above 0.")

    @property
    def identity(self) -> str:
        """Which model answers, as far as that can be told from here."""
        return f"{self.model} at {self.base_url.rstrip('/')}"


def _is_plain(address: str) -> bool:
    """Whether an address is one of a server and holds nothing secret."""
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        return False
    return parts.scheme in ("http", "https") and named and not parts.query and "@" not in parts.netloc
