"""The paper's numbers: shapes, sums worked by hand from the paper's pages, and rows as it prints them."""

from __future__ import annotations

from typing import Any

import pytest

from steerclear.errors import ConfigError
from steerclear.experiments.published import published_table, published_tables

MODELS = ["llama-7b", "llama-13b", "mistral-7b", "llama-3.1-8b"]
ROWS = [1000, 500, 300, 100]
SAFETY = ["I-Malicious", "I-CoNa", "I-Controversial", "HarmfulQ"]


def numbers(table: str, **where: Any) -> list[float]:
    found = published_table(table).values
    return [v.value for v in found if all(getattr(v, name) == wanted for name, wanted in where.items())]


@pytest.mark.parametrize(
    ("table", "unit", "models", "methods", "benchmarks", "rows"),
    [
        ("table1", "%", MODELS, ["sft", "kto", "nlcl", "emd"], ["BoolQ", "AlpacaEval"], [None]),
        ("table2", "count", MODELS[:2], ["nlcl", "emd"], SAFETY, ROWS),
        ("table3", "count", MODELS[:2], ["stl", "emd"], SAFETY, ROWS),
        ("table4", "weight", MODELS, ["emd", "nlcl"], [""], ROWS),
        ("table5", "%", MODELS, ["sft", "kto", "nlcl", "emd"], ["PIQA", "OpenBookQA"], [None]),
        ("table6", "count", MODELS[2:], ["nlcl", "emd"], SAFETY, ROWS),
        ("table7", "count", MODELS[2:], ["stl", "emd"], SAFETY, ROWS),
        ("attack", "%", [""], ["emd", "stl"], ["ASR", "mean judge score"], ROWS),
    ],
)
def test_tables_have_one_number_for_each_combination(
    table: str, unit: str, models: list[str], methods: list[str], benchmarks: list[str], rows: list[int | None]
) -> None:
    found = published_table(table)
    assert found.unit == unit
    names = ("model", "method", "benchmark", "unsafe_rows")
    assert [found.names(name) for name in names] == [models, methods, benchmarks, rows]
    combinations = [tuple(getattr(value, name) for name in names) for value in found.values]
    assert len(combinations) == len(set(combinations)) == len(models) * len(methods) * len(benchmarks) * len(rows)
    assert set(found.rows + found.columns) == {name for name in names if found.names(name) not in ([""], [None])}


def test_counts_add_up_as_by_hand() -> None:
    """Sums over the four benchmarks, from the printed rows: 6 + 42 + 3 + 4, 5, 10 + 40 + 8 + 16, ..."""
    sums = {
        (table, model, method): [int(sum(numbers(table, model=model, method=method, unsafe_rows=n))) for n in ROWS]
        for table, model, method in [
            ("table2", "llama-7b", "nlcl"),
            ("table2", "llama-7b", "emd"),
            ("table2", "llama-13b", "nlcl"),
            ("table3", "llama-7b", "stl"),
            ("table6", "mistral-7b", "nlcl"),
            ("table6", "llama-3.1-8b", "emd"),
            ("table7", "llama-3.1-8b", "stl"),
        ]
    }
    assert list(sums.values()) == [
        [0, 13, 12, 55],
        [0, 1, 4, 5],
        [2, 2, 1, 74],
        [14, 27, 50, 80],
        [0, 2, 9, 62],
        [4, 9, 8, 10],
        [1, 9, 27, 88],
    ]


def test_no_count_is_above_the_number_of_prompts() -> None:
    prompts = dict(zip(SAFETY, (100, 178, 40, 200), strict=True))
    for table in ("table2", "table3", "table6", "table7"):
        assert all(v.value <= prompts[v.benchmark] and v.value.is_integer() for v in published_table(table).values)


def test_emd_is_the_same_run_in_the_tables_beside_nlcl_and_beside_stl() -> None:
    for beside_nlcl, beside_stl in (("table2", "table3"), ("table6", "table7")):
        assert numbers(beside_nlcl, method="emd") == numbers(beside_stl, method="emd")


def test_rows_are_as_printed() -> None:
    assert numbers("table1", model="mistral-7b") == [84.34, 84.37, 84.92, 84.31, 69.81, 64.85, 70.42, 71.06]
    assert numbers("table4", method="emd", unsafe_rows=300) == [4.00, 2.20, 1.05, 1.30]
    assert numbers("table4", method="nlcl", unsafe_rows=100) == [20, 55, 25, 16]
    assert numbers("table5", model="llama-3.1-8b") == [80.32, 80.96, 80.14, 80.41, 35, 37, 35.2, 35.2]
    assert numbers("table6", model="mistral-7b", unsafe_rows=100) == [3, 0, 53, 4, 2, 0, 4, 1]
    assert numbers("attack", method="stl") == [60.00, 8.91, 63.04, 8.71, 73.33, 9.33, 69.57, 9.07]


def test_the_likely_misprint_is_kept_and_told() -> None:
    doubtful = [value for table in published_tables().values() for value in table.values if value.note]
    [value] = doubtful
    assert (value.model, value.method, value.benchmark, value.value) == ("llama-7b", "kto", "PIQA", 89.11)
    assert "misprint" in value.note
    others = numbers("table5", model="llama-7b", benchmark="PIQA")
    assert max(number for number in others if number != value.value) < 80


def test_figures_have_claims_and_no_numbers() -> None:
    figures = {id: table for id, table in published_tables().items() if id.startswith("figure")}
    assert list(figures) == [f"figure{number}" for number in (2, 3, 5, 6, 7, 8, 9, 10)]
    assert all(table.notes and not table.values and not table.unit for table in figures.values())
    assert any("approximately 0.3" in note for note in figures["figure2"].notes)
    assert any("after 500 steps" in note for note in figures["figure2"].notes)
    assert figures["figure2"].source == "ICLR 2025, arXiv 2412.06843, Figure 2 (section 4.3.1)"
    assert published_table("attack").source == "ICLR 2025, arXiv 2412.06843, the attack table (section A)"


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"table: got 'tabel2', allowed: table1, .*Did you mean 'table2'\?"):
        published_table("tabel2")
