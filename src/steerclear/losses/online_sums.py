"""Sums over the vocabulary without the target y, kept online: all are relative to the largest logit seen so far.

Means of a similarity are kept relative to a pivot, its value at the token with that largest logit. Where q is concentrated on one
token, the gradient of the mean is the small difference of nearly equal terms, and the pivot takes the equal part out first.

Shape suffixes: N scored tokens, M those of a chunk, C tokens of a tile, D hidden width, E embedding width, 1 one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from steerclear.losses.vocabulary_pass import Pass, Tile, add_product


class Sums(NamedTuple):
    """The result of a pass."""

    log_sum_N: Tensor
    """Log-sum-exp of the logits of the others."""
    odds_N: Tensor
    """Log-odds of y."""
    mean: Tensor | None
    """Mean similarity to y [N], or mean unit embedding [N, E], over the others."""
    pivot_N1: Tensor | None
    """Of a mean similarity: its pivot, times the norm of y's embedding ..."""
    offset_N1: Tensor | None
    """... and mean less pivot, times that norm."""


class OnlineSums:
    """The running sums of a pass.

    Args:
        gradient: also keep the sums of head rows from which `gradients` are made.
    """

    def __init__(self, walk: Pass, *, gradient: bool) -> None:
        self._walk, job = walk, walk.job
        self._of_similarity = job.kind is not None

        def zeros(width: int) -> Tensor:
            return torch.zeros(len(walk.targets_N), width, dtype=job.exact, device=walk.hidden_ND.device)

        # The lowest finite number, as infinity less infinity is not a number.
        self._largest_N1 = zeros(1).fill_(torch.finfo(job.exact).min)
        self._mass_N1, self._logit_N1, self._pivot_N1 = zeros(1), zeros(1), zeros(1)
        self._head_ND = zeros(walk.hidden_ND.size(1)) if gradient else None
        self._mean: Tensor | None = None
        self._similar_ND: Tensor | None = None
        if self._of_similarity:
            self._own_NE, self._own_inverse_N1 = walk.target_rows()
            self._mean = zeros(1)
            self._similar_ND = zeros(walk.hidden_ND.size(1)) if gradient else None
        elif job.embeddings is not None:
            self._mean = zeros(job.embeddings.raw_VE.size(1))

    def add(self, chunk: slice, tile: Tile) -> None:
        """Add a tile's share for a chunk of tokens."""
        logits_MC, slope_MC = self._walk.logits(chunk, tile)
        self._take_target_out(logits_MC, chunk, tile)
        values_MC = None
        if self._of_similarity:
            values_MC = self._walk.similarities(self._own_NE[chunk], tile)
            top_M1, column_M1 = logits_MC.max(1, keepdim=True)
            self._move_pivot(chunk, values_MC.gather(1, column_M1), top_M1 > self._largest_N1[chunk])
        else:
            top_M1 = logits_MC.amax(1, keepdim=True)  # on a CPU five times as fast as with the columns
        largest_M1 = torch.maximum(self._largest_N1[chunk], top_M1)
        shrink_M1 = (self._largest_N1[chunk] - largest_M1).exp_()
        self._largest_N1[chunk] = largest_M1
        weights_MC = logits_MC.sub_(largest_M1).exp_()

        self._mass_N1[chunk].mul_(shrink_M1).add_(weights_MC.sum(1, keepdim=True))
        if values_MC is not None and self._mean is not None:
            values_MC.sub_(self._pivot_N1[chunk]).mul_(weights_MC)
            self._mean[chunk].mul_(shrink_M1).add_(values_MC.sum(1, keepdim=True))
        elif self._mean is not None and tile.embed_CE is not None:
            add_product(self._mean[chunk].mul_(shrink_M1), weights_MC, tile.embed_CE)
        for sum_ND, factor_MC in ((self._head_ND, weights_MC), (self._similar_ND, values_MC)):
            if sum_ND is not None and factor_MC is not None:
                if slope_MC is not None:
                    factor_MC.mul_(slope_MC)
                add_product(sum_ND[chunk].mul_(shrink_M1), factor_MC, tile.weight_CD)

    def _take_target_out(self, logits_MC: Tensor, chunk: slice, tile: Tile) -> None:
        column_M1, inside_M1 = self._walk.target_columns(chunk, tile)
        found_M1 = logits_MC.gather(1, column_M1)
        self._logit_N1[chunk] = torch.where(inside_M1, found_M1, self._logit_N1[chunk])
        logits_MC.scatter_(1, column_M1, found_M1.masked_fill(inside_M1, -torch.inf))

    def _move_pivot(self, chunk: slice, found_M1: Tensor, larger_M1: Tensor) -> None:
        assert self._mean is not None
        old_M1 = self._pivot_N1[chunk]
        moved_M1 = torch.where(larger_M1, old_M1 - found_M1, 0.0)
        self._mean[chunk].addcmul_(moved_M1, self._mass_N1[chunk])
        if self._similar_ND is not None and self._head_ND is not None:
            self._similar_ND[chunk].addcmul_(moved_M1, self._head_ND[chunk])
        self._pivot_N1[chunk] = torch.where(larger_M1, found_M1, old_M1)

    def result(self) -> Sums:
        """Return the sums as they stand; call it after the last tile."""
        log_sum_N1 = self._largest_N1 + self._mass_N1.log()
        log_sum_N, odds_N = log_sum_N1.squeeze(1), (self._logit_N1 - log_sum_N1).squeeze(1)
        if self._mean is None:
            return Sums(log_sum_N, odds_N, None, None, None)
        mean = self._mean / self._mass_N1
        if not self._of_similarity:
            return Sums(log_sum_N, odds_N, mean, None, None)
        similarity_N = ((self._pivot_N1 + mean) * self._own_inverse_N1).squeeze(1)
        return Sums(log_sum_N, odds_N, similarity_N, self._pivot_N1, mean)

    def gradients(self, sums: Sums) -> list[Tensor]:
        """Return the derivatives by the hidden states [N, D]: of the log-odds and, if there is one, of the mean similarity."""
        assert self._head_ND is not None
        job, walk = self._walk.job, self._walk
        others_ND = self._head_ND.div_(self._mass_N1)
        own_ND = walk.weight_VD[walk.targets_N].to(job.exact)
        if job.softcap is not None:
            own_ND = own_ND * (1 - (self._logit_N1 / job.softcap).square())
        found = [own_ND.sub_(others_ND).mul_(job.scale)]
        if self._similar_ND is not None and sums.offset_N1 is not None:
            by_mean_ND = self._similar_ND.div_(self._mass_N1).addcmul_(sums.offset_N1, others_ND, value=-1)
            found.append(by_mean_ND.mul_(self._own_inverse_N1 * job.scale))
        return found
