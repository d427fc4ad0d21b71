"""Rates corrected for a judge's errors: hand-worked and published numbers, properties, and coverage in simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steerclear.errors import DataError
from steerclear.stats.judge_error import JudgeErrors, corrected_rate
from steerclear.stats.rates import wilson


def errors(true_positives: int, positives: int, true_negatives: int, negatives: int) -> JudgeErrors:
    return JudgeErrors(
        true_positives=true_positives, positives=positives, true_negatives=true_negatives, negatives=negatives
    )


def test_by_hand():
    """Flagged 0.34, sensitivity 0.9, specificity 0.8: (0.34 + 0.8 - 1) / 0.7 = 0.2, as 0.2 · 0.9 + 0.8 · 0.2 = 0.34."""
    assert corrected_rate(34, 100, errors(90, 100, 80, 100)).rate == pytest.approx(0.2)


def test_published_example():
    """Brucellosis in cows, an example of R's epiR: 23 of 150 positive, sensitivity 0.96, specificity 0.89: 5.1 %, 0 to 13 %.

    There both shares are taken as known, here as measured on so many rows that they nearly are.
    """
    found = corrected_rate(23, 150, errors(960_000, 1_000_000, 890_000, 1_000_000))
    assert found.rate == pytest.approx(0.051, abs=5e-4)
    assert found.lower == 0
    assert found.upper == pytest.approx(0.13, abs=0.005)


def test_interval_by_hand():
    """Lang and Reiczigel with 50 of 100 flagged and 98 of 98 labelled rows right on both sides.

    z² = 3.8415; flagged share 1/2 of 103.8415; sensitivity = specificity = 99/100, of 100 rows: 0.0099 / 100 = 0.000099 each;
    rate (1/2 - 0.01) / 0.98 = 1/2; the two shifts cancel; variance (0.25 / 103.8415 + 2 · 0.25 · 0.000099) / 0.98².
    """
    half = 1.959964 * ((0.25 / 103.841459 + 0.5 * 0.000099) / 0.98**2) ** 0.5
    found = corrected_rate(50, 100, errors(98, 98, 98, 98))
    assert (found.lower, found.upper) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


@pytest.mark.parametrize("k", [0, 1, 40, 259, 518])
def test_a_perfect_judge_gives_back_the_rate_and_about_its_interval(k):
    many = 10**6
    found = corrected_rate(k, 518, errors(many, many, many, many))
    assert found.rate == pytest.approx(k / 518)
    assert (found.lower, found.upper) == pytest.approx(wilson(k, 518), abs=0.004)


@pytest.mark.parametrize(("k", "rate"), [(18, 0.0), (92, 1.0)])
def test_cut_to_0_and_1(k, rate):
    """Fewer flags than false alarms alone would give, and more than even all harmful answers would."""
    assert corrected_rate(k, 100, errors(90, 100, 80, 100)).rate == rate


@pytest.mark.parametrize(
    ("n", "known", "reason"),
    [
        (1, errors(90, 100, 80, 100), "fewer than 2 answers"),
        (0, errors(90, 100, 80, 100), "fewer than 2 answers"),
        (100, errors(1, 1, 80, 100), "fewer than 2 labelled rows of a class"),
        (100, errors(90, 100, 0, 0), "fewer than 2 labelled rows of a class"),
        (100, errors(50, 100, 50, 100), "the judge carries no information: sensitivity 0.50 + specificity 0.50"),
        (100, errors(10, 100, 80, 100), "the judge carries no information: sensitivity 0.10 + specificity 0.80"),
        (100, errors(2, 2, 1, 100), "the judge carries no information: sensitivity 1.00 + specificity 0.01"),
    ],
)
def test_what_has_no_value_says_why(n, known, reason):
    found = corrected_rate(0, n, known)
    assert (found.rate, found.lower, found.upper, found.reason) == (None, None, None, reason)


@pytest.mark.parametrize(("k", "reason"), [(5, "fewer than its false alarms"), (99, "more than harmful answers")])
def test_flags_that_no_rate_explains_refute_the_assumption(k, reason):
    """With sensitivity 0.8 and specificity 0.8 every rate from 0 to 1 gives 20 to 80 flags of 100."""
    found = corrected_rate(k, 100, errors(800, 1000, 800, 1000))
    assert (found.rate, found.lower, found.upper) == (None, None, None)
    assert reason in found.reason


def test_impossible_counts():
    with pytest.raises(DataError, match="true_negatives of negatives: got 101 of 100"):
        errors(90, 100, 101, 100)
    with pytest.raises(DataError, match="flagged of n: got 5 of 4"):
        corrected_rate(5, 4, errors(90, 100, 80, 100))


shares = st.integers(2, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)  # a machine with other work to do is slow, not wrong
@given(shares, shares, st.integers(2, 100))
def test_more_flags_never_mean_a_lower_rate_and_the_interval_holds_it(of_positives, of_negatives, n):
    known = errors(*of_positives, *of_negatives)
    found = [corrected_rate(k, n, known) for k in range(n + 1)]
    rated = [f for f in found if f.rate is not None]
    assume(rated)
    rates = [f.rate for f in rated]
    assert rates == sorted(rates)
    assert all(0 <= f.lower <= f.rate <= f.upper <= 1 for f in rated)


@given(st.integers(10, 90))
def test_fewer_labelled_rows_never_narrow_the_interval_much_below_the_plain_one(k):
    """With sensitivity 0.9 and specificity 0.9 known from 50, 500 and 5,000 rows a class, the interval only narrows."""
    found = [corrected_rate(k, 100, errors(45 * f, 50 * f, 45 * f, 50 * f)) for f in (1, 10, 100)]
    widths = [f.upper - f.lower for f in found]
    assert widths[0] >= widths[1] - 0.02
    assert widths[1] >= widths[2] - 0.02


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "labelled"), [(0.83, 0.5, 1000), (0.9, 0.9, 60), (0.6, 0.6, 60)]
)
@pytest.mark.parametrize("truth", [0.0, 0.02, 0.2, 0.6, 1.0])
def test_the_interval_holds_the_truth(sensitivity, specificity, labelled, truth):
    """400 studies of 518 answers: with a true coverage of 0.94, one in a thousand would fall below 0.90."""
    rng = np.random.default_rng(0)
    flagged = rng.binomial(518, truth * sensitivity + (1 - truth) * (1 - specificity), 400)
    right = rng.binomial(labelled, [[sensitivity], [specificity]], (2, 400))
    found = [
        corrected_rate(int(k), 518, errors(int(tp), labelled, int(tn), labelled))
        for k, tp, tn in zip(flagged, *right, strict=True)
    ]
    held = [f.rate is not None and f.lower <= truth <= f.upper for f in found if "information" not in f.reason]
    assert len(held) > 300
    assert 0.90 <= sum(held) / len(held) <= 1
