"""Published figures beside ours."""

from __future__ import annotations

import re

import pytest

from steerclear.errors import DataError
from steerclear.report.beside import BesideCell, BesideTable, beside_latex, beside_markdown, beside_table
from steerclear.stats.rates import Estimate, Rate


def table(**changes: object) -> BesideTable:
    rows = [
        (
            ["llama-7b", "EMD | 1"],
            [BesideCell(published=4, ours=Rate.of(3, 100)), BesideCell(published=None, ours=None)],
        ),
        (
            ["llama-7b", "SFT"],
            [BesideCell(published=55.5, ours=Rate.of(1, 1)), BesideCell(published=2, ours=7.0)],
        ),
    ]
    values = {
        "title": "Table 2", "source": "arXiv 2412.06843", "unit": "count", "columns": ["I-CoNa", "Harmful_Q"], "rows": rows,
        "row_headings": ["model", "method"], "notes": ["100 % of {it}."],
    }  # fmt: skip
    return BesideTable(**(values | changes))


def test_lines_have_both_figures_of_every_cell() -> None:
    shown = beside_table(table())
    first, second = shown.texts
    assert shown.whole_headings == [
        "model",
        "method",
        "I-CoNa, published",
        "I-CoNa, ours",
        "Harmful_Q, published",
        "Harmful_Q, ours",
    ]
    assert first == ["llama-7b", "EMD | 1", "4", "3/100 (1.0-8.5%)", "–", "–"]  # Wilson's interval of 3 in 100, by hand
    assert second == ["llama-7b", "SFT", "55.5", "1/1", "2", "7"]


def test_per_cent_and_values_with_an_interval() -> None:
    cells = [
        BesideCell(published=79.11, ours=Rate.of(3, 100)),
        BesideCell(published=0.3, ours=Estimate(value=0.25, lower=0.1, upper=0.4)),
    ]
    [row] = beside_table(table(unit="%", rows=[(["a", "b"], cells)])).texts
    assert row[2:] == ["79.11", "3.0 (1.0-8.5)", "0.3", "0.25 (0.10-0.40)"]


def test_markdown_keeps_its_columns_whatever_the_names_are() -> None:
    lines = [line for line in beside_markdown(table()).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}


def test_latex_escapes_and_groups_the_columns() -> None:
    text = beside_latex(table())
    assert r"\multicolumn{2}{c}{Harmful\_Q}" in text
    assert r"\cmidrule(lr){3-4}\cmidrule(lr){5-6}" in text
    assert r"100 \% of \{it\}." in text
    assert r"3/100 (1.0-8.5\%)" in text


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="has 1 labels and 0 cells, expected 2 and 2"):
        table(rows=[(["a"], [])])
    with pytest.raises(DataError, match="unit: got 'percent'"):
        table(unit="percent")
