"""The demo from end to end, made short: its files, its page, and what happens when it is run again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from steerclear.demo.page import cell_text, page, percent
from steerclear.demo.run import DemoOptions, DemoResult, run_demo
from steerclear.demo.scores import COLUMNS
from steerclear.errors import ConfigError
from steerclear.generation.weights import load_base
from steerclear.records import Generation, Verdict, read_records

METHODS = ("sft", "emd_bound", "nlcl", "unlikelihood", "first_token", "recovered")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> DemoOptions:
    folder = tmp_path_factory.mktemp("demo")
    return DemoOptions(output=str(folder / "out"), cache=str(folder / "cache"), documents=640, steps=2, methods=METHODS)


@pytest.fixture(scope="module")
def result(options: DemoOptions) -> DemoResult:
    return run_demo(options)


def test_the_files_hold_every_answer_and_verdict(options: DemoOptions, result: DemoResult) -> None:
    output = Path(options.output)
    assert json.loads((output / "scores.json").read_text(encoding="utf-8")) == result.scores
    for name in ("base", *METHODS):
        answers = read_records(output / "generations" / f"{name}.jsonl", Generation)
        verdicts = read_records(output / "verdicts" / f"{name}.jsonl", Verdict)
        assert [a.id for a in answers] == [v.id for v in verdicts]
        assert len(answers) == 60 + 80 + 40


def test_the_rates_are_counted_from_the_verdicts(options: DemoOptions, result: DemoResult) -> None:
    for method in result.scores["methods"]:
        verdicts = read_records(Path(options.output) / "verdicts" / f"{method['name']}.jsonl", Verdict)
        harmful = [v for v in verdicts if v.suite == "harmful"]
        rates = method["rates"]
        assert rates["degenerate"]["k"] == sum(v.outcome == "degenerate" for v in harmful)
        assert sum(rates[name]["k"] for name in ("harmful", "safe", "degenerate")) == 80
        assert {name: rate["n"] for name, rate in rates.items()} == {
            "harmful": 80, "safe": 80, "degenerate": 80, "benign_right": 60, "lookalike_right": 40, "over_refusal": 40,
        }  # fmt: skip
        assert [example["kind"] for example in method["examples"]] == ["harmful", "benign", "lookalike"]


def test_fine_tuning_changes_the_query_and_value_projections_only(options: DemoOptions, result: DemoResult) -> None:
    base = load_base(str(next(Path(str(options.cache)).iterdir())), torch.float32).state_dict()
    tuned = load_base(str(result.page.parent / "models" / "first_token"), torch.float32).state_dict()
    changed = {name.split(".")[-2] for name in base if not torch.equal(base[name], tuned[name])}
    assert changed == {"q_proj", "v_proj"}


def test_running_again_does_nothing_again_and_a_lost_stage_is_made_the_same(
    options: DemoOptions, result: DemoResult
) -> None:
    output = Path(options.output)
    answers = (output / "generations" / "nlcl.jsonl").read_bytes()
    kept = output / "models" / "sft" / "model.safetensors"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(output / "models" / "nlcl")
    for path in (output / "generations").glob("nlcl.jsonl*"):
        path.unlink()
    again = run_demo(options)
    assert kept.stat().st_mtime_ns == before
    assert (output / "generations" / "nlcl.jsonl").read_bytes() == answers
    assert [m["rates"] for m in again.scores["methods"]] == [m["rates"] for m in result.scores["methods"]]


@pytest.mark.usefixtures("result")
def test_a_folder_with_another_demo_is_refused(options: DemoOptions) -> None:
    with pytest.raises(ConfigError, match=r"holds a demo with other options \(unsafe_rows\)\. Choose another folder"):
        run_demo(replace(options, unsafe_rows=21))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": ("emd_bond",)}, "methods: got 'emd_bond', allowed: sft, emd_bound"),
        ({"methods": ()}, "methods: got [], expected at least one name, each once."),
        ({"methods": ("sft", "sft")}, "expected at least one name, each once."),
        ({"unsafe_rows": 0}, "unsafe_rows: got 0, allowed: 1 or more."),
        ({"steps": 0}, "steps: got 0, allowed: 1 or more."),
        ({"refusal_share": 1.5}, "refusal_share: got 1.5, allowed: 0 to 1."),
    ],
)
def test_wrong_options_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        DemoOptions(**changed)  # type: ignore[arg-type]


class _Page(HTMLParser):
    """Collects what a page would load or run, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_shows_every_method_and_column(result: DemoResult) -> None:
    parsed = _Page()
    parsed.feed(result.page.read_text(encoding="utf-8"))
    assert parsed.links == []
    assert not parsed.tags & {"script", "link", "img", "iframe"}
    for method in result.scores["methods"]:
        assert parsed.text.count(method["label"]) >= 4  # the table and three examples
    assert all(column.heading in parsed.text for column in COLUMNS.values())


def test_what_a_model_says_cannot_act_on_the_page(result: DemoResult) -> None:
    scores = json.loads(json.dumps(result.scores))
    scores["methods"][0]["examples"][0]["response"] = "<script>alert(1)</script>"
    html = page(scores)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_only_all_is_100_percent_and_only_none_is_0() -> None:
    assert [percent(x) for x in (0.0, 0.004, 0.5, 0.996, 1.0)] == ["0", "<1", "50", ">99", "100"]
    assert cell_text({"k": 3, "n": 80, "rate": 0.0375, "lower": 0.0128, "upper": 0.1045}) == "4 % (1-10)"
