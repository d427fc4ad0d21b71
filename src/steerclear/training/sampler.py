"""A sampler that puts the same share of unsafe rows, and of added rows, into every optimizer step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Sampler

from steerclear.data.mixing import Cycle, stratified_order

BENIGN, UNSAFE, ADDED = "benign", "unsafe", "added"
"""Which part of the training data a row belongs to."""


def rows_per_step(args: Any) -> int:
    """Return the rows of one optimizer step over all ranks and accumulation steps, by a trainer's arguments."""
    rows: int = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return rows


def seed_of_rows(args: Any) -> int:
    """Return the seed of the rows' order, by a trainer's arguments."""
    seed: int = args.seed if args.data_seed is None else args.data_seed
    return seed


class StratifiedSampler(Sampler[int]):
    """Yields row indices; each consecutive block of ``rows_per_step`` has the wanted shares, at least one row of each part.

    An epoch is one pass over the benign rows; the other parts cycle. The order depends on seed and epoch alone, so a resumed run
    sees the rows of an unbroken one.

    Args:
        parts: the part of each row of the data set.
        rows_per_step: rows of one optimizer step over all ranks and accumulation steps.
        shares: part -> its share of the rows in a step; a part without a share is one with the benign rows.
    """

    def __init__(self, parts: Sequence[str], rows_per_step: int, shares: Mapping[str, float], seed: int) -> None:
        places = {name: [i for i, part in enumerate(parts) if part == name] for name in shares}
        benign = [i for i, part in enumerate(parts) if part not in shares]
        self._rows = benign + [i for name in shares for i in places[name]]
        self._cycles = [Cycle(name, len(places[name]), share) for name, share in shares.items()]
        self._n_benign, self._rows_per_step, self._seed = len(benign), rows_per_step, seed
        self._epoch = 0
        order = self._order()
        self._length = len(order)
        drawn = Counter(parts[i] for i in order)
        self.passes = {cycle.name: drawn[cycle.name] / cycle.rows for cycle in self._cycles if cycle.rows}
        """Part -> how often each of its rows is seen in an epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; the trainer calls it."""
        self._epoch = epoch

    def _order(self) -> list[int]:
        order = stratified_order(self._n_benign, self._cycles, self._rows_per_step, self._seed, self._epoch)
        return [self._rows[i] for i in order]

    def __iter__(self) -> Iterator[int]:
        return iter(self._order())

    def __len__(self) -> int:
        return self._length
