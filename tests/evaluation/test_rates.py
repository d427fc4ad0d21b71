"""Intervals and the paired test against hand-worked values."""

from __future__ import annotations

from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.stats.rates import Rate, mcnemar, wilson

Z = 1.959963984540054


def test_none_of_518_by_hand():
    """Wilson with k = 0 is [0, z² / (n + z²)] = [0, 3.8415 / 521.8415]."""
    assert wilson(0, 518) == pytest.approx((0.0, 3.841459 / 521.841459), abs=1e-8)


def test_half_of_ten_by_hand():
    """Centre 1/2; half width z·sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n) = 0.2634."""
    half = Z * sqrt(0.25 / 10 + Z**2 / 400) / (1 + Z**2 / 10)
    assert half == pytest.approx(0.26341, abs=1e-5)
    assert wilson(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-9)


@given(st.integers(2, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_rate_and_mirrors(case):
    k, n = case
    rate = Rate.of(k, n)
    assert 0 <= rate.lower <= rate.rate + 1e-12
    assert rate.rate - 1e-12 <= rate.upper <= 1
    lower, upper = wilson(n - k, n)
    assert (1 - upper, 1 - lower) == pytest.approx((rate.lower, rate.upper), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 1), (1, 1)])
def test_under_two_there_is_no_rate(k, n):
    assert Rate.of(k, n) == Rate(k=k, n=n, rate=None, lower=None, upper=None)


class TestMcNemar:
    def test_by_hand(self):
        """Eight pairs differ, one of them the other way: p = 2 (1 + 8) / 2^8."""
        first = [True] * 7 + [False] + [True] * 5
        second = [False] * 7 + [True] + [True] * 5
        assert mcnemar(first, second) == pytest.approx(2 * 9 / 256)

    def test_no_difference(self):
        assert mcnemar([True, False], [True, False]) == 1.0
        assert mcnemar([], []) == 1.0

    @given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
    def test_exact_binomial_and_symmetric(self, pairs):
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        b, c = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
        tail = sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
        assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
        assert mcnemar(second, first) == pytest.approx(mcnemar(first, second))

    def test_unequal_lengths(self):
        with pytest.raises(ValueError, match="shorter"):
            mcnemar([True], [])
