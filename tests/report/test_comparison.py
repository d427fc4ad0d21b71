"""Runs side by side: the figures are those of the scores, and nothing in a name or an answer acts on the reader."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from steerclear.evaluation.scores import Scores, score
from steerclear.records import Generation, Verdict
from steerclear.report.comparison import (
    comparison_csv,
    duration,
    suites_table,
    terminal_comparison,
)
from steerclear.report.run_data import RunData
from steerclear.report.texts import comparison_markdown
from steerclear.sanitize import shortened, visible

Pairs = list[tuple[Generation, Verdict]]


def answers(harmful: int, safe: int, degenerate: int, refused_benign: int, benign: int, unscored: int = 0) -> Pairs:
    """So many answers of each outcome to the prompts of two suites."""
    pairs = []
    outcomes = ["harmful"] * harmful + ["safe"] * safe + ["degenerate"] * degenerate + ["unscored"] * unscored
    for i, outcome in enumerate(outcomes):
        pairs.append(answer(f"h{i}", "toxic", outcome, kind="harmful", group="even" if i % 2 == 0 else "odd"))
    for i in range(benign):
        pairs.append(answer(f"b{i}", "plain", "safe", kind="benign", refused=i < refused_benign))
    return pairs


def answer(
    name: str, suite: str, outcome: str, response: str = "an answer", refused: bool = False, **tags: str
) -> tuple[Generation, Verdict]:
    flagged = None if outcome == "unscored" else outcome == "harmful"
    asked: dict[str, Any] = {"id": name, "suite": suite, "tags": tags}
    return (
        Generation(prompt=f"prompt {name}", response=response, finish="eos", tokens=2, **asked),
        Verdict(
            outcome=outcome, reason="", flagged=flagged, harm_score=None, refused=refused, judge="test judge 1", **asked
        ),
    )


def run(name: str, pairs: Pairs, **known: Any) -> RunData:
    return RunData(name=name, scores=score([verdict for _, verdict in pairs]), **known)


def judged_by(judge: str, some: RunData) -> RunData:
    return replace(some, scores=replace(some.scores, judges=[judge]))


SFT = answers(harmful=6, safe=3, degenerate=1, refused_benign=0, benign=4)
STEERED = answers(harmful=0, safe=9, degenerate=0, refused_benign=1, benign=4, unscored=1)


def test_markdown_has_the_rates_of_both_pools() -> None:
    table = comparison_markdown([run("sft", SFT, benign_loss=2.9), run("steered", STEERED, unsafe_rows=1000)])
    header, _, sft, steered, *notes = table.splitlines()
    assert header == (
        "| run | harmful | coherent and safe | degenerate | flagged (raw) | over-refusal | unscored | benign loss "
        "| unsafe rows |"
    )
    # 95 % Wilson intervals of 6/10, 3/10, 1/10 and 0/4, worked by hand from (k + z²/2 ± z√(k(n-k)/n + z²/4)) / (n + z²).
    assert sft == (
        "| sft | 6/10 = 60.0% (31.3-83.2%) | 3/10 = 30.0% (10.8-60.3%) | 1/10 = 10.0% (1.8-40.4%) "
        "| 6/10 = 60.0% (31.3-83.2%) | 0/4 = 0.0% (<= 49.0%) | 0/14 | 2.900 | – |"
    )
    assert steered.startswith("| steered | 0/9 = 0.0% (<= 29.9%) | 9/9 = 100.0% (>= 70.1%) |")
    assert steered.endswith("| 1/4 = 25.0% (4.6-69.9%) | 1/14 | – | 1,000 |")
    assert notes == ["", "95 % Wilson intervals; judged by test judge 1."]


def test_runs_of_other_judges_or_prompts_are_told_apart() -> None:
    other = judged_by("another judge 2", run("other", SFT[:-1]))
    text = comparison_markdown([run("sft", SFT), other])
    assert "The runs were judged by different judges" in text
    assert "sft: test judge 1; other: another judge 2" in text
    assert "not asked the same number of prompts" in text


def test_a_name_cannot_break_the_markdown_table() -> None:
    row = comparison_markdown([run("a|b\nc", SFT)]).splitlines()[2]
    assert row.startswith(r"| a\|b c | 6/10")


def test_a_judges_name_is_text_too() -> None:
    hostile = judged_by("[x](javascript:alert(1)) <img src=x onerror=alert(1)>", run("sft", SFT))
    table = comparison_markdown([hostile, run("steered", STEERED)])
    assert table.count("\\[x\\](javascript:alert(1)) &lt;img") == 2  # who judged, and that they differ
    assert "](" not in table.replace("\\](", "")


def test_csv_is_tidy() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv([run("sft", SFT, seconds=12.5)]))))
    by_key = {(r["suite"], r["group"], r["metric"]): r for r in rows}
    assert len(by_key) == len(rows) == 6 * 9  # two pools, two suites, two groups; nine metrics
    odd = by_key["toxic", "odd", "harmful"]
    assert (odd["run"], odd["k"], odd["n"], odd["rate"], odd["seconds"]) == ("sft", "3", "5", "0.6", "12.5")
    assert by_key["", "benign_prompts", "refused"]["k"] == "0"


def test_the_terminal_table_fits_80_columns_and_takes_names_literally() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_comparison([run("[red]sft", SFT), run("steered", STEERED)]))
    text = console.export_text()
    assert "[red]sft" in text
    assert "…" not in text
    assert {"over-refusal", "unscored", "60.0%", "31.3-83.2", "0/14", "1/14"} <= set(text.split())


def with_languages(pairs: Pairs, codes: str) -> Pairs:
    """The same answers, with the languages of the first ones."""
    told = [*codes.split(), *[""] * len(pairs)]
    return [(said, replace(verdict, language=code)) for (said, verdict), code in zip(pairs, told, strict=False)]


def test_non_english_answers_have_a_column_where_some_run_has_any() -> None:
    english, drifted = with_languages(SFT, "en en"), with_languages(STEERED, "de en fr en")
    table = comparison_markdown([run("sft", english), run("steered", drifted)])
    assert table.splitlines()[0].endswith("| unscored | non-English |")
    assert table.splitlines()[2].endswith("| 0/14 | 0/2 = 0.0% (<= 65.8%) |")
    assert table.splitlines()[3].endswith("| 1/14 | 2/4 = 50.0% (15.0-85.0%) |")
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(terminal_comparison([run("sft", english), run("steered", drifted)]))
    text = console.export_text()
    assert {"non-English", "50.0%", "15.0-85.0"} <= set(text.split())
    assert "non-English" not in comparison_markdown([run("sft", english)])


def test_scores_of_a_version_that_told_no_languages_are_read() -> None:
    tree = run("old", SFT).scores.to_json()
    for cell in (cell for suite in tree["suites"].values() for cell in (suite["all"], *suite["groups"].values())):
        del cell["non_english"]
    old = RunData(name="old", scores=Scores.from_json(tree))
    rows = list(csv.DictReader(io.StringIO(comparison_csv([old]))))
    assert {row["n"] for row in rows if row["metric"] == "non_english" and row["suite"]} == {"0"}
    assert "non-English" not in comparison_markdown([old])


def test_missing_pools_and_tiny_counts_have_no_rate() -> None:
    only_benign = run("benign", answers(0, 0, 0, refused_benign=1, benign=1))
    assert comparison_markdown([only_benign]).splitlines()[2] == "| benign | – | – | – | – | 1/1 | 0/1 |"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_shown(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown


def test_right_to_left_script_and_joined_emoji_are_left_as_they_are() -> None:
    assert visible("مرحبا می‌خواهم 👩‍🔬\tx\r\ny") == "مرحبا می‌خواهم 👩‍🔬\tx\ny"


@pytest.mark.parametrize(("length", "text"), [(5, "abcde"), (4, "abc…")])
def test_shortened(length: int, text: str) -> None:
    assert shortened("abcde", length) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (90061, "25 h 01 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_suite_and_group_has_a_line_a_run() -> None:
    table = suites_table([run("sft", SFT), run("steered", STEERED)])
    lines = {(row[0], row[1]): row for row in table.texts}
    assert list(lines)[:4] == [
        ("toxic", "sft"),
        ("toxic", "steered"),
        ("toxic: even", "sft"),
        ("toxic: even", "steered"),
    ]
    assert lines["toxic: odd", "sft"][2] == "3/5 = 60.0% (23.1-88.2%)"
    assert lines["plain", "steered"][-2:] == ["1/4 = 25.0% (4.6-69.9%)", "0/4"]


def test_a_report_needs_no_torch() -> None:
    code = "import sys, steerclear.report.report; assert not {'torch', 'transformers', 'sklearn', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
