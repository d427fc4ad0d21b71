"""Which rows are used, and in which order: nested subsets, the held-out rows, the stratified order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from steerclear.errors import ConfigError, DataError
from steerclear.records import Row


def nested_subset(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Return ``count`` rows in an order that depends on the seed and each row's id alone.

    So smaller subsets are the beginning of larger ones, whatever order the rows come in, and rows added later push out as few
    as possible.

    Raises:
        DataError: fewer rows are there than asked for.
    """
    if not 0 <= count <= len(rows):
        raise DataError(f"{count} rows are asked for, but there are {len(rows)}. Lower the count or add rows.")
    return _ranked(rows, "subset", seed)[:count]


def split_heldout(rows: Sequence[Row], count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and ``count`` rows held out, each in the order given.

    The choice depends on the seed and each row's id alone, and is independent of `nested_subset`.

    Raises:
        DataError: nothing would be left to train on.
    """
    if not 0 <= count < len(rows):
        raise DataError(
            f"{count} rows are asked for to be held out, but there are {len(rows)} and some must be left to train on. "
            "Lower the count or add rows."
        )
    held = {id(row) for row in _ranked(rows, "heldout", seed)[:count]}
    return [row for row in rows if id(row) not in held], [row for row in rows if id(row) in held]


def _ranked(rows: Sequence[Row], purpose: str, seed: int) -> list[Row]:
    return sorted(rows, key=lambda row: hashlib.sha256(f"{purpose}\n{seed}\n{row.id}".encode()).digest())


def stratified_order(
    n_benign: int, n_unsafe: int, rows_per_step: int, unsafe_share: float, seed: int, epoch: int
) -> list[int]:
    """Return the rows of one epoch, so that every optimizer step has the same share of unsafe ones.

    Indices below ``n_benign`` are benign rows, ``n_benign`` and above unsafe ones. Each consecutive block of
    ``rows_per_step`` has u = max(1, round(unsafe_share · rows_per_step)) unsafe rows at random places. The epoch is one pass
    over the benign rows; the last block may be shorter and keeps the proportion u : (rows_per_step - u) as nearly as whole
    rows allow, at least one unsafe.
    The unsafe rows go round and round, in a new order each time and on from where the epoch before stopped, so at any time
    all have been used equally often within one.

    Args:
        rows_per_step: rows of one optimizer step over all ranks and accumulation steps.
        unsafe_share: share of unsafe rows in a step. At 0, or without unsafe rows, the order has benign rows only.
        epoch: number of the epoch, from 0.

    Raises:
        ConfigError: the share is negative or leaves no room for benign rows.
        DataError: there are no benign rows.
    """
    per_step = _unsafe_per_step(n_unsafe, rows_per_step, unsafe_share)
    if n_benign < 1:
        raise DataError("there are no benign rows, so an epoch has no end. Add benign rows, or sample uniformly.")
    benign = _shuffled(n_benign, f"benign/{seed}/{epoch}")
    if not per_step:
        return benign
    room = rows_per_step - per_step
    blocks = [benign[start : start + room] for start in range(0, n_benign, room)]
    shares = [max(1, round(len(block) * per_step / room)) for block in blocks]
    draws = _draws(n_unsafe, epoch * sum(shares), sum(shares), seed)
    places = random.Random(f"places/{seed}/{epoch}")
    order, used = [], 0
    for block, share in zip(blocks, shares, strict=True):
        step = block + [n_benign + i for i in draws[used : used + share]]
        places.shuffle(step)
        order += step
        used += share
    return order


def _unsafe_per_step(n_unsafe: int, rows_per_step: int, unsafe_share: float) -> int:
    if rows_per_step < 1 or unsafe_share < 0:
        raise ConfigError(
            f"rows_per_step: got {rows_per_step}, allowed: 1 or more; unsafe_share: got {unsafe_share}, allowed: 0 or more."
        )
    if not n_unsafe or unsafe_share == 0:
        return 0
    count = max(1, round(unsafe_share * rows_per_step))
    if count >= rows_per_step:
        raise ConfigError(
            f"unsafe_share: got {unsafe_share}, which makes {count} of the {rows_per_step} rows of a step unsafe and leaves no "
            "room for benign ones. Lower the share or use more rows per step."
        )
    return count


def _draws(n: int, start: int, count: int, seed: int) -> list[int]:
    """Return draws ``start`` to ``start + count`` of the endless sequence of shuffled passes over n rows."""
    first, last = start // n, (start + count - 1) // n
    passes = [i for number in range(first, last + 1) for i in _shuffled(n, f"unsafe/{seed}/{number}")]
    return passes[start - first * n :][:count]


def _shuffled(n: int, key: str) -> list[int]:
    order = list(range(n))
    random.Random(key).shuffle(order)  # seeded by the text's SHA-512, so alike in every process
    return order
