"""A model's vocabulary as the losses read it: the output head, the token embeddings, and a pass over both in tiles.

Shape suffixes: N scored tokens, M those of a chunk, V vocabulary, C tokens of a tile, D hidden width, E embedding width, 1 one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from steerclear.losses.options import Tiles

_SMALLEST_NORM = 1e-12
_SLICE = 4096
"""Rows at a time where all rows are gone over."""


@dataclass(frozen=True)
class OutputHead:
    """The map from hidden states to logits: scale · (h Wᵀ + b), then soft-capped where the model does that."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    """Logits become softcap · tanh(logits / softcap)."""

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return the logits [N, V], at least float32."""
        raw_NV = torch.nn.functional.linear(hidden_ND.to(self.weight_VD.dtype), self.weight_VD, self.bias_V)
        logits_NV = raw_NV.to(torch.promote_types(raw_NV.dtype, torch.float32)) * self.scale
        return logits_NV if self.softcap is None else self.softcap * torch.tanh(logits_NV / self.softcap)


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


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a pass computes, and how."""

    tiles: Tiles
    scale: float
    softcap: float | None
    embeddings: TokenEmbeddings | None
    """What is averaged beside the log-odds: these, or the similarity to y of ``kind`` where that is set."""
    kind: str | None
    dtype: torch.dtype
    """Of the factors of matrix products."""
    exact: torch.dtype
    """Of their results and of everything else: float32, or float64 for such a head."""


@dataclass(frozen=True)
class Tile:
    """A part of the vocabulary."""

    range: slice
    weight_CD: Tensor
    bias_C: Tensor | None
    embed_CE: Tensor | None
    """Unit embeddings where they are averaged; rows before they are normalised where similarities are."""
    inverse_C: Tensor | None
    """1/norm of the latter."""


class Pass:
    """A walk over tiles of the vocabulary and, within each, over chunks of the tokens. Buffers are used again."""

    def __init__(
        self, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, job: Job
    ) -> None:
        self.hidden_ND = hidden_ND.to(job.dtype)
        self.weight_VD, self.bias_V, self.targets_N, self.job = weight_VD, bias_V, targets_N, job
        self._buffers: dict[str, Tensor] = {}

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles in the vocabulary's order; none where no token is scored."""
        job, size = self.job, len(self.weight_VD) if len(self.targets_N) else 0
        for start in range(0, size, job.tiles.vocabulary):
            part = slice(start, min(start + job.tiles.vocabulary, size))
            embed_CE: Tensor | None = None
            inverse_C: Tensor | None = None
            if job.embeddings is not None and job.kind is None:
                # Rounded once, so that the mean and its gradient see the very same rows.
                embed_CE = job.embeddings.unit(part).to(job.dtype)
            elif job.embeddings is not None:
                # Rows as stored keep all their digits in low precision; unit ones would be rounded, as centred ones are.
                embed_CE, inverse_C = job.embeddings.part(part)
                embed_CE, inverse_C = embed_CE.to(job.dtype), inverse_C.to(job.exact)
            bias_C = None if self.bias_V is None else self.bias_V[part]
            yield Tile(part, self.weight_VD[part].to(job.dtype), bias_C, embed_CE, inverse_C)

    def chunks(self) -> Iterator[slice]:
        """Yield slices of the tokens."""
        step = self.job.tiles.tokens
        return (slice(start, start + step) for start in range(0, len(self.targets_N), step))

    def logits(self, chunk: slice, tile: Tile) -> tuple[Tensor, Tensor | None]:
        """Return the logits [M, C], and the soft-cap's slope at each where the head has one."""
        logits_MC = self.product("logits", self.hidden_ND[chunk], tile.weight_CD.T)
        if tile.bias_C is not None:
            logits_MC.add_(tile.bias_C)
        if self.job.scale != 1:
            logits_MC.mul_(self.job.scale)
        if self.job.softcap is None:
            return logits_MC, None
        logits_MC.div_(self.job.softcap).tanh_()
        slope_MC = torch.square(logits_MC, out=self.buffer("slope", logits_MC)).neg_().add_(1.0)
        return logits_MC.mul_(self.job.softcap), slope_MC

    def target_columns(self, chunk: slice, tile: Tile) -> tuple[Tensor, Tensor]:
        """Return each token's column of y [M, 1], clamped into the tile, and whether y is in the tile [M, 1]."""
        column_M1 = (self.targets_N[chunk] - tile.range.start)[:, None]
        last = len(tile.weight_CD) - 1
        return column_M1.clamp(0, last), (column_M1 >= 0) & (column_M1 <= last)

    def target_rows(self) -> tuple[Tensor, Tensor]:
        """Return the targets' embeddings before they are normalised [N, E], as factors of products, and 1/norm of each [N, 1]."""
        assert self.job.embeddings is not None
        rows_NE, inverse_N = self.job.embeddings.part(self.targets_N)
        return rows_NE.to(self.job.dtype), inverse_N.to(self.job.exact)[:, None]

    def similarities(self, rows_ME: Tensor, tile: Tile) -> Tensor:
        """Return what each row of ``target_rows`` has for 1 - c with the tile's tokens [M, C], times the row's norm."""
        assert tile.embed_CE is not None
        similarity_MC = self.product("values", rows_ME, tile.embed_CE.T).mul_(tile.inverse_C)
        return similarity_MC.clamp_(min=0) if self.job.kind == "clipped" else similarity_MC

    def product(self, name: str, left_MK: Tensor, right_KC: Tensor) -> Tensor:
        """Return left @ right [M, C] in the buffer of that name."""
        out_MC = self._view(name, len(left_MK), right_KC.size(1))
        if left_MK.dtype != out_MC.dtype and left_MK.is_cuda:
            return torch.mm(left_MK, right_KC, out_dtype=out_MC.dtype, out=out_MC)
        return torch.mm(left_MK.to(out_MC.dtype), right_KC.to(out_MC.dtype), out=out_MC)

    def buffer(self, name: str, like_MC: Tensor) -> Tensor:
        """Return the buffer of that name, in the shape of another."""
        return self._view(name, *like_MC.shape)

    def _view(self, name: str, rows: int, columns: int) -> Tensor:
        if name not in self._buffers:
            tiles = self.job.tiles
            most = min(tiles.tokens, len(self.targets_N)) * min(tiles.vocabulary, len(self.weight_VD))
            self._buffers[name] = torch.empty(most, dtype=self.job.exact, device=self.hidden_ND.device)
        return self._buffers[name][: rows * columns].view(rows, columns)


def add_product(sum_XY: Tensor, left_XK: Tensor, right_KY: Tensor) -> None:
    """Add left @ right to a sum, in the sum's precision."""
    left_XK = left_XK.to(right_KY.dtype)
    if right_KY.dtype != sum_XY.dtype and sum_XY.is_cuda:
        torch.addmm(sum_XY, left_XK, right_KY, out_dtype=sum_XY.dtype, out=sum_XY)
    else:
        sum_XY.addmm_(left_XK.to(sum_XY.dtype), right_KY.to(sum_XY.dtype))
