"""The report on 20 runs of 1,000 prompts: how long it is made, how large it is, and how long a browser takes to open it.

    python benchmarks/bench_report.py            # docs/report.md has the recorded figures

Made is: the whole command in a process of its own, by the clock and by the processor's time. Opened is: from the navigation until
the first answers are shown, in a headless Chromium, without a cache; left out where there is none. The first opening after the
browser's start is counted alone.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import MIB, Recorder, benchmark_parser, parse_and_set_threads
from report_folders import Size, make_sweep

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # the tests' way to drive a browser

from chromium import PROGRAM, Browser  # noqa: E402

READY = "document.documentElement.dataset.ready"


def make(sweep: Path, page: Path) -> tuple[float, float]:
    """Make the page, and return the seconds that it took, by the clock and of a processor."""
    command = [
        sys.executable,
        "-c",
        "from steerclear.cli import main; main()",
        "report",
        str(sweep),
        "--output",
        str(page),
    ]
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, used


async def opened(page: Path, times: int) -> list[float]:
    """Open the page so many times, and return the seconds that each took."""
    with tempfile.TemporaryDirectory() as profile:
        async with Browser(Path(profile)) as browser:
            await browser.call("Network.setCacheDisabled", cacheDisabled=True)
            seconds = []
            for _ in range(times):
                await browser.open(page.as_uri(), READY)
                seconds.append(float(await browser.js(READY)) / 1000)
            return seconds


def main() -> None:
    """Measure and record."""
    arguments = parse_and_set_threads(benchmark_parser(__doc__, smoke="on a few small runs"))
    size = Size(runs=3, prompts=40, words=8, steps=1) if arguments.smoke else Size()
    recorder = Recorder("report", save=not arguments.smoke)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        sweep = make_sweep(Path(folder) / "sweep", size)
        clock, processor = zip(*(make(sweep, page) for _ in range(arguments.rounds)), strict=True)
        figures = {
            "page_mib": page.stat().st_size / MIB, "made_seconds": statistics.median(clock),
            "made_cpu_seconds": statistics.median(processor),
        }  # fmt: skip
        if PROGRAM is not None:
            first, *later = asyncio.run(opened(page, arguments.rounds + 1))
            figures |= {"first_opening_seconds": first, "opening_seconds": statistics.median(later)}
    recorder.add("report", runs=size.runs, prompts=size.prompts, words=size.words, steps=size.steps, **figures)
    recorder.close()


if __name__ == "__main__":
    main()
