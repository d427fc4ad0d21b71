"""Processes that work on parts of one command: workers that share a folder, and jobs that run a few at a time, here or on Ray.

    with workers(["harvest", "config.yaml"], count, folder, log):
        answers = answer_in_parts(...)
    if worker_number() is not None:
        return  # a worker answers parts and does nothing else

    with local_executor(count) as executor:
        futures = [executor.submit(job) for job in jobs]

No process outlives the one that started it: each ends when its standard input closes, as it does when the parent is gone.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steerclear.errors import ConfigError, Log, StorageError

WORKER = "STEERCLEAR_WORKER"
"""Environment variable that is set in a worker, to its number."""

_START = (
    "from steerclear.store.executor import end_with_parent; end_with_parent(); from steerclear.cli import main; main()"
)

_PATIENCE_S = 5.0
"""Seconds in which a worker that was told to end must have ended."""


# ── one process ──


def start(
    words: Sequence[str], log_file: Path, environment: dict[str, str], mode: str = "ab"
) -> subprocess.Popen[bytes]:
    """Start a process that runs a command line of this package. It ends when this one does.

    Args:
        words: the command and its arguments, without the program's name.
        log_file: gets what it prints.
        environment: variables that it has beside this process's.

    Raises:
        StorageError: the log cannot be written.
    """
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open(mode) as out:
            return subprocess.Popen(
                # -P: a file of the current folder must not stand in for a library.
                [sys.executable, "-P", "-c", _START, *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                process_group=0,  # Ctrl-C goes to the parent alone, which ends what it started
            )
    except OSError as error:
        raise StorageError(f"{log_file}: a process cannot be started ({error.strerror}).") from error


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return how a process that `start` started ended."""
    try:
        return process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()


def end_with_parent() -> None:
    """End this process as soon as its standard input closes, as it does when the parent is gone, however it went."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# ── jobs, a few at a time ──


class Job(Protocol):
    """Something that a process of its own does."""

    @property
    def words(self) -> list[str]:
        """Its command line, without the program's name."""

    @property
    def log_file(self) -> Path:
        """Gets what it prints."""

    @property
    def gpus(self) -> int:
        """GPUs that it takes, where there are any."""

    def ended(self, status: int) -> None:
        """Note how the process ended; below 0: by this signal."""


class Executor(Protocol):
    """Something that works on jobs."""

    def submit(self, job: Job) -> Future[None]:
        """Begin with a job as soon as there is room; the future ends once `Job.ended` knows how it went."""


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Work on so many jobs at a time. Each has its share of the cores, or GPUs in turn. None outlives the block.

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

    def submit(self, job: Job) -> Future[None]:
        return self._pool.submit(self._run, job)

    def _run(self, job: Job) -> None:
        place = self._places.get()
        try:
            process = start(job.words, job.log_file, device_environment(place, self._threads, job.gpus))
            self._running.add(process)
            if self._ending:
                process.kill()
            status = wait_for(process)
            self._running.discard(process)
        finally:
            self._places.put(place)
        if not self._ending:
            job.ended(status)

    def end(self) -> None:
        self._ending = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        self._pool.shutdown()


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where jobs run on a Ray cluster, and what each one asks of it."""

    address: str
    """``auto`` (the cluster of this host), ``local`` (one that is started for this command), or ``ray://host:port``."""
    cpus: float = 1.0
    """CPU cores of a job."""
    gpus: float = 0.0
    """GPUs of a job."""

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            if getattr(self, name) < 0:
                raise ConfigError(f"cell-{name}: got {getattr(self, name)}, allowed: 0 or more.")


@contextmanager
def ray_executor(options: RayOptions) -> Iterator[Executor]:
    """Work on jobs where the cluster has room. Its hosts must see the jobs' folders and the data under the same paths.

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
        # A host that dies takes its task along; started again elsewhere, the job continues where it was.
        self._task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=2)(_run_remotely)

    def submit(self, job: Job) -> Future[None]:
        return self._task.remote(job, str(Path.cwd())).future()


def _run_remotely(job: Job, working_folder: str) -> None:
    # Recipes name files relative to where the command was started. What Ray sets for threads and GPUs is passed on.
    os.chdir(working_folder)
    job.ended(wait_for(start(job.words, job.log_file, {})))


# ── workers on one folder ──


def worker_number() -> int | None:
    """Return which worker this process is, from 1; None in a command that a user started."""
    number = os.environ.get(WORKER)
    return None if number is None else int(number)


@contextmanager
def workers(
    words: Sequence[str], count: int, folder: Path, log: Log, *, counted_in: bool = True
) -> Iterator[Callable[[], bool]]:
    """Let ``count`` processes run a command line, until the block is left; then end the others.

    Each worker gets a GPU, in turn. Where there is none the processes divide the cores, unless ``OMP_NUM_THREADS`` is set (other
    numbers of threads may round differently). Their output goes to ``folder/worker-1.log`` ... In a worker this does nothing.

    Args:
        words: the command and its arguments, without the program's name.
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
                    words,
                    folder / f"worker-{number}.log",
                    {WORKER: str(number)} | device_environment(number, threads),
                )
            yield team.is_at_work
        finally:
            team.end()


class _Team:
    """The worker processes. A pipe to each one's standard input is its parent's sign of life."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ending = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watchers: list[threading.Thread] = []

    def start(self, number: int, words: Sequence[str], log_file: Path, environment: dict[str, str]) -> None:
        process = start(words, log_file, environment, mode="wb")
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
