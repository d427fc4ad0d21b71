"""The section ``evaluation.attacks`` of a recipe: the goals, the attacks on them, and who judges."""

from __future__ import annotations

from dataclasses import dataclass, field

from steerclear.attacks.fine_tuning import FineTuningOptions
from steerclear.attacks.options import AttackOptions
from steerclear.attacks.pair import PairOptions
from steerclear.config import raise_all
from steerclear.evaluation.suites import SuiteOptions
from steerclear.generation import GenerationOptions
from steerclear.generation.chat import RoleOptions
from steerclear.judges.judge_options import KINDS, JudgeOptions


@dataclass(frozen=True, kw_only=True)
class PairAttackOptions(PairOptions):
    """PAIR (Chao et al. 2023): an attacker model rewrites its prompt by the answers and scores that it got."""

    attacker: RoleOptions
    """The model that writes the prompts."""
    name: str = "pair"
    """Name in tables and of its folder."""


@dataclass(frozen=True, kw_only=True)
class AttacksOptions:
    """What is tried against a model's safety."""

    goals: SuiteOptions
    """The harmful requests, such as ``{card: pair_subset_50, data: ...}``."""
    answer_field: str | None = None
    """Field of each goal's unsafe answer, for openings. None: the card's own."""
    by: str | None = None
    """Field of each goal's category, for rates by category. None: none."""
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
