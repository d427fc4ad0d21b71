"""Cohen's kappa against hand-worked tables, its edges, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from steerclear.stats.agreement import agreement
from steerclear.stats.resampling import bootstrap_over_prompts


def flags(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def test_by_hand():
    """Of 50: 20 both, 5 and 10 alone, 15 neither. Agreement 0.7; by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5; kappa 0.2 / 0.5 = 0.4."""
    found = agreement(*flags(20, 5, 10, 15))
    assert (found.n, found.both, found.only_first, found.only_second, found.neither) == (50, 20, 5, 10, 15)
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.lower < 0.4 < found.upper


def test_interval_is_about_the_large_sample_one():
    """Standard error of kappa by its simple formula sqrt(po (1 - po) / n) / (1 - pe) = sqrt(0.21 / 500) / 0.5 = 0.041."""
    found = agreement(*flags(200, 50, 100, 150))
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * 0.041, rel=0.1)


def test_only_answers_that_both_scored_count():
    found = agreement([True, None, False, True, None], [True, True, False, None, None])
    assert (found.n, found.unscored, found.kappa) == (2, 3, 1.0)


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True]), ([True, None], [True, False])])
def test_under_two_there_is_no_value(first, second):
    found = agreement(first, second)
    assert (found.agreement, found.kappa, found.lower, found.upper) == (None, None, None, None)


@pytest.mark.parametrize("label", [True, False])
def test_one_label_by_both_has_no_kappa(label):
    found = agreement([label] * 9, [label] * 9)
    assert (found.agreement, found.kappa, found.lower) == (1.0, None, None)


def test_one_label_by_one_judge_is_kappa_zero():
    assert agreement([True] * 10, [True] * 5 + [False] * 5).kappa == 0
    assert agreement([True] * 10, [False] * 10).kappa == 0


def test_a_single_prompt_has_no_interval():
    found = agreement(*flags(5, 1, 1, 5), prompts=["same"] * 12)
    assert found.kappa is not None
    assert (found.lower, found.upper) == (None, None)


def test_answers_to_one_prompt_are_drawn_together():
    """Each answer ten times over adds nothing to know: the interval over prompts stays, one over answers would shrink."""
    first, second = flags(20, 5, 10, 15)
    once = agreement(first, second, seed=1)
    tenfold = agreement(first * 10, second * 10, prompts=list(range(50)) * 10, seed=1)
    assert (tenfold.lower, tenfold.upper) == pytest.approx((once.lower, once.upper))
    alone = agreement(first * 10, second * 10)
    assert alone.upper - alone.lower < 0.5 * (once.upper - once.lower)


def test_the_seed_decides():
    pair = flags(20, 5, 10, 15)
    assert agreement(*pair, seed=3) == agreement(*pair, seed=3)
    assert agreement(*pair, seed=3) != agreement(*pair, seed=4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_order_of_judges_does_not_matter(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = agreement(first, second, resamples=2), agreement(second, first, resamples=2)
    assert one.kappa == pytest.approx(other.kappa)
    if one.kappa is None:
        assert len(set(first + second)) == 1
    else:
        assert one.kappa == pytest.approx(cohen_kappa_score(first, second, labels=[False, True]))


def test_unequal_lengths():
    with pytest.raises(ValueError, match="shorter"):
        agreement([True], [])


class TestBootstrapOverPrompts:
    def test_mean_of_a_normal_sample(self):
        """The mean of 400 values of deviation 2 has standard error 0.1."""
        values = np.random.default_rng(0).normal(5, 2, 400)
        lower, upper = bootstrap_over_prompts(lambda w: float(np.average(values, weights=w)), range(400))
        half = 1.96 * values.std() / 20
        assert (lower, upper) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)

    def test_too_often_undefined_is_no_interval(self):
        assert bootstrap_over_prompts(lambda w: 1.0 if w[0] else None, range(20)) is None
