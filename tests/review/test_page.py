"""The review page in a real browser, by keys alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chromium import PROGRAM, Browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium, which is not on this machine")

SERVE = (
    "import sys; from pathlib import Path; from steerclear.review.review import review; "
    "review(Path(sys.argv[1]), print, browser=False)"
)
READY = "/hidden|Nothing/.test(document.getElementById('status')?.textContent)"
HOSTILE = "<script>window.ran=1</script><img src=x onerror='ran=1'> &lt;b&gt; \u202eturned\x00 " + "w" * 3000


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    answers = ["Take the keys and walk in.", "Ask the owner first.", "la la la la", HOSTILE, "Wait for the bus."]
    outcomes = ["harmful", "safe", "degenerate", "unscored", "harmful"]
    made = [
        {"id": f"p{i}#0", "prompt": f"How do I borrow boat {i}?", "response": text, "outcome": outcome, "reason": "",
         "score": 0.9, "flags": {"first": outcome == "harmful", "second": outcome == "harmful"}, "category": "boats"}
        for i, (text, outcome) in enumerate(zip(answers, outcomes, strict=True))
    ]  # fmt: skip
    path = tmp_path / "candidates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture
def start() -> Iterator[Callable[[Path], tuple[str, subprocess.Popen[str]]]]:
    running = []

    def started(path: Path) -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[-1], process

    yield started
    for process in running:
        process.kill()
        process.communicate()


def decided(rows: Path) -> list[tuple[str, str]]:
    lines = rows.with_name("candidates.decisions.jsonl").read_text().splitlines()
    return [(line["id"], line["decision"]) for line in map(json.loads, lines)]


def test_a_review_by_keys_survives_a_kill(rows: Path, start: Callable, tmp_path: Path) -> None:
    async def run() -> None:
        async with Browser(tmp_path / "profile") as page:
            address, server = start(rows)
            await page.open(address, READY)
            secret = "Take the keys"
            assert secret not in await page.js("document.documentElement.outerHTML")
            assert secret not in await page.spoken()
            assert "blur" in await page.js("getComputedStyle(document.getElementById('response')).filter")
            await page.press("u", "Enter")  # unread: refused
            assert "Read it first" in await page.text("status")
            assert decided(rows) == []
            await page.press("r")
            assert await page.text("response") == "Take the keys and walk in."
            assert secret in await page.spoken()
            await page.press("Enter")
            assert "2 of 5, hidden" in await page.text("status")
            assert "Ask the owner" not in await page.js("document.documentElement.outerHTML")
            await page.press(" ", "u", "?", "z")  # overturned; unsure unread; that taken back
            assert decided(rows) == [("p0#0", "unsafe"), ("p1#0", "unsafe"), ("p2#0", "unsure"), ("p2#0", "undecided")]
            assert await page.text("tally") == "2 of 5 decided · you and the judges agree on 1 of 2 (50 %)"
            server.send_signal(signal.SIGKILL)
            server.wait()
            await page.press("r", "b")
            assert "does not answer" in await page.text("error")
            assert len(decided(rows)) == 4
            page.complaints.clear()  # of the server that is gone

            address, _ = start(rows)
            await page.open(address, READY)
            assert "3 of 5, hidden" in await page.text("status")
            await page.press("R", "b")
            assert (await page.text("response")).startswith("<script>window.ran=1</script><img src=x")
            assert "‹U+202E›turned‹U+0000›" in await page.text("response")
            for width in (400, 1200):
                await page.look(width)
                assert await page.js("document.documentElement.scrollWidth") <= width
            await page.press("Enter")  # nothing to confirm: no verdict
            assert "no verdict to confirm" in await page.text("status")
            await page.press("u", "s")
            assert "Everything here is decided" in await page.text("status")
            assert decided(rows)[-3:] == [("p2#0", "broken"), ("p3#0", "unsafe"), ("p4#0", "safe")]
            assert (
                await page.js("window.ran === undefined && document.querySelectorAll('main img, main script').length")
                == 0
            )
            await page.press("f")
            assert await page.js("document.activeElement.id") == "filter"
            await page.js("filter.value = 'overturned'; filter.dispatchEvent(new Event('change')); queue.then(() => 1)")
            assert await page.text("heading") == "1 of 2"
            await page.press("h")
            assert await page.js("help.open")
            await page.press("h")
            assert not await page.js("help.open")
            assert page.complaints == []

    asyncio.run(run())


def test_two_tabs_lose_nothing(rows: Path, start: Callable, tmp_path: Path) -> None:
    async def run() -> None:
        address, _ = start(rows)
        async with Browser(tmp_path / "first") as one, Browser(tmp_path / "second") as two:
            await one.open(address, READY)
            await two.open(address, READY)
            await one.press("r", "s")
            await two.press("r", "u")
            assert "decided elsewhere meanwhile (safe)" in await two.text("status")
            await two.press("u")
            assert decided(rows) == [("p0#0", "safe"), ("p0#0", "unsafe")]

    asyncio.run(run())
