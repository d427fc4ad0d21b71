"""Which checkpoint of a killed training is continued."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path


def last_complete_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """Return the newest checkpoint that was written to its end, by all the processes of the training.

    The trainer's state is the last file that the first process writes. Each of several writes the state of its own random
    numbers (as a zip file, whose end is written last), and none waits for the others.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_complete(path, processes)), None)


def _is_complete(checkpoint: Path, processes: int) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    own = [checkpoint / f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else []
    return all(file.is_file() and zipfile.is_zipfile(file) for file in own)
