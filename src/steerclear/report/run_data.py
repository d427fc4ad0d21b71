"""What a report knows of its runs, as plain values: nothing in here reads a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steerclear.errors import ConfigError, did_you_mean
from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import Scores
from steerclear.records import Generation, Verdict
from steerclear.report.comparison import RunScores

Answers = Sequence[tuple[Generation, Verdict]]


@dataclass(frozen=True, kw_only=True)
class RunData:
    """One finished run."""

    figures: RunScores
    """Its name, scores and figures of the training."""
    configuration: str
    """The run's name without its seed: runs of one configuration are taken together over their seeds."""
    seed: int | None = None
    """None: it was not made under several seeds."""
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
    def name(self) -> str:
        """Return the run's name."""
        return self.figures.name

    @property
    def scores(self) -> Scores:
        """Return its scores."""
        return self.figures.scores

    @property
    def verdicts(self) -> list[Verdict]:
        """Return what the judges said of its answers."""
        return [verdict for _, verdict in self.answers]


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
        return next((run for run in runs if run.figures.unsafe_rows == 0), runs[0])
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
