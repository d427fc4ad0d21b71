"""Which rows are used, and in which order: nested subsets, the held-out rows, the stratified order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.errors import ConfigError, DataError
from steerclear.records import Row


@dataclass(frozen=True)
class Cycle:
    """Rows that go round and round, the same share of every optimizer step."""

    name: str
    """Its order depends on it."""
    rows: int
    share: float
    """Share of a step's rows. At 0, or without rows, none is drawn."""

    @property
    def setting(self) -> str:
        """The setting that has the share. Extra rows keep the name "added" here, as the order of their draws hangs on it."""
        return f"{'extra' if self.name == 'added' else self.name}_share"


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


def stratified_order(n_benign: int, cycles: Sequence[Cycle], rows_per_step: int, seed: int, epoch: int) -> list[int]:
    """Return the rows of one epoch, so that every optimizer step has the same share of each cycle.

    Indices below ``n_benign`` are benign rows; those of the cycles follow, one cycle after the other. Each consecutive block of
    ``rows_per_step`` has u = max(1, round(share · rows_per_step)) rows of a cycle, at random places. The epoch is one pass
    over the benign rows; the last block may be shorter and keeps the proportions as nearly as whole rows allow, at least one
    row of each cycle.
    A cycle's rows come in a new order each time round, and on from where the epoch before stopped, so at any time all have
    been used equally often within one.

    Args:
        rows_per_step: rows of one optimizer step over all ranks and accumulation steps.
        epoch: number of the epoch, from 0.

    Raises:
        ConfigError: a share is negative, or they leave no room for benign rows.
        DataError: there are no benign rows.
    """
    per_step = _rows_of_cycles(cycles, rows_per_step)
    if n_benign < 1:
        raise DataError("there are no benign rows, so an epoch has no end. Add benign rows, or sample uniformly.")
    benign = _shuffled(n_benign, f"benign/{seed}/{epoch}")
    room = rows_per_step - sum(per_step)
    blocks = [benign[start : start + room] for start in range(0, n_benign, room)]
    drawn: list[list[int]] = [[] for _ in blocks]
    first = n_benign
    for cycle, count in zip(cycles, per_step, strict=True):
        shares = [max(1, round(len(block) * count / room)) if count else 0 for block in blocks]
        draws = iter(_draws(cycle, epoch * sum(shares), sum(shares), seed))
        for step, share in zip(drawn, shares, strict=True):
            step += [first + next(draws) for _ in range(share)]
        first += cycle.rows
    places = random.Random(f"places/{seed}/{epoch}")
    order = []
    for block, extra in zip(blocks, drawn, strict=True):
        step = block + extra
        if extra:
            places.shuffle(step)
        order += step
    return order


def _rows_of_cycles(cycles: Sequence[Cycle], rows_per_step: int) -> list[int]:
    if rows_per_step < 1:
        raise ConfigError(f"rows_per_step: got {rows_per_step}, allowed: 1 or more.")
    counts = []
    for cycle in cycles:
        if cycle.share < 0:
            raise ConfigError(f"{cycle.setting}: got {cycle.share}, allowed: 0 or more.")
        counts.append(max(1, round(cycle.share * rows_per_step)) if cycle.rows and cycle.share else 0)
    if sum(counts) >= rows_per_step:
        shares = ", ".join(f"{cycle.setting} {cycle.share}" for cycle in cycles)
        raise ConfigError(
            f"{shares}: together {sum(counts)} of the {rows_per_step} rows of a step, which leaves no room for benign ones. "
            "Lower a share or use more rows per step."
        )
    return counts


def _draws(cycle: Cycle, start: int, count: int, seed: int) -> list[int]:
    """Return draws ``start`` to ``start + count`` of the endless sequence of shuffled passes over a cycle's rows."""
    if not count:
        return []
    n, name = cycle.rows, cycle.name
    first, last = start // n, (start + count - 1) // n
    passes = [i for number in range(first, last + 1) for i in _shuffled(n, f"{name}/{seed}/{number}")]
    return passes[start - first * n :][:count]


def _shuffled(n: int, key: str) -> list[int]:
    order = list(range(n))
    random.Random(key).shuffle(order)  # seeded by the text's SHA-512, so alike in every process
    return order
