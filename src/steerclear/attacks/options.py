"""The section ``evaluation.attacks`` of a recipe: the behaviors, the attacks on them, and who judges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from steerclear.attacks.cards import AttackCard, load_attack
from steerclear.config import raise_all
from steerclear.errors import ConfigError
from steerclear.evaluation.options import EvaluationOptions, SuiteOptions
from steerclear.generation.options import ChatModelOptions, GenerationOptions
from steerclear.judges.options import KINDS, JudgeOptions

OVERRIDES = {"opening_words": "words", "opening_tokens": "tokens", "shots": "shots", "samples": "samples"}
"""Field of a card that a recipe may set -> how it ends the attack's name."""


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """An attack that needs no attacker model."""

    card: str
    """Name of a card that comes with the package, the file of your own, ending in ``.yaml``, or ``pyrit:NAME``."""
    name: str = ""
    """Name in tables and of the answers' folder. Empty: the card's and what is set below, such as ``opening-2-words``."""
    opening_words: int | None = None
    """In place of the card's beginning of the answer: so many words of the behavior's unsafe answer. None: the card's."""
    opening_tokens: int | None = None
    """The same in tokens of the attacked model, which must be local."""
    openings_from: str | None = None
    """JSONL file of answers (``id``, ``response``) that the beginnings are taken from, such as those that the base model gave to
    ``direct``. None: the behaviors' own unsafe answers."""
    shots: int | None = None
    """Faked exchanges before the request, at most. None: the card's."""
    shots_from: str | None = None
    """File or Hub name of the rows that these are made of: the unsafe ones, in any format that training reads."""
    samples: int | None = None
    """Answers to each request. None: the card's."""
    temperature: float | None = None
    """Temperature of these. None: the card's."""

    def __post_init__(self) -> None:
        card = load_attack(self.card)
        if self.opening_words is not None and self.opening_tokens is not None:
            raise ConfigError("opening_words, opening_tokens: give one of the two.")
        changed = self.changed(card)
        if bool(changed.shots) != (self.shots_from is not None):
            raise ConfigError(
                f"shots_from: belongs to {changed.shots} shots of '{card.name}'. "
                + ("Name the rows that the exchanges are made of." if changed.shots else "Leave it out.")
            )
        takes_opening = changed.opening_words is not None or changed.opening_tokens is not None
        if self.openings_from is not None and not takes_opening:
            raise ConfigError(f"openings_from: '{card.name}' does not begin with an answer's words. Leave it out.")
        if not self.name:
            object.__setattr__(self, "name", self._own_name(card))
        if "/" in self.name:
            raise ConfigError(f"name: got {self.name!r}, allowed: a file name without slashes.")

    def changed(self, card: AttackCard) -> AttackCard:
        """Return the card as this recipe changes it.

        Raises:
            ConfigError: the two do not go together.
        """
        given = {name: getattr(self, name) for name in (*OVERRIDES, "temperature")}
        changes = {name: value for name, value in given.items() if value is not None}
        if self.opening_words is not None or self.opening_tokens is not None:
            changes = {"prefill": None, "opening_words": None, "opening_tokens": None} | changes
        return replace(card, **changes)

    def _own_name(self, card: AttackCard) -> str:
        ends = [f"{getattr(self, name)}-{what}" for name, what in OVERRIDES.items() if getattr(self, name) is not None]
        return "-".join([card.name, *ends])


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How long the attacker tries. The defaults are the published ones."""

    streams: int = 30
    """Conversations a behavior."""
    iterations: int = 3
    """Prompts a conversation."""
    attempts: int = 5
    """Replies that the attacker may give until one can be read."""
    keep_last: int = 4
    """Exchanges that the attacker remembers."""
    goals_at_once: int = 10
    """Goals whose streams go side by side."""
    max_calls: int | None = None
    """Calls of all three roles together, at most; those of an earlier run count. ``null``: as many as it takes."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: 1 or more."
            for name in ("streams", "iterations", "attempts", "keep_last", "goals_at_once")
            if getattr(self, name) < 1
        ]
        if self.max_calls is not None and self.max_calls < 3:
            problems.append(
                f"max_calls: got {self.max_calls}, allowed: 3 or more (each role once), or null for no limit."
            )
        raise_all(problems)


@dataclass(frozen=True, kw_only=True)
class FineTuningOptions:
    """A short fine-tuning by the attacker, or by a user who means no harm: harmless rows can undo safety too."""

    name: str
    """Name in tables and of its folder."""
    rows: str
    """File or Hub name of the rows that are imitated."""
    harmful: bool = False
    """Imitate the rows that training would avoid: unsafe answers. Off: the harmless ones."""
    count: int | None = None
    """So many rows, a fixed sample. None: all."""
    steps: int = 10
    """Optimizer steps."""
    batch_size: int = 10
    """Rows of a step."""
    learning_rate: float = 1e-4
    """Constant, of AdamW."""
    seed: int = 0
    """Of the sample and the order of rows."""

    def __post_init__(self) -> None:
        checks = [
            (bool(self.name) and "/" not in self.name, f"name: got {self.name!r}, allowed: a file name without slashes."),
            (self.count is None or self.count >= 1, f"count: got {self.count}, allowed: 1 or more, or null for all."),
            (self.steps >= 1, f"steps: got {self.steps}, allowed: 1 or more."),
            (self.batch_size >= 1, f"batch_size: got {self.batch_size}, allowed: 1 or more."),
            (self.learning_rate > 0, f"learning_rate: got {self.learning_rate}, allowed: above 0."),
        ]  # fmt: skip
        raise_all([message for right, message in checks if not right])


@dataclass(frozen=True, kw_only=True)
class PairAttackOptions(PairOptions):
    """PAIR (Chao et al. 2023): an attacker model rewrites its prompt by the answers and scores that it got."""

    attacker: ChatModelOptions
    """The model that writes the prompts."""
    name: str = "pair"
    """Name in tables and of its folder."""


@dataclass(frozen=True, kw_only=True)
class AttacksOptions:
    """What is tried against a model's safety."""

    behaviors: SuiteOptions
    """The harmful requests, such as ``{card: pair_subset_50, data: ...}``."""
    answer_field: str | None = None
    """Field of each behavior's unsafe answer, for openings. None: the card's own."""
    by: str | None = None
    """Field of each behavior's category, for rates by category. None: none."""
    cards: list[AttackOptions] = field(default_factory=list)
    """Attacks that need no attacker model."""
    pair: PairAttackOptions | None = None
    """PAIR. ``null``: not tried."""
    fine_tuning: list[FineTuningOptions] = field(default_factory=list)
    """Short trainings by the attacker; then the requests are asked as they are."""
    judge: JudgeOptions | None = None
    """Who decides what a success is. None: ``evaluation.judge``. The paper's attack table is by a rating from 1 to 10."""
    generation: GenerationOptions | None = None
    """How answers are decoded. None: as ``evaluation.generation``."""
    positions: bool | None = None
    """Find the token with which each harmful answer turns harmful, which asks the judge a few more times. None: not where the
    judge is a chat model or behind an endpoint, as these calls are in no limit."""

    RENAMED: ClassVar[dict[str, str]] = {"goals": "behaviors"}

    def __post_init__(self) -> None:
        names = [attack.name for attack in self.cards] + [tuning.name for tuning in self.fine_tuning]
        names += [self.pair.name] if self.pair is not None else []
        problems = [
            f"two attacks are called '{name}'. Give one a name." for name in sorted({n for n in names if names.count(n) > 1})
        ]  # fmt: skip
        if not names:
            problems.append(
                "cards, pair, fine_tuning: are all empty; name an attack, such as 'cards: [{card: direct}]'."
            )
        if self.judge is not None and not self.judge.kinds():
            problems.append(f"judge: names no judge ({', '.join(KINDS)}).")
        raise_all(problems)

    def resolved(self, judge: JudgeOptions, generation: GenerationOptions) -> AttacksOptions:
        """Return the attacks with what they leave to the evaluation: who judges, and how answers are decoded."""
        return replace(self, judge=self.judge or judge, generation=self.generation or generation)


@dataclass(frozen=True, kw_only=True)
class EvaluationSection(EvaluationOptions):
    """What is asked after training, who judges the answers, and what is tried against the model's safety."""

    attacks: AttacksOptions | None = None
    """What is tried against the safety of what was trained. ``null``: nothing."""

    @property
    def is_any(self) -> bool:
        """Whether there is anything to evaluate."""
        return bool(self.suites) or self.attacks is not None
