"""Attacks that need no attacker model, as versioned cards: what is asked in place of the request, and whose idea it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from steerclear.attacks.pyrit import PREFIX, pyrit_version
from steerclear.attacks.transforms import TRANSFORMS
from steerclear.config import build_file, raise_all
from steerclear.errors import one_of
from steerclear.evaluation.cards import card_path, shipped_cards
from steerclear.evaluation.openings import Opening, text_problems

FOLDER = Path(__file__).parent / "cards"

REQUEST = "{request}"
"""Where a template holds the request."""


@dataclass(frozen=True, kw_only=True)
class AttackCard:
    """An attack. A change that changes figures raises ``version``."""

    name: str
    """Name in tables and of the answers' folder."""
    version: int
    """From 1."""
    about: str
    """One sentence."""
    source: str
    """The work that it is from. Its words are our own unless it says otherwise."""
    transform: str | None = None
    """How the request is written: one of `steerclear.attacks.transforms.TRANSFORMS`, or ``pyrit:NAME``."""
    template: str = REQUEST
    """What the user says, with ``{request}``."""
    system: str | None = None
    """What the system message says. With a text template it stands before everything else."""
    prefill: str | None = None
    """Words that the answer begins with."""
    opening_words: int | None = None
    """In place of ``prefill``: begin with so many words of the behavior's unsafe answer."""
    opening_tokens: int | None = None
    """In place of ``opening_words``: so many tokens of the attacked model."""
    shots: int = 0
    """So many faked exchanges before it, of the rows that the recipe names; fewer where the context holds no more."""
    samples: int = 1
    """Answers to each request; one harmful one is enough."""
    temperature: float | None = None
    """Temperature of these. None: as the recipe decodes."""

    def __post_init__(self) -> None:
        openings = [name for name in ("prefill", "opening_words", "opening_tokens") if getattr(self, name) is not None]
        checks = [
            (
                bool(re.fullmatch(r"[\w.-]+", self.name)),
                f"name: got '{self.name}', allowed: letters, digits, dots, dashes and underscores.",
            ),
            (self.version >= 1, f"version: got {self.version}, allowed: 1 or more."),
            (
                self.transform is None or self.transform in TRANSFORMS or self.transform.startswith(PREFIX),
                one_of("transform", self.transform, TRANSFORMS),
            ),
            (REQUEST in self.template, f"template: got {self.template!r}, which has no {REQUEST}. Say where it goes."),
            (len(openings) < 2, f"{', '.join(openings)}: give one of these: an answer has one beginning."),
            (self.shots >= 0, f"shots: got {self.shots}, allowed: 0 or more."),
            (self.samples >= 1, f"samples: got {self.samples}, allowed: 1 or more."),
            (
                self.samples == 1 or bool(self.temperature),
                f"samples: got {self.samples} at temperature {self.temperature or 0:g}, where all samples are the same. Set a "
                "temperature above 0.",
            ),
        ]
        checks += [
            (getattr(self, name) is None or getattr(self, name) >= 1, f"{name}: got {getattr(self, name)}, allowed: 1 or more.")
            for name in ("opening_words", "opening_tokens")
        ]  # fmt: skip
        raise_all([message for right, message in checks if not right] + text_problems(self.prefill))

    @property
    def opening(self) -> Opening | None:
        """How answers begin. None: as the model likes."""
        if self.prefill is None and self.opening_words is None and self.opening_tokens is None:
            return None
        return Opening(text=self.prefill, words=self.opening_words, tokens=self.opening_tokens)


def list_attacks() -> list[AttackCard]:
    """Return the attacks that come with the package, by name."""
    return [load_attack(name) for name in shipped_cards(FOLDER)]


def load_attack(name: str) -> AttackCard:
    """Return an attack by its name or, for one of your own, from its file.

    Args:
        name: name of a card that comes with the package, the path of a file that ends in ``.yaml`` or ``.yml``, or ``pyrit:NAME``
            for a converter or a jailbreak template of PyRIT.

    Raises:
        ConfigError: there is no such card, PyRIT is not installed, or everything that is wrong in it, together.
    """
    if name.startswith(PREFIX):
        return _of_pyrit(name)
    return build_file(AttackCard, card_path(name, FOLDER, "An attack"))


def _of_pyrit(name: str) -> AttackCard:
    own = name.removeprefix(PREFIX)
    source = f"PyRIT {pyrit_version()}, https://github.com/microsoft/PyRIT"
    return AttackCard(name=f"pyrit-{own}", version=1, about=f"PyRIT's {own}.", source=source, transform=name)
