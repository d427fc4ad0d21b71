"""How far a cell of a sweep is: a small file that its process writes, and that the sweep reads; and why it failed, in words."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from steerclear.errors import SteerClearError
from steerclear.records import write_json

SEED_AXIS = "seed"
"""Axis of a sweep that its seeds make; its cells are one configuration."""
SEED = f"/{SEED_AXIS}-"
"""Between the name of a configuration and the seed of its run."""

STAGES = ("train", "attack", "generate", "judge", "score")
"""What a cell goes through, in this order. The last two belong together: verdicts are counted as soon as they are there."""

WAITING, DONE, FAILED = "waiting", "done", "failed"


MEMORY_ADVICE = (
    "Lower training.per_device_train_batch_size and raise training.gradient_accumulation_steps by the same factor, "
    "which trains the same; or set training.gradient_checkpointing."
)
"""What a cell whose memory ran out can do."""


_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|DefaultCPUAllocator", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a cell is, as its ``status.json`` tells it."""

    stage: str = WAITING
    """``waiting``, one of `STAGES`, ``done`` or ``failed``."""
    failed_in: str | None = None
    """The stage that failed."""
    error: str | None = None
    """Why it failed."""
    evaluation: str | None = None
    """Hash of the options of the evaluation that is done."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each finished stage, of the process that finished it."""


def read_status(folder: Path) -> Status:
    """Return how far a cell is."""
    file = folder / "status.json"
    if not file.is_file():
        return Status()
    return Status(**json.loads(file.read_text(encoding="utf-8")))


def write_status(folder: Path, status: Status) -> None:
    """Say how far a cell is."""
    write_json(folder / "status.json", asdict(status))


def settle(folder: Path, exit_status: int) -> None:
    """Tell in a cell's status how its process ended, where it could not tell that itself."""
    status = read_status(folder)
    if status.stage in (DONE, FAILED):
        return
    if exit_status == -signal.SIGKILL:
        error = f"the process was killed, as the system does when memory runs out. {MEMORY_ADVICE}"
    elif exit_status < 0:
        error = f"the process ended by {signal.Signals(-exit_status).name}; cell.log has its last lines."
    else:
        error = f"the process ended with status {exit_status}; cell.log has its last lines."
    write_status(folder, replace(status, stage=FAILED, failed_in=status.stage, error=error))


@dataclass(frozen=True)
class CellJob:
    """A cell as a job of a process of its own: nothing that it does (memory that runs out, a crash) reaches another one.

    It stands here and not with the cells, as a Ray task reads it and should import nothing that trains.
    """

    folder: Path
    gpus: int

    @property
    def words(self) -> list[str]:
        """Its command line."""
        return ["cell", str(self.folder)]

    @property
    def log_file(self) -> Path:
        """Gets what it prints."""
        return self.folder / "cell.log"

    def ended(self, status: int) -> None:
        """Say in the cell's status how its process ended, where it could not say that itself."""
        settle(self.folder, status)


def explain(error: Exception) -> str:
    """Return why a cell failed, for a table: what happened, and what to do where that is known."""
    if isinstance(error, SteerClearError):
        return str(error)
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        return f"out of memory ({text}). {MEMORY_ADVICE}"
    return text
