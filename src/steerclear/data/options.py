"""Which rows a run uses. Nothing heavy, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from steerclear.data.templates import TEMPLATES
from steerclear.errors import ConfigError, one_of

ON_CONTAMINATION = ("error", "drop")
"""What may become of a training row that holds an evaluation prompt."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which rows a run uses."""

    benign: str | list[str] = ""
    """Rows to imitate: a .json or .jsonl file, a Hub name ``owner/name``, or several of them. Training needs some."""
    unsafe: str | list[str] | None = None
    """Rows to avoid, likewise."""
    extra: str | list[str] | None = None
    """More rows to imitate, on top of ``benign_count``, such as contrastive, self-safe or others' safe rows."""
    safe_sides: bool = False
    """Also add the safe sides of the chosen unsafe rows, which must come from pairs: the baseline STL."""
    benign_count: int | None = None
    """Number of benign rows to train on. None: all that are not held out."""
    unsafe_count: int | None = None
    """Number of unsafe rows to train on; smaller sets lie inside larger ones. None: all."""
    extra_count: int | None = None
    """Number of added rows to train on, likewise. None: all."""
    heldout_count: int = 200
    """Number of benign rows kept out of training, for the held-out benign loss."""
    benign_where: dict[str, Any] = field(default_factory=dict)
    """Values that fields of the raw benign rows must have; the others are left out."""
    unsafe_where: dict[str, Any] = field(default_factory=dict)
    """Values that fields of the raw unsafe rows must have, such as ``{unsafe_noise_cue: false}``."""
    template: str = "alpaca"
    """``alpaca``, ``plain`` or ``chat`` (the tokenizer's own)."""
    seed: int = 0
    """Seed of the choice of rows."""
    on_contamination: str = "error"
    """A training row that holds an evaluation prompt is an ``error``, or ``drop`` leaves it out and counts it."""
    contamination_similarity: float | None = None
    """A prompt counts as an evaluation prompt from this similarity on (1: the same words). None: only equal ones."""

    RENAMED: ClassVar[dict[str, str]] = {"added": "extra", "added_count": "extra_count"}

    def __post_init__(self) -> None:
        counts = ("benign_count", "unsafe_count", "extra_count")
        checks = [
            *(
                (_at_least(count, 1), f"{name}: got {count}, allowed: 1 or more, or null for all.")
                for name, count in ((name, getattr(self, name)) for name in counts)
            ),
            (_at_least(self.heldout_count, 0), f"heldout_count: got {self.heldout_count}, allowed: 0 or more."),
            (self.template in TEMPLATES, one_of("template", self.template, TEMPLATES)),
            (
                self.on_contamination in ON_CONTAMINATION,
                one_of("on_contamination", self.on_contamination, ON_CONTAMINATION),
            ),
            (
                self.contamination_similarity is None or 0 < self.contamination_similarity <= 1,
                f"contamination_similarity: got {self.contamination_similarity}, allowed: above 0 and at most 1, or null.",
            ),
        ]
        wrong = [message for right, message in checks if not right]
        if wrong:
            raise ConfigError("\n".join(wrong))


def _at_least(value: int | None, least: int) -> bool:
    return value is None or value >= least
