"""One table in every form: the same cells in each, and nothing in a name that breaks a table or acts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from steerclear.stats.rates import Rate
from steerclear.table import Table, latex_text, markdown_text

HOSTILE = "a|b\n[x](javascript:y) <img src=x> `c` \\input{d} $e$ \x1b[31m\u202e [red]f"
TABLE = Table(
    ["model", "method", "published", "ours"],
    [[HOSTILE, "emd", 4, Rate.of(3, 100)], ["tiny", "nlcl", None, None]],
    names=2,
    about="What | there is:",
    groups=[("HarmfulQ", 2)],
    bold=[1],
)


def test_markdown() -> None:
    _, about, _, headings, rule, first, second = TABLE.markdown().splitlines()
    assert about == r"What \| there is:"
    assert headings == "| model | method | HarmfulQ, published | HarmfulQ, ours |"
    assert rule == "| --- | --- | ---: | ---: |"
    assert second == "| **tiny** | nlcl | – | – |"
    assert first.endswith("| emd | 4 | 3/100 = 3.0% (1.0-8.5%) |")
    assert len(re.findall(r"(?<!\\)\|", first)) == 5
    assert "](" not in first.replace("\\](", "")
    assert "<img" not in first
    assert "‹U+001B›\\[31m‹U+202E›" in first


def test_csv_has_the_cells_as_they_are() -> None:
    headings, first, second = csv.reader(io.StringIO(TABLE.csv()))
    assert headings == ["model", "method", "HarmfulQ, published", "HarmfulQ, ours"]
    assert second == ["tiny", "nlcl", "", ""]
    assert first[0] == HOSTILE.replace("\x1b", "‹U+001B›").replace("\u202e", "‹U+202E›")


def test_latex_spans_the_groups_and_runs_no_command() -> None:
    latex = TABLE.latex("A caption of 100 %.")
    assert r" &  & \multicolumn{2}{c}{HarmfulQ} \\" in latex
    assert r"\cmidrule(lr){3-4}" in latex
    assert r"\begin{tabular}{llrr}" in latex
    assert r"\caption{A caption of 100 \%.}" in latex
    assert r"\textbackslash{}input\{d\}" in latex
    assert {line.count(" & ") for line in latex.splitlines() if " & " in line} == {2, 3}


def test_the_terminal_takes_names_literally_and_breaks_no_figure() -> None:
    console = Console(width=50, record=True, file=io.StringIO())
    console.print(TABLE.rich("[bold]title", "caption"))
    text = console.export_text()
    assert "[bold]title" in text
    assert "[red]f" in text
    assert "(1.0-8.5%)" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_columns_are_left_out_and_turned() -> None:
    table = Table(["run", "a", "b"], [["x", 1, 2], ["y", 3, None]], about="of it")
    fewer = table.without("a", "no such")
    assert (fewer.headings, fewer.texts, fewer.about) == (["run", "b"], [["x", "2"], ["y", "–"]], "of it")
    turned = table.turned("measure")
    assert (turned.headings, turned.texts) == (["measure", "x", "y"], [["a", "1", "3"], ["b", "2", "–"]])


def test_without_rows_there_is_nothing() -> None:
    assert not Table(["run"], [])
    assert Table(["run"], [], about="of it").markdown() == ""


@pytest.mark.parametrize("escaped", [markdown_text, latex_text])
def test_plain_words_stay_as_they_are(escaped: Callable[[str], str]) -> None:
    assert escaped("sft, seed 3 (picked)") == "sft, seed 3 (picked)"
