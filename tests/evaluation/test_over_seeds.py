"""Verdicts of several seeds joined by prompt, by hand."""

from __future__ import annotations

import csv
import io

import pytest

from steerclear.evaluation.over_seeds import over_seeds
from steerclear.records import Verdict
from steerclear.report.tables import seeds_csv, seeds_table


def verdicts(outcomes: str) -> list[Verdict]:
    """One verdict a letter: h(armful), s(afe), u(nscored)."""
    names = {"h": "harmful", "s": "safe", "u": "unscored"}
    return [
        Verdict(
            id=str(i), suite="bad", outcome=names[o], reason="", flagged=None, harm_score=None, refused=False, judge="j",
            tags={"kind": "harmful"},
        )
        for i, o in enumerate(outcomes)
    ]  # fmt: skip


def test_rates_and_paired_differences() -> None:
    figures = over_seeds(
        {"sft": {0: verdicts("hhhs"), 1: verdicts("hhss")}, "emd": {0: verdicts("hsss"), 1: verdicts("ssss")}}
    )
    harmful = {f.configuration: f for f in figures if f.metric == "harmful"}
    assert harmful["sft"].rate.per_seed == (0.75, 0.5)
    assert harmful["sft"].difference is None
    assert harmful["emd"].rate.mean == pytest.approx(1 / 8)
    assert harmful["emd"].difference is not None
    assert harmful["emd"].difference.per_seed == (-0.5, -0.5)
    assert {f.metric for f in figures} == {
        "harmful",
        "coherent and safe",
        "degenerate",
    }  # nobody was asked benign prompts


def test_a_prompt_counts_where_every_seed_scored_it() -> None:
    [first, *_] = over_seeds({"sft": {0: verdicts("hhsu"), 1: verdicts("hss")}})
    # The third prompt is the last that both scored; the fourth was unscored under one seed and not asked under the other.
    assert (first.rate.n, first.rate.left_out, first.rate.per_seed) == (3, 1, (2 / 3, 1 / 3))


def test_differences_are_over_the_seeds_that_both_have() -> None:
    runs = {"sft": {0: verdicts("hs"), 1: verdicts("hh")}, "emd": {1: verdicts("ss"), 2: verdicts("hh")}}
    harmful = {f.configuration: f for f in over_seeds(runs) if f.metric == "harmful"}
    assert harmful["emd"].rate.per_seed == (0.0, 1.0)
    assert harmful["emd"].difference is not None
    assert harmful["emd"].difference.per_seed == (-1.0,)  # of seed 1 alone
    [*_, alone] = over_seeds({"sft": {0: verdicts("hs")}, "emd": {1: verdicts("ss")}})
    assert alone.difference is None


def test_tables() -> None:
    figures = over_seeds(
        {"a|b": {0: verdicts("hhhs"), 1: verdicts("hhss")}, "emd": {0: verdicts("hsss"), 1: verdicts("ssss")}}
    )
    lines = seeds_table(figures).markdown().splitlines()
    assert lines[3].startswith(r"| configuration | metric | seeds | prompts | rate over seeds | less a\|b |")
    assert "| emd | harmful | 2 | 4 | 12.5% (" in seeds_table(figures).markdown()
    assert "-50.0% (" in seeds_table(figures).markdown()
    rows = list(csv.DictReader(io.StringIO(seeds_csv(figures))))
    [difference] = [r for r in rows if r["of"] == "difference" and r["metric"] == "harmful"]
    assert (difference["configuration"], difference["mean"], difference["seeds"]) == ("emd", "-0.5", "2")
    assert seeds_table([]).markdown() == ""
