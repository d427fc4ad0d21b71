"""How the benchmarks measure: paired rounds, percentiles, peak memory, and rows that say what they were measured on."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from steerclear.records import write_text
from steerclear.store.runs import versions

RESULTS = Path(__file__).parent / "results"
MIB = 2**20

Work = Callable[[], Any]


def benchmark_parser(description: str | None, *, smoke: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all benchmarks have; ``smoke`` tells its reader what is small in a smoke run."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=f"one round {smoke}, to see that it runs; not recorded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    return parser


def parse_and_set_threads(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the command line's arguments, with one round for a smoke run, and give torch the threads that they name."""
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds = 1
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return arguments


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


class Peak(NamedTuple):
    """Memory at its highest while some work ran; None where this cannot be told."""

    mib: float | None
    """The most that the process (or, on a GPU, torch) held."""
    extra_mib: float | None
    """That, less what was held before."""


def peak_memory(work: Work) -> Peak:
    """Run ``work`` once and return its peak.

    On a GPU it is what torch allocated; on Linux the resident memory of the process, whose high-water mark is reset first.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MIB
        work()
        peak = torch.cuda.max_memory_allocated() / MIB
    elif reset_high_water_mark():
        before = resident_mib("VmRSS")
        work()
        peak = resident_mib("VmHWM")
    else:
        work()
        return Peak(None, None)
    return Peak(peak, peak - before)


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
        """Add a row; floats, those in lists too, are kept to four digits."""
        row = {"kind": kind} | {key: _rounded(value) for key, value in values.items()}
        self._rows.append(row)
        print(json.dumps(row), flush=True)

    def close(self) -> None:
        """Write the file."""
        if self._save:
            write_rows(self._path, self._rows)
            print(
                f"wrote {self._path.relative_to(Path.cwd()) if self._path.is_relative_to(Path.cwd()) else self._path}"
            )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole result file, a line a row."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
