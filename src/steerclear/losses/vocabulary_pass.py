"""A pass over the output head in tiles of the vocabulary and chunks of the scored tokens.

Shape suffixes: N scored tokens, M those of a chunk, V vocabulary, C tokens of a tile, D hidden width, E embedding width, 1 one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.losses.cost import TokenEmbeddings


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How large a piece of the logits exists at a time."""

    tokens: int
    """Scored tokens."""
    vocabulary: int
    """Tokens of the vocabulary."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.vocabulary < 1:
            raise ConfigError(f"tiles: got {self.tokens} x {self.vocabulary}, allowed: 1 or more of each.")


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
