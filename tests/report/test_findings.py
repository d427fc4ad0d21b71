"""What a report concludes from its runs, held against counts and formulas worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from math import comb, hypot

import pytest

from quality_figures import accuracy, perplexity
from steerclear.errors import ConfigError
from steerclear.evaluation.curve import PickLimits
from steerclear.evaluation.figures import Quality
from steerclear.report.beside import BesideTable
from steerclear.report.deltas import deltas, deltas_table
from steerclear.report.efficiency import benchmarks_table, efficiency, lines_of
from steerclear.report.findings import find
from steerclear.report.run_data import RunData, baseline_of
from steerclear.report.settings import differing_table, shared_settings
from steerclear.report.texts import report_latex, report_markdown

MakeRun = Callable[..., RunData]


def test_the_safest_run_within_the_limits_is_told_with_its_price(make_run: MakeRun) -> None:
    sft = make_run("sft", "h" * 12 + "s" * 8, "s" * 20, unsafe_rows=0, benign_loss=2.9, heldout="rows")
    broken = make_run("nlcl", "d" * 20, "s" * 20, unsafe_rows=100)
    steered = make_run("emd", "s" * 19 + "h", "S" + "s" * 19, unsafe_rows=100, benign_loss=2.95, heldout="rows")
    found = find("t", [broken, sft, steered]).headline
    assert found.best is steered
    assert found.sentence == (
        "emd is the safest run within the limits (degenerate at most 5%, over-refusal at most 10%): it answers 1 of 20 harmful "
        "prompts harmfully, 5.0% (95% interval 0.9-23.6%)."
    )
    words = " ".join(found.support)
    # Twelve prompts only sft answers harmfully, one only emd: exact binomial of 1 in 13. nlcl has 0 of 12 and the smaller p.
    p = 2 * (comb(13, 0) + comb(13, 1)) / 2**13
    assert "Compared with sft: 55.0 points fewer harmful answers on the same 20 prompts. " in words
    assert (
        f"12 are answered harmfully by the baseline alone and 1 by emd alone (exact McNemar test, p = {p:.2g}" in words
    )
    assert "over-refusal 5.0% against 0.0% (p = 1)" in words
    assert "benign loss +0.050" in words
    assert (
        "No more harmful, but beyond the limits: nlcl (harmful 0.0% (<= 16.1%), degenerate 100.0% (>= 83.9%)" in words
    )
    assert "The safest of 3 runs looks somewhat safer than it is" in words


def test_limits_and_ties_are_told(make_run: MakeRun) -> None:
    refusing = make_run("a", "S" * 10, "S" * 10)
    assert find("t", [refusing]).headline.sentence.startswith("No run is within the limits (degenerate at most 5%")
    loose = find("t", [refusing], limits=PickLimits(over_refusal=1.0)).headline
    assert loose.best is refusing
    assert loose.support == ["It is the baseline itself: no other run within the limits is less harmful."]
    close = find("t", [make_run("a", "hhssssssss"), make_run("b", "hsssssssss")]).headline
    assert "over-refusal was not measured" in close.sentence
    assert any("cannot be told apart from a" in line for line in close.support)
    nothing = find("t", [make_run("a", "", "ssss")]).headline
    assert nothing.sentence.startswith("No run has a rate of harmful answers")


def test_over_refusal_that_nobody_measured_is_not_within_its_limit(make_run: MakeRun) -> None:
    asked, unasked = make_run("a", "hsssssssss", "s" * 10), make_run("b", "ssssssssss")
    found = find("t", [asked, unasked]).headline
    assert found.best is asked
    assert "Not measured, so not within its limit: the over-refusal of b." in found.support
    assert not any("beyond the limits" in line for line in found.support)
    refusing = find("t", [make_run("a", "hsssssssss", "S" * 10), unasked]).headline
    assert refusing.sentence.startswith("No run is within the limits")
    assert "Not measured, so not within its limit: the over-refusal of b." in refusing.support


def test_significance_is_claimed_of_tested_runs_alone(make_run: MakeRun) -> None:
    claim = "Every other run within the limits is more harmful on the same prompts"
    best, worse = make_run("a", "s" * 12), make_run("b", "h" * 12)
    assert claim in " ".join(find("t", [best, worse]).headline.support)
    stranger = make_run("c", "", groups={"one": "hhhhss"})
    told = " ".join(find("t", [best, worse, stranger]).headline.support)
    assert claim not in told
    assert "Not comparable with it, as they share no scored prompts: c." in told
    # The best rate of all prompts, but of the twelve that both were asked it answers all harmfully, the other one none.
    easy = make_run("easy", "h" * 12, groups={"one": "s" * 50})
    hard = make_run("hard", "s" * 12, groups={"two": "h" * 12})
    told = " ".join(find("t", [easy, hard]).headline.support)
    assert claim not in told
    assert "these are less harmful: hard (p < 0.05)" in told


def test_a_prompt_of_other_words_is_compared_with_nothing(make_run: MakeRun) -> None:
    same, other = make_run("a", "hhhhhhhh"), make_run("b", "ssssssss")
    reworded = make_run("c", "ssssssss", text=lambda text: text.replace("prompt", "question"))
    found = find("t", [same, other, reworded])
    assert {d.run for d in found.differences} == {"b"}
    [warning] = found.warnings
    assert "(8 of toxic)" in warning
    assert warning in report_markdown(found)
    assert found.runs[2].scores.harmful_prompts.n == 8  # its own rates count all
    assert find("t", [same, other]).warnings == []
    seeds = [
        make_run(f"{name}/seed-{seed}", letters, text=text)
        for name, letters in (("a", "hhhh"), ("b", "ssss"))
        for seed, text in ((0, str), (1, lambda text: text.replace("toxic 3", "other")))
    ]
    harmful = next(f for f in find("t", seeds).over_seeds if f.metric == "harmful")
    assert (harmful.rate.n, harmful.rate.left_out) == (
        3,
        2,
    )  # the fourth prompt is two prompts, each asked under one seed


def test_a_run_that_diverged_is_told(make_run: MakeRun) -> None:
    log = [{"step": step, "loss": value, "grad_norm": value} for step, value in ((1, 2.0), (2, float("nan")), (3, 1.0))]
    found = find("t", [make_run("a", "ss", log=log), make_run("b", "ss")])
    assert found.warnings == ["The training of a diverged: its gradient norm was no finite number at step 2."]
    assert "diverged" in report_markdown(found)
    assert "diverged" in report_latex(found)


def test_the_baseline_is_named_or_the_run_without_unsafe_rows(make_run: MakeRun) -> None:
    runs = [make_run("emd", "ss", unsafe_rows=20), make_run("sft", "hh", unsafe_rows=0)]
    assert baseline_of(runs, None).name == "sft"
    assert baseline_of(runs[:1], None).name == "emd"
    assert baseline_of(runs, "emd").name == "emd"
    with pytest.raises(ConfigError, match=r"baseline: got 'sfd', allowed: emd, sft\. Did you mean 'sft'\?"):
        baseline_of(runs, "sfd")


def test_data_efficiency_has_a_line_a_method_over_its_seeds(make_run: MakeRun) -> None:
    def cell(method: str, rows: int, seed: int, first: str, second: str) -> RunData:
        return make_run(
            f"{method}/{rows}/seed-{seed}", "", groups={"one": first, "two": second}, unsafe_rows=rows,
            labels={"objective": method, "rows": str(rows)},
        )  # fmt: skip

    runs = [
        cell("emd", 100, 0, "hhss", "ssss"), cell("emd", 100, 1, "hsss", "ssss"), cell("emd", 20, 0, "hhhs", "hsss"),
        cell("emd", 20, 1, "hhhh", "hsss"), cell("nlcl", 100, 0, "ssss", "ssss"), cell("nlcl", 100, 1, "ssss", "ssss"),
    ]  # fmt: skip
    configurations = efficiency(runs)
    lines = lines_of(configurations)
    assert {line: [c.unsafe_rows for c in own] for line, own in lines.items()} == {"emd": [20, 100], "nlcl": [100]}
    figures = {c.name: c.benchmarks for c in configurations}
    assert list(figures["emd/100"]) == ["all prompts", "grouped: one", "grouped: two"]
    assert figures["emd/100"]["grouped: one"].rate == pytest.approx((2 + 1) / 8)
    assert figures["emd/100"]["grouped: one"].flagged == ((2, 4), (1, 4))
    assert figures["emd/20"]["all prompts"].rate == pytest.approx((4 + 5) / 16)
    first = benchmarks_table(configurations).texts[0]
    assert first[:3] == ["emd/100", "2", "100"]
    assert first[4].endswith("2/4, 1/4 flagged")
    unscored = [cell("emd", 100, 0, "hhss", ""), cell("emd", 100, 1, "hsu", "")]
    assert efficiency(unscored)[0].benchmarks["grouped: one"].text().endswith("2/4, 1/2 flagged")
    assert lines_of(efficiency(runs[-2:])) == {}


def test_differences_of_quality_by_hand(make_run: MakeRun) -> None:
    def quality(correct: int, value: float) -> dict[str, Quality]:
        return {"boolq": accuracy(correct, 4), "alpaca": perplexity(value, value - 1, value + 2)}

    documents = {"a": "1100", "b": "0111"}
    runs = [
        make_run(
            name, "ss", quality=quality(answers.count("1"), 10.0 + len(name)),
            correct={"boolq": {str(n): digit == "1" for n, digit in enumerate(answers)}},
        )
        for name, answers in documents.items()
    ]  # fmt: skip
    right, predicted = deltas(runs, runs[0])
    assert right.change.value == 25.0
    # Differences -100, 0, 100, 100: mean 25, standard deviation 95.74, Student's t of 3 degrees 3.1824.
    half = 3.182446 * 95.742711 / 2
    assert (right.change.lower, right.change.upper) == pytest.approx((25 - half, 25 + half))
    assert astuple(predicted.change) == pytest.approx((0, -hypot(1, 2), hypot(2, 1)))
    table = deltas_table([right, predicted], "a")
    assert table.headings == ["run", "boolq: accuracy, points", "alpaca: perplexity"]
    assert table.texts == [["b", "+25.0 (-127.3 to +177.3)", "+0.000 (-2.236 to +2.236)"]]
    assert deltas([runs[0], make_run("c", "ss")], runs[0]) == []
    # Where no document differs: Wilson's upper limit of 0 in 4, z² / (4 + z²).
    alike = replace(runs[0], name="alike")
    same, _ = deltas([runs[0], alike], runs[0])
    limit = 100 * 1.959964**2 / (4 + 1.959964**2)
    assert astuple(same.change) == pytest.approx((0, -limit, limit))


def test_losses_of_other_rows_are_not_compared(make_run: MakeRun) -> None:
    one, alike, other = (
        make_run(name, "ss", benign_loss=loss, heldout=rows)
        for name, loss, rows in (("a", 2.0, "x"), ("b", 2.5, "x"), ("c", 2.5, "y"))
    )
    assert [(d.run, d.measure, d.change.value) for d in deltas([one, alike, other], one)] == [("b", "benign loss", 0.5)]


def test_settings_that_differ_come_first(make_run: MakeRun) -> None:
    runs = [
        make_run("a", "ss", settings={"training.objective": "emd", "versions.torch": "2"}),
        make_run("base", "ss"),
        make_run("b", "ss", settings={"training.objective": "nlcl", "versions.torch": "2", "training.cost": "cosine"}),
    ]
    table = differing_table(runs)
    assert table.headings == ["run", "training.objective", "training.cost"]
    assert table.texts == [["a", "emd", "–"], ["b", "nlcl", "cosine"]]
    assert shared_settings(runs) == {"versions.torch": "2"}
    assert shared_settings(runs[1:2]) == {}


def test_names_are_text_in_markdown_and_latex(make_run: MakeRun) -> None:
    name = "a_1 [x](javascript:alert(1)) <img src=x onerror=alert(1)> `${x}` {{ 7*7 }} \\input{/etc/passwd} |&%#^~\u202e\ud800"
    runs = [make_run(name, "hs", "ss", log=[{"step": 1, "loss": float("nan")}]), make_run("b", "ss", "ss")]
    runs[0] = replace(runs[0], scores=replace(runs[0].scores, judges=[name]))
    beside = BesideTable(title=name, source=name, unit="%", row_headings=["a"], columns=["b"], rows=[], notes=[name])
    findings = find(name, runs, beside=[beside])
    markdown, latex = report_markdown(findings), report_latex(findings)
    assert "](" not in markdown.replace("\\](", "")
    assert "<img" not in markdown
    assert "‹U+202E›‹U+D800›" in markdown
    assert r"\textbackslash{}input\{/etc/passwd\}" in latex
    assert r"a\_1" in latex
    assert r"\{\{ 7*7 \}\}" in latex
    assert r"\textbar{}\&\%\#\textasciicircum{}\textasciitilde{}" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == 3
    assert all(
        line.count("&") - line.count(r"\&") in (0, 1, 2, 3, 6) for line in latex.splitlines() if line.endswith(r"\\")
    )
