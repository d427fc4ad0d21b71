"""What two ranks get of `by_first` and `part_ways`, on standard output; used by test_ranks.py."""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import PartialState

from steerclear.training.ranks import by_first, launched_processes, part_ways, rank

PartialState(cpu=True)
place = Path(sys.argv[1])


def write_once() -> str:
    """Write what must not be there yet."""
    with place.open("x") as file:
        file.write(str(rank()))
    return f"written by rank {rank()}"


def fail() -> None:
    """Fail as no user's error does."""
    raise OSError("no room")


told = by_first(write_once)
try:
    by_first(fail)
except Exception as error:
    failed = f"{type(error).__name__}: {error}"
first = part_ways()
print(f"{told}\n{failed}\n{first} {launched_processes()} {PartialState(cpu=True).num_processes}")
