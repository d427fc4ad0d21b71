"""Workers: more processes for a command, reported when they fail and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import steerclear.store.executor as module
from steerclear.errors import ConfigError, StorageError
from steerclear.store.executor import WORKER, local_executor, worker_number, workers

LINGER = """
import os, sys, time
from steerclear.store.executor import end_with_parent, worker_number
end_with_parent()
share = map(os.environ.get, ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
print(os.getpid(), worker_number(), *share, *sys.argv[1:], flush=True)
time.sleep(60)
"""


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def words(log: Path) -> list[str]:
    """What a lingering worker wrote, once it has."""
    until(lambda: log.is_file() and log.read_text().endswith("\n"))
    return log.read_text().split()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_have_numbers_and_their_share_and_end_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START", LINGER)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, told = torch.get_num_threads(), []
    torch.set_num_threads(6)
    try:
        with workers(["harvest", "r.yaml"], 3, tmp_path, told.append):
            wrote = [words(tmp_path / f"worker-{number}.log") for number in (1, 2)]
            inside = torch.get_num_threads()
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
    gpus = torch.cuda.device_count()
    share = ["None", "2"][gpus == 0]
    devices = [str(number % gpus) if gpus else str(os.environ.get("CUDA_VISIBLE_DEVICES")) for number in (1, 2)]
    assert [row[1:] for row in wrote] == [[str(n), share, devices[n - 1], "harvest", "r.yaml"] for n in (1, 2)]
    assert inside == (6 if gpus else 2)
    assert not any(is_alive(int(row[0])) for row in wrote)
    assert told == []


def test_gpus_are_given_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    given = [module.device_environment(number, None)["CUDA_VISIBLE_DEVICES"] for number in range(4)]
    assert given == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,5")
    assert [module.device_environment(number, None)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == [
        "GPU-b",
        "5",
        "GPU-b",
    ]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_workers_end_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    monkeypatch.setattr(module, "_START", LINGER)

    def fail() -> None:
        with workers([], 2, tmp_path, lambda _: None):
            words(tmp_path / "worker-1.log")
            raise error

    with pytest.raises(error):
        fail()
    assert not is_alive(int(words(tmp_path / "worker-1.log")[0]))


def test_a_worker_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START", LINGER.replace("\nend_with_parent()", "\n"))
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    with workers([], 2, tmp_path, lambda _: None):
        process = int(words(tmp_path / "worker-1.log")[0])
    assert not is_alive(process)


def test_a_worker_runs_the_command_line_and_its_failure_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with workers(["merge", "--base", "nowhere", "--adapter", "x", "--output", str(tmp_path)], 2, tmp_path, told.append):
        until(lambda: told)
    log = tmp_path / "worker-1.log"
    assert told == [
        f"worker 1 ended early (status 2), others go on with its work; {log}: {log.read_text().splitlines()[-1]}"
    ]
    assert "error: " in told[0]


def test_a_worker_starts_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_number() is None
    monkeypatch.setenv(WORKER, "2")
    assert worker_number() == 2
    with workers(["harvest"], 4, tmp_path, lambda _: None):
        assert list(tmp_path.iterdir()) == []


def test_what_cannot_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: got 0, allowed: 1 or more"), workers([], 0, tmp_path, print):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"worker-1\.log: a process cannot be started"),
        workers([], 2, tmp_path / "file", print),
    ):
        pass


def test_a_killed_parent_leaves_no_worker_behind(tmp_path: Path) -> None:
    parent = f"""
import sys, time
from pathlib import Path
import steerclear.store.executor as module
module._START = {LINGER!r}
with module.workers([], 3, Path(sys.argv[1]), print):
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)])
    left = [int(words(tmp_path / f"worker-{number}.log")[0]) for number in (1, 2)]
    assert all(map(is_alive, left))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not any(map(is_alive, left)), seconds=5)


@dataclass
class HelpJob:
    """Prints help into a file."""

    log_file: Path
    words: list[str] = field(default_factory=lambda: ["--help"])
    gpus: int = 0
    status: int | None = None

    def ended(self, status: int) -> None:
        self.status = status


def test_a_job_that_cannot_be_started_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    bad, good = HelpJob(tmp_path), HelpJob(tmp_path / "job.log")  # a folder is no file to write to
    with local_executor(1) as executor:
        first, second = executor.submit(bad), executor.submit(good)
        with pytest.raises(StorageError, match="cannot be started"):
            first.result(timeout=60)
        second.result(timeout=60)
    assert (bad.status, good.status) == (None, 0)
    assert "Usage:" in good.log_file.read_text()
