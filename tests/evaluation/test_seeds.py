"""Intervals over seeds: hand-worked tables, their edges, and how often they hold the truth in simulated studies."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import t

from steerclear.stats.rates import wilson
from steerclear.stats.seeds import OverSeeds, difference_over_seeds, rate_over_seeds


class TestRate:
    def test_by_hand(self):
        """Two seeds, four prompts: rates of the seeds 1/2, 1/4; of the prompts 1, 0, 0, 1/2; mean 3/8.

        var(seeds) / 2 = (1/32) / 2 = 1/64; var(prompts) / 4 = (11/48) / 4 = 11/192; v = 14/192 = 0.07292; degrees of freedom
        v² / ((1/64)² / 1 + (11/192)² / 3) = 196 / (9 + 121/3) = 3.973; worth 0.234375 / v = 3.2143 answers.
        """
        found = rate_over_seeds([[True, False, False, True], [True, False, False, False]])
        assert (found.seeds, found.n, found.per_seed, found.mean) == (2, 4, (0.5, 0.25), 0.375)
        quantile, worth = t.ppf(0.975, 196 / (9 + 121 / 3)), 3.2142857
        centre = (0.375 + quantile**2 / (2 * worth)) / (1 + quantile**2 / worth)
        half = quantile * sqrt(0.234375 / worth + (quantile / (2 * worth)) ** 2) / (1 + quantile**2 / worth)
        assert (found.lower, found.upper) == pytest.approx((centre - half, centre + half), abs=1e-6)

    @pytest.mark.parametrize(("outcome", "k"), [(False, 0), (True, 518)])
    def test_all_alike_is_as_good_as_one_run(self, outcome, k):
        found = rate_over_seeds([[outcome] * 518] * 3)
        assert (found.lower, found.upper) == pytest.approx(wilson(k, 518))

    def test_one_seed_has_a_rate_and_no_interval(self):
        found = rate_over_seeds([[True, False, False]])
        assert found.mean == pytest.approx(1 / 3)
        assert (found.lower, found.upper) == (None, None)

    @pytest.mark.parametrize("outcomes", [[], [[], []], [[True], [False]], [[True, None], [True, True]]])
    def test_under_two_prompts_there_is_no_value(self, outcomes):
        found = rate_over_seeds(outcomes)
        assert (found.mean, found.lower, found.upper, found.per_seed) == (None, None, None, ())

    def test_prompts_unscored_under_a_seed_are_left_out(self):
        found = rate_over_seeds([[True, None, False, True], [True, True, None, False]])
        assert (found.n, found.left_out, found.per_seed) == (2, 2, (1.0, 0.5))

    def test_unequal_lengths(self):
        with pytest.raises(ValueError, match="shorter"):
            rate_over_seeds([[True, True], [True]])

    @given(st.integers(2, 4).flatmap(lambda s: st.lists(st.tuples(*[st.booleans()] * s), min_size=2, max_size=12)))
    def test_interval_holds_the_rate_within_0_and_1(self, columns):
        found = rate_over_seeds(list(zip(*columns, strict=True)))
        assert 0 <= found.lower <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.upper <= 1


class TestDifference:
    def test_by_hand(self):
        """Differences 1, 0, 1 under both seeds: var(seeds) 0, var(prompts) / 3 = 1/9, t at 2 degrees of freedom 4.3027."""
        found = difference_over_seeds([[True, False, True]] * 2, [[False] * 3] * 2)
        assert found.mean == pytest.approx(2 / 3)
        assert (found.lower, found.upper) == pytest.approx((2 / 3 - 4.302653 / 3, 1.0), abs=1e-6)

    def test_no_difference_is_not_certainty(self):
        found = difference_over_seeds([[True, False] * 100] * 3, [[True, False] * 100] * 3)
        limit = wilson(0, 200)[1]
        assert (found.mean, found.lower, found.upper) == (0, -limit, limit)

    def test_swapped_is_negated(self):
        rng = np.random.default_rng(0)
        first, second = (rng.random((3, 40)) < 0.4).tolist(), (rng.random((3, 40)) < 0.2).tolist()
        one, other = difference_over_seeds(first, second), difference_over_seeds(second, first)
        assert (one.mean, one.lower, one.upper) == pytest.approx((-other.mean, -other.upper, -other.lower))

    def test_a_prompt_unscored_on_either_side_is_left_out(self):
        found = difference_over_seeds([[True, True, None]] * 2, [[False, False, True]] * 2)
        assert (found.n, found.left_out, found.mean) == (2, 1, 1.0)

    def test_unequal_seeds(self):
        with pytest.raises(ValueError, match="longer"):
            difference_over_seeds([[True, True]] * 2, [[True, True]] * 3)


def chances(rng: np.random.Generator, seeds: int, prompts: int, logit: float, apart: float) -> np.ndarray:
    """Chance of a harmful answer by seed and prompt: prompts differ by 1.5 on the logit scale, seeds by ``apart``."""
    return expit(logit + rng.normal(0, apart, (seeds, 1)) + rng.normal(0, 1.5, (1, prompts)))


def coverage(seeds: int, logit: float, apart: float, studies: int = 200) -> float:
    truth = chances(np.random.default_rng(9), 2000, 2000, logit, apart).mean()
    rng = np.random.default_rng(seeds)

    def study() -> OverSeeds:
        chance_SP = chances(rng, seeds, 300, logit, apart)
        return rate_over_seeds((rng.random(chance_SP.shape) < chance_SP).tolist())

    found = [study() for _ in range(studies)]
    return sum(f.lower <= truth <= f.upper for f in found) / studies


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("logit", "apart"), [(-1.5, 0.3), (-4.0, 0.8)])
def test_t_holds_the_truth(seeds, logit, apart):
    """200 studies: one in a hundred would fall below 0.88 with a true coverage of 0.93."""
    assert 0.88 <= coverage(seeds, logit, apart) <= 1


def test_difference_holds_the_truth():
    rng = np.random.default_rng(0)
    big_a, big_b = (chances(np.random.default_rng(9), 2000, 2000, logit, 0.3).mean() for logit in (-1.5, -2.0))

    def study() -> OverSeeds:
        prompt = rng.normal(0, 1.5, (1, 300))
        first, second = (
            rng.random((3, 300)) < expit(logit + rng.normal(0, 0.3, (3, 1)) + prompt) for logit in (-1.5, -2.0)
        )
        return difference_over_seeds(first.tolist(), second.tolist())

    found = [study() for _ in range(200)]
    assert sum(f.lower <= big_a - big_b <= f.upper for f in found) / 200 >= 0.88
