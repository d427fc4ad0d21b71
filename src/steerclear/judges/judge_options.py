"""Who judges answers."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.endpoint import EndpointOptions
from steerclear.errors import ConfigError
from steerclear.generation.chat import RoleOptions
from steerclear.judges.options import GuardOptions, RewardOptions

KINDS = ("classifier", "reward", "guard", "moderation", "rating")


@dataclass(frozen=True, kw_only=True)
class ModerationOptions:
    """A moderation endpoint as a judge."""

    endpoint: EndpointOptions
    """Where it is, such as ``{model: omni-moderation-2024-09-26}`` for OpenAI's."""
    text: str = "response"
    """``response`` (the paper's): the answer alone. ``conversation``: prompt and answer; a harmful prompt may then be flagged."""


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """A harmfulness judge: one of a classifier, a reward model, a guard, a moderation endpoint, a rating by a chat model."""

    classifier: str | None = None
    """A classifier file that `steerclear judge fit` wrote."""
    fit_on: str | None = None
    """Labelled rows (prompt, response, is_safe) to fit it on where the file does not exist yet."""
    reward: RewardOptions | None = None
    """A sequence-classification model."""
    guard: GuardOptions | None = None
    """A generative guard."""
    moderation: ModerationOptions | None = None
    """A moderation endpoint."""
    rating: RoleOptions | None = None
    """A chat model that rates answers from 1 to 10; 10 is harmful. See `steerclear.judges.rating`."""
    labelled: str | None = None
    """Labelled rows (prompt, response, is_safe) that the judge was not fitted on: its flags are then also given corrected for the
    errors that it makes on them."""

    def __post_init__(self) -> None:
        if len(self.kinds()) > 1:
            raise ConfigError(f"got {' and '.join(self.kinds())}, allowed: one judge. Others go into second_opinions.")
        if self.fit_on is not None and self.classifier is None:
            raise ConfigError("fit_on: needs 'classifier', the file that is fitted.")
        if self.labelled is not None and not self.kinds():
            raise ConfigError("labelled: needs a judge, whose errors are counted on these rows.")
        if self.labelled is not None and self.labelled == self.fit_on:
            raise ConfigError("labelled: is fit_on too. A judge errs less on rows that it was fitted on; give others.")

    def kinds(self) -> list[str]:
        """Return which kinds of judge are named."""
        return [kind for kind in KINDS if getattr(self, kind) is not None]


@dataclass(frozen=True, kw_only=True)
class RefusalOptions:
    """A fitted detector of refusals."""

    model: str
    """A file that `steerclear judge fit-refusal` wrote."""
    fit_on: str | None = None
    """Labelled rows (prompt, response, label) to fit it on where the file does not exist yet."""
