"""What the runs were made by: what differs between them first, then what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.report.comparison import NO_VALUE, RunScores, duration
from steerclear.report.run_data import RunData


@dataclass(frozen=True)
class Settings:
    """Settings of all runs."""

    differing: list[list[str]]
    """The headings (names of settings), then a line a run; empty for a single run, or where all is shared."""
    shared: list[list[str]]
    """Name and value of what all runs have alike."""


def settings_of(runs: Sequence[RunData]) -> Settings:
    """Compare the runs' settings by name. Runs of which none is known, such as a base model, are left out."""
    known = [run for run in runs if run.settings]
    names = list(dict.fromkeys(name for run in known for name in run.settings))
    differing = [name for name in names if len({run.settings.get(name) for run in known}) > 1]
    rows = [["run", *differing], *([run.name, *_values(run.settings, differing)] for run in known)] if differing else []
    return Settings(rows, [[name, known[0].settings[name]] for name in names if name not in differing])


def _values(settings: Mapping[str, str], names: Sequence[str]) -> list[str]:
    return [settings.get(name, NO_VALUE) for name in names]


def training_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line a run: its figures of the training; nothing where none was trained."""
    trained = [run for run in runs if run.unsafe_rows is not None or run.seconds is not None]
    rows = [["run", "unsafe rows", "benign loss", "training time"]] if trained else []
    for run in trained:
        rows.append(
            [
                run.name,
                NO_VALUE if run.unsafe_rows is None else f"{run.unsafe_rows:,}",
                NO_VALUE if run.benign_loss is None else f"{run.benign_loss:.3f}",
                NO_VALUE if run.seconds is None else duration(run.seconds),
            ]
        )
    return rows
