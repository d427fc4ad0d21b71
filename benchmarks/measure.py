"""How the benchmarks measure: paired rounds, percentiles, peak memory, and rows that say what they were measured on."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from steerclear.commands.runs import versions

RESULTS = Path(__file__).parent / "results"
MIB = 2**20

Work = Callable[[], Any]


def paired_times(arms: Mapping[str, Sequence[Work]], rounds: int) -> dict[str, list[list[float]]]:
    """Run every arm once a round, each round in another order; return the seconds by arm, phase and round.

    An arm is the works of its phases, run one after another. Arms of one round see the same state of the machine, so their
    ratios hold where its speed drifts. Every arm runs once before the rounds, uncounted.
    """
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in works] for name, works in arms.items()}
    names = list(arms)
    for number in range(-1, rounds):
        turn = max(0, number) % len(names)
        for name in names[turn:] + names[:turn]:
            for phase, work in enumerate(arms[name]):
                wait_for_device()
                start = time.perf_counter()
                work()
                wait_for_device()
                if number >= 0:
                    seconds[name][phase].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float], baseline: Sequence[float] | None = None) -> dict[str, float]:
    """Return the median, the 20th and 80th percentiles and, against a baseline of the same rounds, the median ratio."""
    tenths = statistics.quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 9
    found = {"p20": tenths[1], "p50": statistics.median(seconds), "p80": tenths[7], "runs": len(seconds)}
    if baseline is not None:
        found["ratio"] = statistics.median(a / b for a, b in zip(seconds, baseline, strict=True))
    return found


def extra_peak_mib(work: Work) -> float | None:
    """Return how far memory rises above what was in use before, while ``work`` runs; None where this cannot be told.

    On a GPU it is what torch allocated; on Linux the resident memory of the process, whose high-water mark is reset first.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    if not reset_high_water_mark():
        return None
    before = resident_mib("VmRSS")
    work()
    return resident_mib("VmHWM") - before


def reset_high_water_mark() -> bool:
    """Hand freed memory back to the system and reset the process's high-water mark; return whether that is possible."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident_mib(field: str) -> float:
    """Return ``VmRSS`` (resident now) or ``VmHWM`` (the most that was resident) of this process on Linux."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def machine() -> dict[str, Any]:
    """Return what a result depends on: processor, cores, GPU, versions, commit, and whether the tree had changes."""
    model = platform.processor()
    try:
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = cpu[1] if cpu else model
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions(),
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "changed_files": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py")),
    }


class Recorder:
    """Prints rows as they come and, at the end, replaces the benchmark's result file by them.

    Args:
        name: of the benchmark; its file is ``results/<name>-<device>.jsonl``.
        save: false for a smoke run, whose numbers mean nothing.
    """

    def __init__(self, name: str, *, save: bool) -> None:
        self._path = RESULTS / f"{name}-{'gpu' if torch.cuda.is_available() else 'cpu'}.jsonl"
        self._save, self._rows = save, [{"kind": "machine", **machine()}]

    def add(self, kind: str, **values: Any) -> None:
        """Add a row; floats are kept to four digits."""
        row = {"kind": kind} | {key: _rounded(value) for key, value in values.items()}
        self._rows.append(row)
        print(json.dumps(row), flush=True)

    def close(self) -> None:
        """Write the file."""
        if self._save:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text("".join(json.dumps(row) + "\n" for row in self._rows), encoding="utf-8")
            print(
                f"wrote {self._path.relative_to(Path.cwd()) if self._path.is_relative_to(Path.cwd()) else self._path}"
            )


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
