"""Scores counted by hand from a dozen verdicts, and how they read."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace

import pytest
from rich.console import Console

from quality_figures import accuracy, perplexity, win_rate
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.requirements import check, parse
from steerclear.evaluation.scores import (
    METRICS,
    Cell,
    Scores,
    SecondOpinion,
    score,
    score_table,
    terminal_scores,
)
from steerclear.records import Verdict
from steerclear.stats.agreement import agreement
from steerclear.stats.judge_error import JudgeErrors
from steerclear.stats.rates import Mean, Rate


def verdict(number, outcome, *, suite="bad", group=None, kind="harmful", flagged=None, refused=False, reason=""):
    tags = {"kind": kind} | ({"group": group} if group else {})
    return Verdict(
        id=str(number), suite=suite, outcome=outcome, reason=reason, refused=refused, tags=tags, judge="judge-1",
        flagged=None if outcome == "unscored" else outcome == "harmful" if flagged is None else flagged, harm_score=None,
    )  # fmt: skip


@pytest.fixture
def scores():
    return score(
        [
            verdict(1, "harmful", group="a"),
            verdict(2, "harmful", group="a"),
            verdict(3, "degenerate", group="a", flagged=True, reason="repetitive"),
            verdict(4, "degenerate", group="a", flagged=False, reason="empty"),
            verdict(5, "safe", group="b", refused=True),
            verdict(6, "safe", group="b"),
            verdict(7, "safe", group="b", refused=True),
            verdict(8, "unscored", group="b", reason="judge gave no score", refused=True),
            verdict(1, "safe", suite="good", kind="benign"),
            verdict(2, "safe", suite="good", kind="benign", refused=True),
            verdict(3, "harmful", suite="good", kind="harmful"),
        ]
    )


def markdown(scores):
    return score_table(scores).markdown()


def counts(cell):
    return {metric: (cell.rate(metric).k, cell.rate(metric).n) for metric in METRICS}


def test_rates_are_of_the_scored_answers(scores):
    assert counts(scores.suites["bad"].all) == {
        "harmful": (2, 7),
        "safe": (3, 7),
        "degenerate": (2, 7),
        "flagged": (3, 7),
        "refused": (3, 8),
        "partial_refusal": (0, 0),  # nobody looked
        "truncated": (0, 0),
        "non_english": (0, 0),
        "unscored": (1, 8),
    }
    assert scores.suites["bad"].all.n == 8
    assert scores.suites["bad"].all.harmful.rate == pytest.approx(2 / 7)


def test_groups_reasons_and_judges(scores):
    groups = scores.suites["bad"].groups
    assert counts(groups["a"])["degenerate"] == (2, 4)
    assert counts(groups["b"])["harmful"] == (0, 3)
    assert scores.suites["bad"].all.reasons == {"empty": 1, "judge gave no score": 1, "repetitive": 1}
    assert scores.suites["good"].groups == {}
    assert scores.judges == ["judge-1"]


def test_partial_refusals_and_cut_answers_are_of_those_that_were_looked_at():
    some = [
        replace(verdict(1, "safe"), refusal="partial", truncated=True),
        replace(verdict(2, "safe"), refusal="full", truncated=False),
        replace(verdict(3, "unscored"), refusal="compliance", truncated=True),
        verdict(4, "safe"),
    ]
    found = counts(score(some).harmful_prompts)
    assert found["partial_refusal"] == (1, 3)
    assert found["truncated"] == (2, 3)


def test_non_english_answers_are_of_those_whose_language_is_told():
    told = [replace(verdict(i, "safe"), language=code) for i, code in enumerate(["en", "en", "de", ""])]
    unscored = replace(verdict(9, "unscored"), language="fr")
    assert counts(score([*told, unscored]).harmful_prompts)["non_english"] == (2, 4)


def test_non_english_answers_have_a_column_in_the_terminal_if_there_are_any(scores):
    def shown(some):
        out = io.StringIO()
        Console(file=out, width=300).print(terminal_scores(some, "Results"))
        return out.getvalue()

    drifted = score([replace(verdict(i, "safe"), language=code) for i, code in enumerate(["en", "en", "de", ""])])
    assert "non-English" not in shown(scores)
    assert "non-English" in shown(drifted)
    assert "1/3" in shown(drifted)
    assert "| cut off | non-English | unscored |" in markdown(scores)
    assert markdown(drifted).splitlines()[2].endswith("| 0/0 | 1/3 | 0/4 |")


def test_the_judges_own_score_is_averaged_over_the_scored_answers():
    some = [replace(verdict(i, "safe"), harm_score=score) for i, score in enumerate([1.0, 2.0, 4.0, 5.0])]
    cell = score([*some, verdict(9, "unscored")]).harmful_prompts.mean_score
    # Mean 3, standard deviation sqrt(10 / 3), t(0.975, 3) = 3.182446305.
    half = 3.182446305 * (10 / 3) ** 0.5 / 2
    assert (cell.n, cell.mean, cell.lower, cell.upper) == (4, 3.0, pytest.approx(3 - half), pytest.approx(3 + half))
    alone = score(some[:1]).harmful_prompts.mean_score
    assert alone == Mean(n=1, mean=None, lower=None, upper=None)


def test_pools_go_by_the_kind_of_prompt_across_suites(scores):
    assert counts(scores.harmful_prompts)["harmful"] == (3, 8)
    assert counts(scores.benign_prompts)["refused"] == (1, 2)
    assert score([verdict(1, "safe")]).benign_prompts is None


def test_scores_are_json_without_nan(scores):
    json.dumps(scores.to_json(), allow_nan=False)
    assert score([verdict(1, "safe")]).to_json()["suites"]["bad"]["all"]["safe"] == {
        "k": 1, "n": 1, "rate": None, "lower": None, "upper": None,
    }  # fmt: skip
    assert score([]).suites == {}


ERRORS = JudgeErrors(true_positives=90, positives=100, true_negatives=80, negatives=100)


def test_what_was_written_is_read_again(scores):
    prefilled = score([verdict(i, "safe", kind="prefilled") for i in range(3)], ERRORS)
    opinion = SecondOpinion(
        judge="judge-2", scores=scores, agreement=agreement([True, False, None], [True, True, False])
    )
    quality = {"boolq": accuracy(2, 4), "heldout": perplexity(12.5), "alpaca": win_rate(None)}
    full = replace(prefilled, second_opinions=[opinion], quality=quality)
    for some in (scores, full, score([])):
        assert Scores.from_json(json.loads(json.dumps(some.to_json()))) == some


def test_the_file_has_the_keys_that_it_always_had(scores):
    tree = scores.to_json()
    assert list(tree) == ["judges", "refusal_judges", "confidence", "harmful_prompts", "benign_prompts", "suites"]
    assert list(tree["suites"]["bad"]) == ["all", "groups"]
    assert list(tree["harmful_prompts"]) == ["n", *METRICS, "mean_score", "reasons"]
    known = score([verdict(i, "safe", kind="prefilled") for i in range(3)], ERRORS).to_json()
    assert next(iter(known)) == "judge_errors"
    assert known["harmful_prompts"] is None
    assert known["suites"]["bad"]["prefilled"] is True
    assert set(known["suites"]["bad"]["all"]["corrected"]) == {"k", "n", "rate", "lower", "upper", "reason"}


def test_a_cell_has_a_rate_for_every_metric():
    rates = {field.name for field in fields(Cell) if field.type.startswith("Rate")}
    assert rates == set(METRICS)


def test_scores_of_an_earlier_version_lack_what_came_later(scores):
    tree = json.loads(json.dumps(scores.to_json()))
    for name in ("partial_refusal", "truncated", "non_english", "mean_score"):
        del tree["suites"]["bad"]["all"][name]
    read = Scores.from_json(tree)
    assert read.suites["bad"].all.truncated is None
    assert read.suites["bad"].all.rate("truncated") == Rate.of(0, 0)
    assert read.to_json() == tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("suites"), r"suites: is missing"),
        (lambda tree: tree.update(judges="j"), r"judges: got 'j', expected a list"),
        (lambda tree: tree.update(judges=[1]), r"judges\[0\]: got 1, expected text"),
        (lambda tree: tree.update(suites=[]), r"suites: got \[\], expected a mapping"),
        (lambda tree: tree.update(harmful_prompts={}), r"harmful_prompts\.n: is missing"),
        (lambda tree: tree["suites"]["bad"].pop("all"), r"suites\.bad\.all: is missing"),
        (lambda tree: tree["suites"]["bad"]["groups"].update(a=3), r"suites\.bad\.groups\.a: got 3, expected a section"),
        (lambda tree: tree["suites"]["good"]["all"]["safe"].pop("k"), r"suites\.good\.all\.safe\.k: is missing"),
        (lambda tree: tree["harmful_prompts"]["safe"].update(rate="high"), r"harmful_prompts\.safe\.rate: got 'high'"),
        (lambda tree: tree["harmful_prompts"]["safe"].update(k=True), r"harmful_prompts\.safe\.k: got True, expected a whole"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_by_what_is_wrong_where(scores, change, message):
    tree = json.loads(json.dumps(scores.to_json()))
    change(tree)
    with pytest.raises(DataError, match=message):
        Scores.from_json(tree)
    with pytest.raises(DataError, match="got a JSON list, expected an object"):
        Scores.from_json([])


@pytest.mark.parametrize(
    ("k", "n", "text"),
    [
        (0, 518, "0/518 = 0.0% (<= 0.7%)"),
        (518, 518, "518/518 = 100.0% (>= 99.3%)"),
        (5, 10, "5/10 = 50.0% (23.7-76.3%)"),
        (1, 1, "1/1"),
    ],
)
def test_cells_read(k, n, text):
    members = [verdict(i, "harmful" if i < k else "safe") for i in range(n)]
    assert str(score(members).suites["bad"].all.harmful) == text


def test_table_and_lines_hold_every_suite_and_group(scores):
    out = io.StringIO()
    Console(file=out, width=300).print(terminal_scores(scores, "Results"))
    lines = markdown(scores)
    for text in (out.getvalue(), lines):
        for word in ("all harmful prompts", "all benign prompts", "bad", "good", "2/7 = 28.6% (8.2-64.1%)", "1/8"):
            assert word in text
    assert len(lines.splitlines()) == 2 + 2 + 1 + 2 + 1
    assert len({line.count("|") for line in lines.splitlines()}) == 1


class TestRequirements:
    @pytest.mark.parametrize(
        ("expression", "value", "met"),
        [
            ("harmful.k<=3", 3, True),
            ("harmful.k<3", 3, False),
            ("harmful.n==8", 8, True),
            ("harmful.rate > 0.37", 0.375, True),
            ("bad:harmful.k>=3", 2, False),
            ("bad/b:harmful.k==0", 0, True),
            ("bad:unscored.k<=0", 1, False),
            ("over_refusal.rate<=0.5", 0.5, True),
            ("good:flagged.k<=1e0", 1, True),
        ],
    )
    def test_by_hand(self, scores, expression, value, met):
        outcome = check(scores, [parse(expression)])[0]
        assert (outcome.value, outcome.met) == (value, met)
        assert outcome.expression == expression

    def test_upper_bound(self, scores):
        outcome = check(scores, [parse("bad/b:harmful.upper<=0.5")])[0]
        assert outcome.value == pytest.approx(3.841459 / 6.841459)
        assert not outcome.met

    @pytest.mark.parametrize("operator", ["<=", ">=", "<", ">", "=="])
    def test_no_value_meets_nothing(self, operator):
        scores = score([verdict(1, "safe")])
        outcomes = check(scores, [parse(f"harmful.rate{operator}0"), parse(f"over_refusal.rate{operator}0")])
        assert [(o.value, o.met) for o in outcomes] == [(None, False), (None, False)]

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("harmfull.rate<=1", "metric: got 'harmfull', allowed: harmful, safe"),
            ("harmfull.rate<=1", "Did you mean 'harmful'?"),
            ("harmful.uper<=1", "statistic: got 'uper', allowed: rate, lower, upper, k, n. Did you mean 'upper'?"),
            ("harmful<=1", "expected [suite[/group]:]metric.statistic OP number"),
            ("harmful.rate=1", "expected [suite[/group]:]metric.statistic OP number"),
            ("harmful.rate<=1-2", "got '1-2' in 'harmful.rate<=1-2', expected a number"),
            ("bad:over_refusal.rate<=1", "for one suite use SUITE:refused"),
        ],
    )
    def test_bad_expressions(self, expression, message):
        with pytest.raises(ConfigError) as error:
            parse(expression)
        assert message in str(error.value)

    def test_unknown_suite(self, scores):
        with pytest.raises(ConfigError, match=r"'bed' was not evaluated; there are bad, good, .*Did you mean 'bad'\?"):
            check(scores, [parse("bed:harmful.rate<=1")])
