"""Cells of a sweep in processes of their own: a few at a time on this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from steerclear.errors import ConfigError
from steerclear.experiments.cell_status import DONE, FAILED, MEMORY_ADVICE, read_status, write_status
from steerclear.store.workers import device_environment, share_of_cores

if TYPE_CHECKING:
    from steerclear.experiments.cells import Cell


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where cells run on a Ray cluster, and what each one asks of it."""

    address: str
    """``auto`` (the cluster of this host), ``local`` (one that is started for this sweep), or ``ray://host:port``."""
    cpus: float = 1.0
    """CPU cores of a cell."""
    gpus: float = 0.0
    """GPUs of a cell."""

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            if getattr(self, name) < 0:
                raise ConfigError(f"cell-{name}: got {getattr(self, name)}, allowed: 0 or more.")


class Executor(Protocol):
    """Something that works on cells."""

    def submit(self, cell: Cell) -> Future[None]:
        """Begin with a cell as soon as there is room; the future ends when the cell's status says how it went."""
        ...


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Work on so many cells at a time. Each has its share of the cores, or GPUs in turn. None outlives the block.

    Raises:
        ConfigError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ConfigError(f"workers: got {workers}, allowed: 1 or more cells at a time.")
    executor = _LocalExecutor(workers)
    try:
        yield executor
    finally:
        executor.end()


class _LocalExecutor:
    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._threads = share_of_cores(workers)
        self._places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(workers):
            self._places.put(place)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ending = False

    def submit(self, cell: Cell) -> Future[None]:
        return self._pool.submit(self._run, cell)

    def _run(self, cell: Cell) -> None:
        place = self._places.get()
        process = start(cell.folder, device_environment(place, self._threads, cell.launch.processes))
        self._running.add(process)
        if self._ending:
            process.kill()
        status = wait_for(process)
        self._running.discard(process)
        self._places.put(place)
        if not self._ending:
            settle(cell.folder, status)

    def end(self) -> None:
        self._ending = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        self._pool.shutdown()


@contextmanager
def ray_executor(options: RayOptions) -> Iterator[Executor]:
    """Work on cells where the cluster has room. Its hosts must see the sweep's folder and the data under the same paths.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("ray: is not installed. Run: pip install 'steerclear[ray]'") from error
    local = options.address == "local"
    try:
        ray.init(
            address=options.address,
            log_to_driver=False,
            logging_level="ERROR",
            **({"include_dashboard": False} if local else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"ray: no cluster at '{options.address}' ({reason}). Start one with 'ray start --head', or use 'local'."
        ) from error
    try:
        yield _RayExecutor(ray, options)
    finally:
        ray.shutdown()


class _RayExecutor:
    def __init__(self, ray: Any, options: RayOptions) -> None:
        # A host that dies takes its task along; started again elsewhere, the cell goes on from its last checkpoint.
        self._task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=2)(_run_remotely)

    def submit(self, cell: Cell) -> Future[None]:
        return self._task.remote(str(cell.folder.resolve()), str(Path.cwd())).future()


def _run_remotely(folder: str, working_folder: str) -> None:
    # Recipes name files relative to where the sweep was started. What Ray sets for threads and GPUs is passed on.
    os.chdir(working_folder)
    settle(Path(folder), wait_for(start(Path(folder), {})))


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that works on the cell in a folder, its output in ``cell.log``. It ends when this one does.

    Args:
        environment: variables that it has beside this process's.
    """
    command = [sys.executable, "-P", "-m", "steerclear", "cell", str(folder)]
    with (folder / "cell.log").open("ab") as log:
        # A group of its own: Ctrl-C goes to the sweep alone, which ends its cells.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            process_group=0,
        )


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return how a process that `start` started ended."""
    try:
        return process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()


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
