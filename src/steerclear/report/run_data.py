"""What a report knows of its runs, as plain values: nothing in here reads a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steerclear.attacks.figures import AttackFigures
from steerclear.errors import ConfigError, did_you_mean
from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import Scores
from steerclear.records import Generation, Verdict
from steerclear.store.status import SEED

Answers = Sequence[tuple[Generation, Verdict]]


@dataclass(frozen=True, kw_only=True)
class RunData:
    """An evaluated run: its scores, and what else is known of it."""

    name: str
    scores: Scores
    attacks: Mapping[str, AttackFigures] = field(default_factory=dict)
    """Attack -> its figures. Empty: none was tried."""
    benign_loss: float | None = None
    """Loss on held-out benign rows, in nats a token."""
    unsafe_rows: int | None = None
    """Number of unsafe rows in training."""
    seconds: float | None = None
    """Wall time of training."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Axis -> value, without the seed: what tells the run from the others of its sweep, or at least its objective."""
    points: Sequence[Checkpoint] = ()
    """What of the training was evaluated, by step."""
    end: int | None = None
    """Step whose weights the training kept at its end. None: it was not trained here."""
    picked: int | None = None
    """Step of the checkpoint to keep, where one was picked. None: the end of the training."""
    log: Sequence[Mapping[str, Any]] = ()
    """The trainer's log, entry by entry."""
    answers: Answers = ()
    correct: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Multiple-choice suite -> id of a document -> whether it was answered rightly."""
    heldout: str | None = None
    """Hash of the rows that its benign loss is of. None: not known."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Dotted name -> value: settings, data, versions, as text without folder names."""

    @property
    def configuration(self) -> str:
        """The run's name without its seed: runs of one configuration are taken together over their seeds."""
        return configuration_of(self.name)

    @property
    def seed(self) -> int | None:
        """The seed at the end of the run's name. None: it was not made under several seeds."""
        return None if self.configuration == self.name else int(self.name.rpartition(SEED)[2])

    @property
    def verdicts(self) -> list[Verdict]:
        """What the judges said of its answers."""
        return [verdict for _, verdict in self.answers]


def configuration_of(name: str) -> str:
    """Return a run's name without its seed.

    >>> configuration_of("sft/seed-3"), configuration_of("sft")
    ('sft', 'sft')
    """
    configuration, is_seeded, seed = name.rpartition(SEED)
    return configuration if is_seeded and seed.isdecimal() else name


@dataclass(frozen=True)
class Unfinished:
    """A run without figures."""

    name: str
    reason: str


def baseline_of(runs: Sequence[RunData], name: str | None) -> RunData:
    """Return the run of that name; without a name the first one that was trained on no unsafe row, else the first.

    Raises:
        ConfigError: there is no such run.
    """
    if name is None:
        return next((run for run in runs if run.unsafe_rows == 0), runs[0])
    names = [run.name for run in runs]
    if name not in names:
        raise ConfigError(f"baseline: got '{name}', allowed: {', '.join(names)}.{did_you_mean(name, names)}")
    return runs[names.index(name)]


def baseline_first(runs: Sequence[RunData], baseline: RunData) -> dict[str, list[Verdict]]:
    """Return name -> verdicts with the baseline's first, as the paired tests take them."""
    return {run.name: run.verdicts for run in [baseline, *(run for run in runs if run is not baseline)]}


def by_configuration(runs: Sequence[RunData]) -> dict[str, list[RunData]]:
    """Return the runs of each configuration, by seed."""
    found: dict[str, list[RunData]] = {}
    for run in runs:
        found.setdefault(run.configuration, []).append(run)
    return {name: sorted(own, key=lambda run: run.seed or 0) for name, own in found.items()}
