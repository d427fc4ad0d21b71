"""How far a cell of a sweep is: a small file that its process writes, and that the sweep reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from steerclear.records import write_json

STAGES = ("train", "attack", "generate", "judge", "score")
"""What a cell goes through, in this order. The last two belong together: verdicts are counted as soon as they are there."""

WAITING, DONE, FAILED = "waiting", "done", "failed"


MEMORY_ADVICE = (
    "Lower training.per_device_train_batch_size and raise training.gradient_accumulation_steps by the same factor, "
    "which trains the same; or set training.gradient_checkpointing."
)
"""What a cell whose memory ran out can do."""


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
