"""More processes for one command: each runs the same command line and answers parts until there are none left.

    with workers(sys.argv[1:], count, folder, log):
        answers = answer_in_parts(...)
    if worker_number() is not None:
        return  # a worker answers parts and does nothing else

`steerclear.generation.answer_in_parts` shares the work: it belongs to no process, so the parent goes on where a worker died.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from steerclear.errors import ConfigError, Log, StorageError

WORKER = "STEERCLEAR_WORKER"
"""Environment variable that is set in a worker, to its number."""

_START = (
    "from steerclear.store.workers import end_with_parent; end_with_parent(); from steerclear.cli import main; main()"
)

_PATIENCE_S = 5.0
"""Seconds in which a worker that was told to end must have ended."""


def worker_number() -> int | None:
    """Return which worker this process is, from 1; None in a command that a user started."""
    number = os.environ.get(WORKER)
    return None if number is None else int(number)


@contextmanager
def workers(
    argv: Sequence[str], count: int, folder: Path, log: Log, *, counted_in: bool = True
) -> Iterator[Callable[[], bool]]:
    """Let ``count`` processes run a command line, until the block is left; then end the others.

    Each worker gets a GPU, in turn. Where there is none the processes divide the cores, unless ``OMP_NUM_THREADS`` is set (other
    numbers of threads may round differently). Their output goes to ``folder/worker-1.log`` ... In a worker this does nothing.

    Args:
        argv: the command and its arguments, without the program's name: ``sys.argv[1:]``.
        log: told of each worker that fails, with the last line that it wrote.
        counted_in: this process is one of them. Otherwise, with a count above 1, so many others are started.

    Yields a function that tells whether any of the others is still at work.

    Raises:
        ConfigError: ``count`` is below 1.
        StorageError: a log cannot be written.
    """
    if count < 1:
        raise ConfigError(f"workers: got {count}, allowed: 1 or more processes.")
    if worker_number() is not None or count == 1:
        yield lambda: False
        return
    with shared_cores(count) as threads:
        team = _Team(log)
        try:
            for number in range(1, count if counted_in else count + 1):
                team.start(
                    number,
                    argv,
                    folder / f"worker-{number}.log",
                    os.environ | {WORKER: str(number)} | device_environment(number, threads),
                )
            yield team.is_at_work
        finally:
            team.end()


def end_with_parent() -> None:
    """End this process as soon as its standard input closes, as it does when the parent is gone, however it went."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Team:
    """The worker processes. A pipe to each one's standard input is its parent's sign of life."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ending = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watchers: list[threading.Thread] = []

    def start(self, number: int, argv: Sequence[str], log_file: Path, environment: dict[str, str]) -> None:
        # -P: a file of the current folder must not stand in for a library.
        command = [sys.executable, "-P", "-c", _START, *argv]
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("wb") as out:
                # A group of its own: Ctrl-C goes to the parent alone, which ends its workers.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    process_group=0,
                )
        except OSError as error:
            raise StorageError(f"{log_file}: worker {number} cannot be started ({error.strerror}).") from error
        watcher = threading.Thread(target=self._watch, args=(number, process, log_file), daemon=True)
        self._processes.append(process)
        self._watchers.append(watcher)
        watcher.start()

    def is_at_work(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def _watch(self, number: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
        status = process.wait()
        if status != 0 and not self._ending:
            lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
            self._log(
                f"worker {number} ended early (status {status}), others go on with its work; {log_file}: {lines[-1]}"
            )

    def end(self) -> None:
        self._ending = True
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process, watcher in zip(self._processes, self._watchers, strict=True):
            watcher.join(_PATIENCE_S)
            if watcher.is_alive():
                process.kill()
                watcher.join()


def share_of_cores(count: int) -> int | None:
    """Return how many threads each of ``count`` processes should have; None where GPUs do the work or the user has decided."""
    import torch

    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, torch.get_num_threads() // count)


def device_environment(number: int, threads: int | None, gpus: int = 1) -> dict[str, str]:
    """Return what gives a process its share of the machine: its threads, and its GPUs where there are any.

    Args:
        number: place of the process among those that run at once; they take the visible GPUs in turn.
    """
    import torch

    changes = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        devices = visible.split(",")
        own = [devices[(number * gpus + one) % len(devices)] for one in range(min(gpus, len(devices)))]
        changes["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    return changes


@contextmanager
def shared_cores(count: int) -> Iterator[int | None]:
    """Give this process its share of the cores for a while, and say how many threads that is; None where GPUs do the work."""
    import torch

    threads = share_of_cores(count)
    if threads is None:
        yield None
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
