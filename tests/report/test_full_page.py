"""The report's page as a parser sees it: its figures are there, and nothing in a name or an answer can act."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from steerclear.evaluation.curve import Checkpoint
from steerclear.report.beside import BesideCell, BesideTable
from steerclear.report.charts import MOST_POINTS
from steerclear.report.findings import find
from steerclear.report.model_card import model_card
from steerclear.report.page import report_page
from steerclear.report.run_data import RunData, Unfinished
from steerclear.stats.rates import Rate

MakeRun = Callable[..., RunData]

HOSTILE = (
    "</script><script>window.ran=1</script><img src=x onerror=window.ran=1>\" onclick=ran=1 ' {{ 7*7 }} ${window.ran=1} "
    "[link](javascript:ran=1) \x1b[31m \x00 \u202eturned \u2028\u2029 \ud800 <!-- <b>bold</b> &lt;i&gt; %{x} $x^2$ "
    + "w"
    * 4000
)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if self.cdata_elem == "script":
            if "id" in attributes:
                self.data[str(attributes["id"])] = self.data.get(str(attributes["id"]), "") + data
            self.scripts[-1] += data
        elif tag != "style":
            self.words += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_the_page_has_the_figures_and_every_section(make_run: MakeRun) -> None:
    sft = make_run("sft", "hhhhd", "sss", unsafe_rows=0)
    log = [{"step": step, "loss": 1 / step, "penalty": -0.1} for step in range(1, 1001)] + [
        {"step": 1000, "train_runtime": 9}
    ]
    points = [Checkpoint(step=step, path="adapter", scores=sft.scores) for step in (0, 10, 20)]
    emd = make_run(
        "emd",
        "sssss",
        "sss",
        unsafe_rows=20,
        points=points,
        picked=10,
        log=log,
        settings={"training.seed": "1"},
    )
    cell = BesideCell(published=4, ours=Rate(k=3, n=100, rate=0.03, lower=0.01, upper=0.08))
    beside = BesideTable(
        title="Table 2", source="arXiv 2412.06843", unit="count", columns=["HarmfulQ"], row_headings=["method"],
        rows=[(["EMD"], [cell])], notes=["a note"],
    )  # fmt: skip
    findings = find("title", [sft, emd], unfinished=[Unfinished("nlcl", "failed: no judge")], beside=[beside])
    page = Page(report_page(findings))
    assert "nlcl: failed: no judge" in page.words
    assert findings.headline.sentence in page.words
    assert all(text in page.words for text in ("Table 2", "3/100 (1.0-8.0%)", "a note"))
    data = json.loads(page.data["data"])
    assert data["plane"][1]["points"] == [
        {"step": step, "harmful": shown(Rate.of(4, 5)), "refused": shown(Rate.of(0, 3)), "chosen": step == 10}
        for step in (0, 10, 20)
    ]
    assert data["plane"][0]["points"][0]["step"] is None
    assert data["curves"]["runs"][0]["steps"] == [0, 10, 20]
    loss = data["losses"]["runs"][0]["loss"]
    assert len(loss) <= MOST_POINTS
    assert loss[-1] == [1000, 0.001]
    assert list(data["losses"]["terms"]) == ["loss", "penalty"]
    assert (data["baseline"], data["best"]) == (0, 1)
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"rates", "trade-off", "steps", "benchmarks", "judges", "published", "answers", "made-by"} <= ids
    links = {str(attributes["href"]) for attributes in page.tags("a")}
    assert all(link[1:] in ids for link in links)


def test_numbers_that_are_none_break_no_page(make_run: MakeRun) -> None:
    nan, infinite = float("nan"), float("inf")
    log = [{"step": step, "loss": value, "penalty": nan} for step, value in enumerate((2.0, nan, infinite, 1.0, "nan"))]
    page = Page(report_page(find("t", [make_run("a", "hs", "ss", log=log)])))
    assert json.loads(page.data["data"])["losses"]["runs"] == [{"run": 0, "loss": [[0, 2.0], [3, 1.0]]}]
    assert "The training of a diverged: its penalty was no finite number at step 0." in page.words


def test_a_guards_run_ends_where_its_weights_are_from(make_run: MakeRun) -> None:
    scores = make_run("a", "hs", "ss").scores
    points = [Checkpoint(step=step, path="adapter", scores=scores) for step in (0, 10, 20)]
    page = Page(report_page(find("t", [make_run("a", "hs", "ss", points=points, end=10)])))
    [run] = json.loads(page.data["data"])["plane"]
    assert [point["step"] for point in run["points"] if point["chosen"]] == [10]


def test_a_card_says_steered_of_a_steered_run_alone(make_run: MakeRun) -> None:
    steered = model_card(make_run("a", "hs", unsafe_rows=20), library="peft")
    assert "steered away from unsafe answers" in steered
    plain = {"training.penalty_weight": "0.0"}
    for run in (
        make_run("a", "hs", unsafe_rows=0), make_run("a", "hs", unsafe_rows=20, settings=plain),
    ):  # fmt: skip
        card = model_card(run, library="peft")
        assert "fine-tuned on benign instructions\nwith steerclear." in card
        assert "teer" not in card.partition("---\n\n")[2].replace("steerclear", "")


def shown(rate: Rate) -> list[float]:
    return [round(float(value), 5) for value in (rate.rate, rate.lower, rate.upper) if value is not None]


def test_answers_are_packed_by_prompt_and_hidden_where_they_must_be(make_run: MakeRun) -> None:
    page = Page(report_page(find("t", [make_run("a", "hsu", "s"), make_run("b", "dS")])))
    about = json.loads(page.data["data"])["answers"]
    prompts, first, second = (unpacked(page.data[name]) for name in ("prompts", "answers-0", "answers-1"))
    assert [prompt[4] for prompt in prompts] == ["prompt toxic 0", "prompt toxic 1", "prompt toxic 2", "prompt plain 0"]
    assert [prompt[3] for prompt in prompts] == [1, 1, 1, 0]
    assert [about["suites"][prompt[0]] for prompt in prompts] == ["toxic"] * 3 + ["plain"]
    assert [about["outcomes"][entry[1]] for entry in first] == ["harmful", "safe", "unscored", "safe"]
    assert [entry[4] for entry in first] == [1, 0, 1, 0]
    assert second[2:] == [0, 0]
    assert about["reasons"][second[0][2]] == "repetitive"
    assert [entry[3] for entry in second[:2]] == [0, 1]


def test_nothing_hostile_becomes_an_element_a_script_or_a_request(make_run: MakeRun) -> None:
    def hostile(text: str) -> str:
        return f"{text} {HOSTILE}"

    runs = [
        make_run(
            f"{name} {HOSTILE}", "hs", "s", text=hostile, groups={HOSTILE: "hs"}, labels={HOSTILE: HOSTILE + name},
            settings={HOSTILE: HOSTILE + name}, unsafe_rows=rows,
        )
        for name, rows in (("a", 0), ("b", 9))
    ]  # fmt: skip
    html = report_page(find(HOSTILE, runs, unfinished=[Unfinished(HOSTILE, HOSTILE)]))
    html.encode()  # no lone surrogate is left
    page, plain = Page(html), Page(report_page(find("t", [make_run("a", "hs", "s"), make_run("b", "hs", "s")])))
    assert page.tags("img") == []
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert len(page.tags("script")) == len(plain.tags("script"))
    assert "49" not in page.words.split()
    for text in (page.words, *(json.dumps(unpacked(page.data[name])) for name in ("prompts", "answers-0"))):
        assert not set("\x00\x1b\u202e\u2028\u2029") & set(text)
    assert "‹U+202E›turned ‹U+2028›‹U+2029› ‹U+D800›" in page.words
    assert "window.ran=1" in unpacked(page.data["answers-0"])[0][0]
    card = model_card(runs[0], library="peft")
    assert "<img" not in card.partition("\n---\n")[2]
    assert "](" not in card.partition("\n---\n")[2].replace("\\](", "")


def test_only_the_pages_own_scripts_may_run(make_run: MakeRun) -> None:
    page = Page(report_page(find("t", [make_run("a", "hs", "ss")])))
    policy = next(str(meta["content"]) for meta in page.tags("meta") if "http-equiv" in meta)
    running = [text for tag, text in zip(page.tags("script"), page.scripts, strict=True) if "type" not in tag]
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert not any(key in attributes for _, attributes in page.elements for key in ("src", "srcset", "action"))


def test_a_single_run_and_one_without_a_judge_have_a_page(make_run: MakeRun) -> None:
    for run in (make_run("a", "hs", "ss"), make_run("a", "uu"), make_run("a", "", "ss")):
        page = Page(report_page(find("t", [run])))
        assert "Not shown: it needs at least two scored" in page.words or json.loads(page.data["data"])["plane"]


def test_a_report_imports_no_torch() -> None:
    script = "import sys, steerclear.report.report; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
