"""Gradients from tiles that are computed again, where the head trains or a mean embedding has a gradient of its own.

Shape suffixes: N scored tokens, M those of a chunk, V vocabulary, C tokens of a tile, D hidden width, E embedding width, 1 one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steerclear.losses.online_sums import Sums
from steerclear.losses.vocabulary_pass import Pass, Tile, add_product


class _Pull:
    """The gradient of the outputs by the logits of the tokens other than y: q(v) · (value of v - level)."""

    def __init__(self, walk: Pass, sums: Sums, grad_odds_N1: Tensor, grad_mean: Tensor | None) -> None:
        self._walk = walk
        self._level_N1 = grad_odds_N1
        self._query_NE: Tensor | None = None
        self._factor_N1: Tensor | None = None
        if sums.mean is None or grad_mean is None:
            return
        if sums.pivot_N1 is not None and sums.offset_N1 is not None:
            self._query_NE, inverse_N1 = walk.target_rows()
            self._factor_N1, self._pivot_N1 = inverse_N1 * grad_mean[:, None], sums.pivot_N1
            self._level_N1 = grad_odds_N1 + self._factor_N1 * sums.offset_N1
        else:
            self._query_NE = grad_mean.to(walk.job.dtype)
            # With the rounded query, so that level and values differ by nothing but their tokens.
            self._level_N1 = grad_odds_N1 + (self._query_NE.to(walk.job.exact) * sums.mean).sum(1, keepdim=True)

    def times(self, share_MC: Tensor, chunk: slice, tile: Tile) -> Tensor:
        """Return q · (value - level) [M, C], in the place of q."""
        if self._query_NE is None or tile.embed_CE is None:
            return share_MC.mul_(-self._level_N1[chunk])
        if self._factor_N1 is None:
            values_MC = self._walk.product("values", self._query_NE[chunk], tile.embed_CE.T)
        else:
            values_MC = self._walk.similarities(self._query_NE[chunk], tile)
            values_MC.sub_(self._pivot_N1[chunk]).mul_(self._factor_N1[chunk])
        return share_MC.mul_(values_MC.sub_(self._level_N1[chunk]))


def gradients_again(
    walk: Pass,
    sums: Sums,
    grad_odds_N: Tensor | None,
    grad_mean: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the tiles again and return the gradients by hidden states, head weight and bias, where ``needs`` says so.

    Args:
        grad_odds_N: the incoming gradient of the log-odds.
        grad_mean: that of the mean, [N] or [N, E].
    """
    job, weight_VD, bias_V = walk.job, walk.weight_VD, walk.bias_V
    grad_odds_N1 = (torch.zeros_like(sums.log_sum_N) if grad_odds_N is None else grad_odds_N)[:, None]
    pull = _Pull(walk, sums, grad_odds_N1, grad_mean)
    by_hidden_ND = torch.zeros_like(walk.hidden_ND, dtype=job.exact) if needs[0] else None
    by_weight_VD = torch.empty_like(weight_VD) if needs[1] else None
    by_bias_V = torch.empty_like(bias_V) if bias_V is not None and needs[2] else None
    for tile in walk.tiles():
        # Tile by tile in full precision, so that a low-precision head needs no float32 copy of its gradient.
        weight_CD = None if by_weight_VD is None else torch.zeros_like(tile.weight_CD, dtype=job.exact)
        bias_C = None if by_bias_V is None else torch.zeros_like(by_bias_V[tile.range], dtype=job.exact)
        for chunk in walk.chunks():
            by_logit_MC = _by_logits(walk, sums, pull, grad_odds_N1, chunk, tile)
            if by_hidden_ND is not None:
                add_product(by_hidden_ND[chunk], by_logit_MC, tile.weight_CD)
            if weight_CD is not None:
                add_product(weight_CD, by_logit_MC.T, walk.hidden_ND[chunk])
            if bias_C is not None:
                bias_C += by_logit_MC.sum(0)
        if by_weight_VD is not None and weight_CD is not None:
            by_weight_VD[tile.range] = weight_CD
        if by_bias_V is not None and bias_C is not None:
            by_bias_V[tile.range] = bias_C
    return by_hidden_ND, by_weight_VD, by_bias_V


def _by_logits(walk: Pass, sums: Sums, pull: _Pull, grad_odds_N1: Tensor, chunk: slice, tile: Tile) -> Tensor:
    """Return the gradient by h Wᵀ + b, before scale and soft-cap [M, C]."""
    logits_MC, slope_MC = walk.logits(chunk, tile)
    by_logit_MC = pull.times(logits_MC.sub_(sums.log_sum_N[chunk, None]).exp_(), chunk, tile)
    column_M1, inside_M1 = walk.target_columns(chunk, tile)
    # At y itself q means nothing, and may be infinite.
    own_M1 = torch.where(inside_M1, grad_odds_N1[chunk], by_logit_MC.gather(1, column_M1))
    by_logit_MC.scatter_(1, column_M1, own_M1)
    if slope_MC is not None:
        by_logit_MC.mul_(slope_MC)
    return by_logit_MC if walk.job.scale == 1 else by_logit_MC.mul_(walk.job.scale)
