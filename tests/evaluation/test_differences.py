"""Paired tests counted by hand, and Holm's correction."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.evaluation.differences import ALL, differences, overall_differences
from steerclear.records import Verdict
from steerclear.report.tables import differences_csv, differences_table
from steerclear.stats.rates import holm


def verdicts(outcomes: str, suite: str = "bad", group: str | None = None, kind: str = "harmful") -> list[Verdict]:
    """One verdict a letter: h(armful), s(afe), d(egenerate), u(nscored); a capital letter is a refusal."""
    names = {"h": "harmful", "s": "safe", "d": "degenerate", "u": "unscored"}
    tags = {"kind": kind} | ({"group": group} if group else {})
    return [
        Verdict(
            id=str(i), suite=suite, outcome=names[o.lower()], reason="", flagged=None, harm_score=None, refused=o.isupper(),
            judge="j", tags=tags,
        )
        for i, o in enumerate(outcomes)
    ]  # fmt: skip


def test_counts_and_p_values_by_hand() -> None:
    # The run is harmful where the baseline is not once, and the other way round seven times; two agree, one is unscored.
    baseline, run = verdicts("hhhhhhhshsh"), verdicts("ssssssshhsu")
    harmful = {d.metric: d for d in differences({"sft": baseline, "emd": run})}["harmful"]
    assert (harmful.run, harmful.baseline, harmful.benchmark) == ("emd", "sft", "bad")
    assert (harmful.n, harmful.only_run, harmful.only_baseline) == (10, 1, 7)
    assert harmful.difference == pytest.approx(-6 / 10)
    # Two-sided exact: 1 of 8 discordant pairs under a fair coin.
    assert harmful.p == pytest.approx(2 * (comb(8, 0) + comb(8, 1)) / 2**8)
    assert harmful.p_holm == harmful.p


def test_holm_goes_over_the_benchmarks_of_a_metric() -> None:
    runs = {
        name: verdicts(a, group="a") + verdicts(b, suite="other", group="b") + verdicts(c, suite="good", kind="benign")
        for name, (a, b, c) in {"sft": ("hhhhhhhh", "hhhh", "ssss"), "emd": ("ssssssss", "sshh", "SSSS")}.items()
    }
    found = {(d.metric, d.benchmark): d for d in differences(runs)}
    first, second = found["harmful", "bad: a"], found["harmful", "other: b"]
    assert (first.p, second.p) == (pytest.approx(2 / 2**8), pytest.approx(2 / 2**2))
    assert (first.p_holm, second.p_holm) == (pytest.approx(2 * first.p), pytest.approx(second.p))
    # Benign prompts have their own metric, alone in it.
    assert [key for key in found if key[1] == "good"] == [("over-refusal", "good")]
    assert found["over-refusal", "good"].only_run == 4
    assert found["over-refusal", "good"].p_holm == found["over-refusal", "good"].p


def test_over_all_prompts_holm_goes_over_the_runs() -> None:
    texts = {"sft": ("hhhhhh", "hh"), "emd": ("ssssss", "ss"), "nlcl": ("sshhhh", "hh")}
    runs = {name: verdicts(a, group="a") + verdicts(b, suite="other") for name, (a, b) in texts.items()}
    harmful = {d.run: d for d in overall_differences(runs) if d.metric == "harmful"}
    assert [(d.benchmark, d.n, d.only_run, d.only_baseline) for d in harmful.values()] == [
        (ALL, 8, 0, 8),
        (ALL, 8, 0, 2),
    ]
    assert [d.p for d in harmful.values()] == pytest.approx([2 / 2**8, 2 / 2**2])
    assert [d.p_holm for d in harmful.values()] == pytest.approx([2 * 2 / 2**8, 2 / 2**2])
    assert overall_differences({"sft": verdicts("h"), "emd": verdicts("s", suite="another")}) == []


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_p_value_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    corrected = holm(p)
    for i, a in enumerate(p):
        assert a <= corrected[i] <= 1.0
        assert all(corrected[i] <= corrected[j] for j, b in enumerate(p) if a <= b)
    assert min(corrected) == pytest.approx(min(1.0, len(p) * min(p)))


def test_one_prompt_has_no_difference_and_one_run_no_table() -> None:
    assert differences({"sft": verdicts("h")}) == []
    assert differences_table([]).markdown() == ""
    alone = differences({"sft": verdicts("h"), "emd": verdicts("s")})
    assert alone[0].difference is None
    assert "| – |" in differences_table(alone).markdown()


def test_tables_hold_every_test_and_no_markup_of_a_name() -> None:
    found = differences({"sft": verdicts("hhh"), "a|b": verdicts("ssh")})
    rows = list(csv.DictReader(io.StringIO(differences_csv(found))))
    assert [(row["metric"], row["only_baseline"]) for row in rows] == [
        ("harmful", "2"), ("coherent and safe", "0"), ("degenerate", "0"),
    ]  # fmt: skip
    assert r"a\|b" in differences_table(found).markdown()
    assert "-66.7 %" in differences_table(found).markdown()


def test_non_english_answers_are_in_the_table_if_runs_differ_in_them() -> None:
    def told(outcomes: str, codes: str) -> list[Verdict]:
        return [replace(v, language=code) for v, code in zip(verdicts(outcomes), codes.split(","), strict=True)]

    english, drifted = told("ssss", "en,en,en,"), told("ssss", "de,fr,en,en")
    found = {d.metric: d for d in differences({"sft": english, "emd": drifted})}["non-English"]
    assert (found.n, found.only_run, found.only_baseline) == (3, 2, 0)
    for run, shown in ((drifted, True), (english, False)):
        tests = differences({"sft": english, "emd": run})
        assert ("non-English" in differences_table(tests).markdown()) is shown
        assert "non-English" in differences_csv(tests)
