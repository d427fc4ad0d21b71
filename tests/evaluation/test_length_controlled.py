"""The length-controlled win rate on simulated pairs, where the effect of length is known."""

from __future__ import annotations

import numpy as np
import pytest

from steerclear.stats.length_controlled import length_controlled


def simulated(seed: int, *, at_equal_length: float, length_weight: float, pairs: int = 805) -> tuple[list[float], ...]:
    """Preferences, lengths and reference lengths; the model writes 400 characters more on average."""
    draw = np.random.default_rng(seed)
    reference = draw.integers(100, 1500, pairs)
    model = reference + draw.integers(-600, 1400, pairs)
    difference = model - reference
    log_odds = np.log(at_equal_length / (1 - at_equal_length)) + length_weight * np.tanh(
        difference / difference.std(ddof=1)
    )
    won = draw.random(pairs) < 1 / (1 + np.exp(-log_odds))
    return won.astype(float).tolist(), model.tolist(), reference.tolist()


@pytest.mark.parametrize("true", [0.25, 0.5, 0.75])
def test_it_recovers_the_win_rate_at_equal_length(true: float) -> None:
    found = [length_controlled(*simulated(seed, at_equal_length=true, length_weight=1.5)) for seed in range(200)]
    raw = [100 * np.mean(simulated(seed, at_equal_length=true, length_weight=1.5)[0]) for seed in range(200)]
    assert np.mean([f.win_rate for f in found]) == pytest.approx(100 * true, abs=0.5)
    assert abs(np.mean(raw) - 100 * true) > 5  # what length had added
    assert np.mean([f.standard_error for f in found]) == pytest.approx(np.std([f.win_rate for f in found]), rel=0.15)
    assert np.mean([f.lower <= 100 * true <= f.upper for f in found]) == pytest.approx(0.95, abs=0.04)
    assert np.mean([f.length_weight for f in found]) == pytest.approx(1.5, abs=0.05)


def test_it_agrees_with_alpaca_eval() -> None:
    draw = np.random.default_rng(0)
    reference, model = draw.integers(10, 2000, 805), draw.integers(200, 3000, 805)
    difference = reference - model
    chance = 1 / (1 + np.exp(-(0.4 - 1.2 * np.tanh(difference / difference.std(ddof=1)))))
    won = (draw.random(805) < chance).astype(float)
    # alpaca_eval 0.6.6, get_length_controlled_winrate(..., "length_controlled_minimal") on these pairs: 57.6551
    assert length_controlled(won, model, reference).win_rate == pytest.approx(57.6551, abs=0.05)


def test_without_an_effect_of_length_it_is_the_win_rate() -> None:
    won = [1.0] * 300 + [0.0] * 100
    assert length_controlled(won, [50] * 400, [50] * 400).win_rate == pytest.approx(75, abs=0.1)
    balanced = length_controlled(won * 2, [60] * 400 + [40] * 400, [50] * 800)  # the longer half wins as often
    assert balanced.win_rate == pytest.approx(75, abs=0.1)
    assert balanced.length_weight == pytest.approx(0, abs=1e-4)


def test_a_preference_between_counts_as_that_share_of_a_win() -> None:
    lengths, reference = [30, 80, 50, 70] * 20, [60, 40, 50, 60] * 20
    shares = length_controlled([0.25, 0.75, 0.5, 1.0] * 20, lengths, reference)
    drawn = [0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1]  # each pair four times, with as many wins
    whole = length_controlled([float(x) for x in drawn] * 20, lengths * 4, reference * 4)
    assert shares.win_rate == pytest.approx(whole.win_rate, abs=0.2)


def test_sides_order_and_unit_do_not_matter() -> None:
    won, model, reference = simulated(7, at_equal_length=0.6, length_weight=1.0)
    found = length_controlled(won, model, reference)
    swapped = length_controlled([1 - w for w in won], reference, model)
    assert swapped.win_rate == pytest.approx(100 - found.win_rate, abs=1e-3)
    assert (swapped.lower, swapped.upper) == pytest.approx((100 - found.upper, 100 - found.lower), abs=1e-3)
    order = np.random.default_rng(1).permutation(len(won))
    shuffled = length_controlled(*(np.asarray(values)[order] for values in (won, model, reference)))
    assert shuffled.win_rate == pytest.approx(found.win_rate, abs=1e-3)
    tripled = length_controlled(won, [3 * m for m in model], [3 * r for r in reference])
    assert tripled.win_rate == pytest.approx(found.win_rate, abs=1e-3)


@pytest.mark.parametrize(
    ("preferences", "lengths", "reference"),
    [
        ([], [], []),
        ([1.0], [5], [3]),
        ([1.0] * 5, [5, 4, 3, 2, 1], [3] * 5),  # all won
        ([1.0, 1.0, 0.0, 0.0], [9, 8, 2, 1], [3] * 4),  # the longer always wins
        ([0.0, 0.0, 1.0, 1.0], [9, 8, 2, 1], [3] * 4),
        ([1.0, 1.0, 0.0, 1.0], [9] * 4, [3] * 4),  # always longer by 6
    ],
)
def test_where_the_pairs_do_not_say_it_is_none(
    preferences: list[float], lengths: list[int], reference: list[int]
) -> None:
    assert length_controlled(preferences, lengths, reference) is None


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="2 preferences, 1 and 2 lengths"):
        length_controlled([1.0, 0.0], [1], [1, 2])
