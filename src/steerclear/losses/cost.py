"""The ground cost of the Earth Mover Distance: how far apart two tokens are in meaning (paper, Eq. 4).

Shape suffixes: V vocabulary, C tokens of a part of it, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from steerclear.errors import ConfigError, one_of

COSTS = ("cosine", "clipped")
EMBEDDINGS = ("output", "input")

_SMALLEST_NORM = 1e-12
_SLICE = 4096
"""Rows at a time where all rows are gone over."""


@dataclass(frozen=True, kw_only=True)
class GroundCost:
    """Which cost c(v, y) between tokens the EMD moves mass at.

    With unit embeddings ê: ``cosine`` is 1 - ê_v·ê_y, in [0, 2] (Eq. 4). ``clipped`` is 1 - max(ê_v·ê_y, 0), in [0, 1]: every
    unrelated token is equally far, so nothing is gained by running to the one token that is farthest.
    """

    kind: str = "cosine"
    """``cosine`` or ``clipped``."""
    embedding: str = "output"
    """Whose rows are the embeddings: ``output`` (the head, as the paper's EMO reference does) or ``input``."""
    centred: bool = False
    """Subtract the mean embedding before normalising: most embeddings share one large common direction."""

    def __post_init__(self) -> None:
        if self.kind not in COSTS:
            raise ConfigError(one_of("cost", self.kind, COSTS))
        if self.embedding not in EMBEDDINGS:
            raise ConfigError(one_of("cost_embedding", self.embedding, EMBEDDINGS))


class TokenEmbeddings:
    """The embeddings ê [V, E] that the cost compares: detached, normalised where they are used, never copied as a whole.

    A row of norm zero (vocabularies are padded with such rows) stays zero, so its cost to every token is 1. The mean that
    ``centred`` subtracts is over the other rows.
    """

    def __init__(self, weight_VE: Tensor, *, centred: bool = False) -> None:
        self.raw_VE = weight_VE.detach()
        self.dtype = torch.promote_types(weight_VE.dtype, torch.float32)
        self._centred = centred

    @cached_property
    def _mean(self) -> Tensor:
        total_E = torch.zeros(self.raw_VE.size(1), dtype=self.dtype, device=self.raw_VE.device)
        used = torch.zeros((), dtype=torch.long, device=self.raw_VE.device)
        for rows_CE in self.raw_VE.split(_SLICE):
            total_E += rows_CE.to(self.dtype).sum(0)
            used += rows_CE.any(-1).sum()
        return total_E / used

    def part(self, which: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return rows [C, E] before they are normalised, and 1/norm of each [C]: ê is their product.

        Rows that need no centring come as they are stored, without a copy if ``which`` is a slice. Norms are at least float32.
        """
        rows_CE = self.raw_VE[which]
        if self._centred and len(rows_CE):
            rows_CE = rows_CE.to(self.dtype)
            unused_C1 = torch.linalg.vector_norm(rows_CE, dim=-1, keepdim=True) == 0
            rows_CE = (rows_CE - self._mean).masked_fill_(unused_C1, 0.0)
        norm_C = torch.linalg.vector_norm(rows_CE, dim=-1, dtype=self.dtype)
        return rows_CE, norm_C.clamp_(min=_SMALLEST_NORM).reciprocal_()

    def unit(self, which: slice | Tensor = slice(None)) -> Tensor:
        """Return ê [C, E] of the chosen tokens, at least float32."""
        rows_CE, inverse_C = self.part(which)
        return rows_CE.to(self.dtype) * inverse_C[:, None]
