"""One training by several processes, as torchrun and accelerate launch start them: ranks.

Every rank runs the same command on the same rows, and trains its share of each step. The run's folder is rank 0's: what is
written there it writes alone, and what must be known of it, it tells the others. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from steerclear.errors import SteerClearError

Result = TypeVar("Result")

ECHO = "rank 0 failed"
"""How the other ranks' error begins where rank 0 failed."""

_LAUNCHED_AS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables by which a launcher tells a process which of how many it is."""


def launched_processes() -> int:
    """Return how many processes a launcher started for this training; `accelerate` too knows one by ``LOCAL_RANK``."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Return which of them this process is, from 0."""
    return int(os.environ.get("RANK", "0")) if launched_processes() > 1 else 0


def by_first(action: Callable[[], Result]) -> Result:
    """Let rank 0 do something once all ranks are here, and return in every rank what it returned.

    The ranks must be connected, which creating the trainer's arguments does.

    Raises:
        SteerClearError: rank 0 failed. It raises its own error, whatever that is, and no other rank waits for it.
    """
    if launched_processes() == 1:
        return action()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState().wait_for_everyone()
    result: Any = None
    error: Exception | None = None
    if rank() == 0:
        try:
            result = action()
        except Exception as raised:
            error = raised
    result, failure = broadcast_object_list([result, error and (str(error) or type(error).__name__)])
    if error is not None:
        raise error
    if failure is not None:
        raise SteerClearError(f"{ECHO}: {failure}")
    return result


def sum_over_ranks(trainer: Any, value: Any) -> float:
    """Return the sum of a figure over a trainer's processes, in float64."""
    import torch

    own = torch.as_tensor(value, dtype=torch.float64, device=trainer.args.device)
    return float(trainer.accelerator.reduce(own, reduction="sum"))


def part_ways() -> bool:
    """Disconnect the ranks once all are here. True in rank 0, which goes on as a process that was started alone."""
    if launched_processes() == 1:
        return True
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    state, first = PartialState(), rank() == 0
    state.wait_for_everyone()
    state.destroy_process_group()
    # lm-evaluation-harness and others would still share their work with ranks that are gone.
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in _LAUNCHED_AS:
        os.environ.pop(name, None)
    return first
