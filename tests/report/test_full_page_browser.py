"""The report's page in a real browser: charts, filters, revealing, themes, hostile texts, and not one request."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from test_full_page import HOSTILE

from chromium import PROGRAM, Browser
from steerclear.report.report import report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium, which is not on this machine")

ROOT = Path(__file__).resolve().parents[2]
READY = "document.documentElement.dataset.ready"
SHOW_CHARTS = """(async () => {
  for (const id of ["plane", "curves", "losses", "efficiency"]) {
    at(id).scrollIntoView();
    while (!at(id).querySelector(".main-svg .xtick")) await new Promise((done) => setTimeout(done, 30));
  }
  scrollTo(0, 0);
})()"""
"""Scrolls to every chart, and waits until it is drawn."""


@pytest.fixture
def page_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page about a small sweep, two of whose cells have hostile names and answers."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    made: Any = importlib.import_module("report_folders")
    sweep = made.make_sweep(tmp_path / "sweep", made.Size(runs=6, prompts=60, words=12, steps=1))
    for number, cell in enumerate(json.loads((sweep / "sweep.json").read_text())["cells"][:2]):
        folder = sweep / "cells" / cell
        about = json.loads((folder / "cell.json").read_text())
        (folder / "cell.json").write_text(json.dumps(about | {"name": f"{number} {HOSTILE}"}))
        file = folder / "generations" / "xstest.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        changed = [line | {"response": HOSTILE, "prompt": f"{line['prompt']} {HOSTILE}"} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in changed))
    return report([sweep], tmp_path / "report.html", print, title=HOSTILE)


async def choose(page: Browser, name: str, value: object) -> None:
    """Choose an option of the answers' filters, and wait for the list."""
    kind = "checked" if isinstance(value, bool) else "value"
    await page.js(f"field({json.dumps(name)}).{kind} = {json.dumps(value)}; filter().then(() => true)")


async def listed(page: Browser) -> int:
    return int((await page.text("found")).split()[0])


def test_the_page_in_a_browser(page_file: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with Browser(tmp_path / "profile") as page:
            await page.look(1200)
            await page.open(page_file.as_uri(), READY)
            await charts_are_drawn(page)
            await answers_can_be_searched(page)
            await hidden_texts_are_shown_when_asked_for(page)
            for width, scheme in ((390, "dark"), (820, "light"), (1440, "dark")):
                await page.look(width, scheme=scheme)
                await page.until(f"document.documentElement.scrollWidth <= {width}")
            await nothing_hostile_acts(page)
            assert [address for address in page.requests if not address.startswith(("file:", "data:", "blob:"))] == []
            assert page.complaints == []

    asyncio.run(run())


async def charts_are_drawn(page: Browser) -> None:
    await page.js(SHOW_CHARTS)
    lines = "at('plane').querySelectorAll('.scatterlayer .trace').length"
    assert await page.js(lines) == 2 * 6  # a path and a mark a run
    await page.js("at('plane').querySelector('.legend button').click()")
    await page.until(f"{lines} === 10")
    # All charts leave the run out, and their buttons say so.
    pressed = (
        "[...document.querySelectorAll('.legend button[data-run=\"0\"]')].map((b) => b.getAttribute('aria-pressed'))"
    )
    assert set(await page.js(pressed)) == {"false"}
    await page.js("at('plane').querySelector('.legend button').click()")
    # A long name does not cut the figures off that stand after it.
    assert await page.js(
        "CHARTS.efficiency(0, []).traces.every((t) => t.text.every((own) => own.endsWith(' flagged')))"
    )
    await page.js(
        "(rate => { rate.value = 4; rate.dispatchEvent(new Event('change')) })(at('curves').querySelector('select'))"
    )
    await page.until("at('curves').querySelector('.ytitle').textContent === 'over-refusal, %'")
    ink = "getComputedStyle(at('plane').querySelector('.xtick text')).fill"
    light = await page.js(ink)
    await page.js("at('theme').click()")
    await page.until(f"{ink} !== {json.dumps(light)}")
    assert await page.js("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    await page.js("at('theme').click()")
    await page.until(f"{ink} === {json.dumps(light)}")


async def answers_can_be_searched(page: Browser) -> None:
    whole = await listed(page)
    assert whole > 60  # the hostile prompts are other prompts
    assert await page.js("document.querySelectorAll('.case').length") == 10
    await page.js("at('after').click()")
    assert (await page.text("place")).startswith("11–20 of")
    await choose(page, "first", 4)
    await choose(page, "second", 5)
    assert await listed(page) == 60
    # A slow run that was chosen first does not come after the one that was chosen last.
    assert (
        await page.js("""(async () => {
          const late = await unpacked("answers-3");
          unpackedTexts.set("answers-3", new Promise((done) => setTimeout(() => done(late), 300)));
          field("first").value = 3;
          const slow = filter();
          field("first").value = 4;
          await Promise.all([filter(), slow]);
          return pair[0].run;
        })()""")
        == 4
    )
    await page.js("data.best = data.baseline")
    assert await page.js("otherRun() !== data.baseline")
    await choose(page, "differ", True)
    differing = await listed(page)
    assert 0 < differing < 60
    words = "[...document.querySelectorAll('.case')].map((c) => [...c.querySelectorAll('.outcome')].map((o) => o.className))"
    assert all(first != second for first, second in await page.js(words))
    await choose(page, "differ", False)
    await choose(page, "verdict", "harmful")
    assert 0 < await listed(page) < 60
    await choose(page, "verdict", "")
    suite = await page.js("data.answers.suites.indexOf('xstest')")
    await choose(page, "suite", str(suite))
    assert await listed(page) == 24
    await choose(page, "suite", "")
    await choose(page, "words", "nowhere is this word")
    assert await listed(page) == 0
    await choose(page, "words", "")


async def hidden_texts_are_shown_when_asked_for(page: Browser) -> None:
    assert await page.js("document.querySelectorAll('.prompt .veil').length") > 0
    prompt = str(await page.js("prompts[matching[0]][4]"))
    assert prompt not in await page.js("document.documentElement.outerHTML")
    assert prompt not in await page.spoken()
    await page.js("document.querySelector('.prompt .veil button').click()")
    assert await page.js("document.querySelector('.prompt .text').textContent") == prompt
    veils = int(await page.js("document.querySelectorAll('.veil').length"))
    await page.js("at('reveal-all').click()")
    assert await page.js("at('sure').open")
    await page.js("at('sure').querySelector('[value=no]').click()")
    await page.until("!at('sure').open")
    assert await page.js("document.querySelectorAll('.veil').length") == veils
    await page.js("at('reveal-all').click(); at('sure-yes').click()")
    await page.until("document.querySelectorAll('.veil').length === 0")


async def nothing_hostile_acts(page: Browser) -> None:
    await choose(page, "first", 0)
    await choose(page, "second", 1)
    await choose(page, "suite", str(await page.js("data.answers.suites.indexOf('xstest')")))
    assert "</script><script>window.ran=1</script><img src=x" in await page.js("at('list').textContent")
    await page.js(SHOW_CHARTS)
    point = "at('plane').querySelector('.scatterlayer .trace:last-child .point').getBoundingClientRect()"
    await page.js("at('plane').scrollIntoView()")
    x, y = await page.js(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({point})")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert await page.js("window.ran") is None
    assert await page.js("document.querySelectorAll('img, iframe, object, a:not([href^=\"#\"])').length") == 0
    assert await page.js("document.scripts.length") == await page.js("data.runs.length + 4")
    assert await page.js("document.documentElement.scrollWidth") <= 1440
