"""A sampler that puts the same share of unsafe rows into every optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from steerclear.data.mixing import stratified_order


class StratifiedSampler(Sampler[int]):
    """Yields row indices; each consecutive block of ``rows_per_step`` has the wanted share of unsafe rows, at least one.

    An epoch is one pass over the benign rows; the unsafe rows cycle. The order depends on seed and epoch alone, so a resumed run
    sees the rows of an unbroken one.

    Args:
        unsafe: for each row of the data set whether it is unsafe.
        rows_per_step: rows of one optimizer step over all ranks and accumulation steps.
        unsafe_share: share of unsafe rows in a step.
    """

    def __init__(self, unsafe: Sequence[bool], rows_per_step: int, unsafe_share: float, seed: int) -> None:
        self._benign = [i for i, flag in enumerate(unsafe) if not flag]
        self._unsafe = [i for i, flag in enumerate(unsafe) if flag]
        self._rows_per_step, self._share, self._seed = rows_per_step, unsafe_share, seed
        self._epoch = 0
        self._length = len(self._order())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; the trainer calls it."""
        self._epoch = epoch

    def _order(self) -> list[int]:
        order = stratified_order(
            len(self._benign), len(self._unsafe), self._rows_per_step, self._share, self._seed, self._epoch
        )
        rows = self._benign + self._unsafe
        return [rows[i] for i in order]

    @property
    def unsafe_draws(self) -> int:
        """Number of unsafe rows drawn in an epoch."""
        return len(self) - len(self._benign)

    def __iter__(self) -> Iterator[int]:
        return iter(self._order())

    def __len__(self) -> int:
        return self._length
