"""Properties of subsets, the held-out rows and the stratified order."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steerclear.data.mixing import Cycle, nested_subset, split_heldout
from steerclear.data.mixing import stratified_order as order_of
from steerclear.errors import ConfigError, DataError
from steerclear.records import Row

SEEDS = st.integers(0, 5)


def rows(n: int) -> list[Row]:
    return [Row(id=f"r{i}", prompt="p", completion="c", label=True, source=f"f:{i}") for i in range(n)]


def ids(chosen: list[Row]) -> list[str]:
    return [row.id for row in chosen]


# ── subsets ──


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), SEEDS, st.randoms(use_true_random=False))
def test_smaller_subsets_begin_larger_ones_in_any_order_of_the_rows(a: int, b: int, seed: int, random: object) -> None:
    small, large = sorted((a, b))
    shuffled = rows(40)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ids(nested_subset(rows(40), large, seed))[:small] == ids(nested_subset(shuffled, small, seed))


@settings(deadline=None)
@given(st.integers(1, 30), SEEDS)
def test_an_added_row_pushes_out_at_most_one(count: int, seed: int) -> None:
    before, after = set(ids(nested_subset(rows(30), count, seed))), set(ids(nested_subset(rows(31), count, seed)))
    assert after - before <= {"r30"}


def test_seeds_choose_different_rows_about_evenly() -> None:
    chosen = Counter(itertools.chain.from_iterable(ids(nested_subset(rows(20), 5, seed)) for seed in range(400)))
    # Each row is drawn Binomial(400, 1/4) times: mean 100, standard deviation 8.7.
    assert set(chosen) == set(ids(rows(20)))
    assert all(60 < count < 140 for count in chosen.values())


@pytest.mark.parametrize("count", [11, -1])
def test_too_large_a_subset_names_both_numbers(count: int) -> None:
    with pytest.raises(
        DataError, match=f"^{count} rows are asked for, but there are 10. Lower the count or add rows.$"
    ):
        nested_subset(rows(10), count, 0)


@settings(deadline=None)
@given(st.integers(1, 40), st.data(), SEEDS)
def test_heldout_rows_and_the_rest_make_up_all(n: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, n - 1))
    rest, held = split_heldout(rows(n), count, seed)
    assert len(held) == count
    assert sorted(ids(rest) + ids(held)) == sorted(ids(rows(n)))
    assert [row for row in rows(n) if row in rest] == rest
    assert [row for row in rows(n) if row in held] == held


def test_the_heldout_rows_are_not_the_first_of_the_subset() -> None:
    _, held = split_heldout(rows(1000), 100, 3)
    common = set(ids(held)) & set(ids(nested_subset(rows(1000), 100, 3)))
    assert len(common) < 30  # hypergeometric: mean 10, standard deviation 2.8


@pytest.mark.parametrize(("n", "count"), [(5, 5), (5, 6), (0, 0)])
def test_something_must_be_left_to_train_on(n: int, count: int) -> None:
    with pytest.raises(
        DataError, match=f"^{count} rows are asked for to be held out, but there are {n} and some must be left"
    ):
        split_heldout(rows(n), count, 0)


# ── stratified order ──

SIZES = {
    "n_benign": st.integers(1, 120),
    "n_unsafe": st.integers(1, 30),
    "rows_per_step": st.integers(2, 32),
    "unsafe_share": st.floats(0.001, 0.9),
    "seed": SEEDS,
}


def unsafe_per_step(rows_per_step: int, unsafe_share: float) -> int:
    count = max(1, round(unsafe_share * rows_per_step))
    assume(count < rows_per_step)
    return count


def stratified_order(
    n_benign: int, n_unsafe: int, rows_per_step: int, unsafe_share: float, seed: int, epoch: int
) -> list[int]:
    """The order with one cycle."""
    return order_of(n_benign, [Cycle("unsafe", n_unsafe, unsafe_share)], rows_per_step, seed, epoch)


@settings(deadline=None)
@given(**SIZES, epoch=st.integers(0, 4))
def test_every_step_has_its_share(
    n_benign: int, n_unsafe: int, rows_per_step: int, unsafe_share: float, seed: int, epoch: int
) -> None:
    per_step = unsafe_per_step(rows_per_step, unsafe_share)
    order = stratified_order(n_benign, n_unsafe, rows_per_step, unsafe_share, seed, epoch)
    assert sorted(i for i in order if i < n_benign) == list(range(n_benign))
    assert all(0 <= i < n_benign + n_unsafe for i in order)
    *full, last = [order[start : start + rows_per_step] for start in range(0, len(order), rows_per_step)]
    for step in full:
        assert len(step) == rows_per_step
        assert sum(i >= n_benign for i in step) == per_step
    unsafe = sum(i >= n_benign for i in last)
    benign = len(last) - unsafe
    assert benign >= 1
    assert unsafe >= 1
    assert unsafe == 1 or abs(unsafe - benign * per_step / (rows_per_step - per_step)) <= 0.5


@settings(deadline=None)
@given(**SIZES)
def test_unsafe_rows_are_used_equally_often_at_any_time(
    n_benign: int, n_unsafe: int, rows_per_step: int, unsafe_share: float, seed: int
) -> None:
    unsafe_per_step(rows_per_step, unsafe_share)
    uses = Counter(dict.fromkeys(range(n_benign, n_benign + n_unsafe), 0))
    for epoch in range(3):
        order = stratified_order(n_benign, n_unsafe, rows_per_step, unsafe_share, seed, epoch)
        for start in range(0, len(order), rows_per_step):
            uses.update(i for i in order[start : start + rows_per_step] if i >= n_benign)
            assert max(uses.values()) - min(uses.values()) <= 1


@settings(deadline=None)
@given(**SIZES, epoch=st.integers(0, 3))
def test_the_length_is_the_same_in_every_epoch_and_the_order_repeatable(
    n_benign: int, n_unsafe: int, rows_per_step: int, unsafe_share: float, seed: int, epoch: int
) -> None:
    unsafe_per_step(rows_per_step, unsafe_share)
    order = stratified_order(n_benign, n_unsafe, rows_per_step, unsafe_share, seed, epoch)
    assert order == stratified_order(n_benign, n_unsafe, rows_per_step, unsafe_share, seed, epoch)
    assert len(order) == len(stratified_order(n_benign, n_unsafe, rows_per_step, unsafe_share, seed, epoch + 1))


def test_the_papers_setting() -> None:
    """20,000 + 500 rows, 96 a step, 5 %: 5 unsafe and 91 benign a step; 219 full steps and one of 71 + round(71 · 5/91) = 4."""
    order = stratified_order(20000, 500, 96, 0.05, seed=0, epoch=0)
    assert len(order) == 219 * 96 + 71 + 4
    uses = Counter(i for i in order if i >= 20000)
    assert sum(uses.values()) == 219 * 5 + 4 == 1099
    assert set(uses.values()) == {2, 3}


def test_seed_and_epoch_change_the_order() -> None:
    orders = [stratified_order(50, 10, 8, 0.2, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_each_round_of_the_unsafe_rows_has_an_order_of_its_own() -> None:
    """Three benign and one unsafe row a step: 20 steps draw each of 4 unsafe rows in 5 rounds."""
    drawn = [i - 60 for i in stratified_order(60, 4, 4, 0.25, 0, 0) if i >= 60]
    rounds = [tuple(drawn[start : start + 4]) for start in range(0, 20, 4)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in rounds)
    assert len(set(rounds)) > 1


def test_unsafe_rows_stand_at_any_place_of_a_step() -> None:
    places = Counter(
        place for epoch in range(100) for place, i in enumerate(stratified_order(7, 3, 8, 0.1, 0, epoch)) if i >= 7
    )
    # Each of the 8 places is drawn Binomial(100, 1/8) times: mean 12.5, standard deviation 3.3.
    assert set(places) == set(range(8))
    assert max(places.values()) < 28


@pytest.mark.parametrize(("n_unsafe", "share"), [(0, 0.2), (5, 0.0)])
def test_without_unsafe_rows_or_share_the_order_is_benign(n_unsafe: int, share: float) -> None:
    assert sorted(stratified_order(20, n_unsafe, 8, share, 0, 0)) == list(range(20))


@pytest.mark.parametrize(("rows_per_step", "share"), [(8, 1.0), (8, 0.95), (1, 0.05)])
def test_a_share_that_leaves_no_room_is_refused(rows_per_step: int, share: float) -> None:
    with pytest.raises(ConfigError, match=f"unsafe_share {share}: together . of the {rows_per_step} rows"):
        stratified_order(20, 5, rows_per_step, share, 0, 0)


@pytest.mark.parametrize(
    ("rows_per_step", "share", "message"), [(0, 0.1, "rows_per_step: got 0"), (8, -0.1, "unsafe_share: got -0.1")]
)
def test_senseless_sizes_are_refused(rows_per_step: int, share: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stratified_order(20, 5, rows_per_step, share, 0, 0)


def test_two_cycles_keep_their_shares_and_their_own_orders() -> None:
    """Of 16 rows 25 % and 12.5 % are 4 and 2; the first cycle's draws are those that it has alone."""
    cycles = [Cycle("unsafe", 5, 0.25), Cycle("added", 3, 0.125)]
    order = order_of(100, cycles, 16, 0, 0)
    for start in range(0, 160, 16):
        step = order[start : start + 16]
        assert (sum(100 <= i < 105 for i in step), sum(i >= 105 for i in step)) == (4, 2)
    assert sorted(i for i in order if i < 100) == list(range(100))
    uses = Counter(i for i in order if i >= 105)
    assert max(uses.values()) - min(uses.values()) <= 1
    alone = order_of(120, cycles[:1], 16, 0, 0)  # 10 steps too
    for start in range(0, 160, 16):
        step, other = order[start : start + 16], alone[start : start + 16]
        assert sorted(i - 100 for i in step if 100 <= i < 105) == sorted(i - 120 for i in other if i >= 120)
    with pytest.raises(ConfigError, match=r"unsafe_share 0.6, extra_share 0.4: together 16 of the 16 rows"):
        order_of(100, [Cycle("unsafe", 5, 0.6), Cycle("added", 3, 0.4)], 16, 0, 0)


def test_an_epoch_without_benign_rows_is_refused() -> None:
    with pytest.raises(DataError, match="there are no benign rows"):
        stratified_order(0, 5, 8, 0.1, 0, 0)


def test_the_order_is_the_same_in_another_process() -> None:
    code = "from steerclear.data.mixing import Cycle, stratified_order as s; print(s(30, [Cycle('unsafe', 4, 0.2)], 8, 1, 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(stratified_order(30, 4, 8, 0.2, 1, 2))
