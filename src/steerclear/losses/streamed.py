"""The two primitives in one pass over the vocabulary: no logits matrix, no copy of the head or of the embeddings.

Same functions and values as `reference`. A pass is attention with hidden states as queries, the head as keys and unit embeddings
as values: an online softmax in at least float32, rescaled when a tile brings a larger logit.

Sums run over the *other* tokens only, under q(v) = p(v) / (1 - p(y)), and y is mixed in at the end: where p(y) is near 1, what is
left is then a small number with all its digits, not the difference of two numbers near 1.

Where the head does not train (LoRA), the gradient of the log-odds and of the expected cost is formed in the forward pass, from
two more running sums, and backward is a multiplication: 2 matrix products in all for the log-odds, the fewest there can be, and 4
for the expected cost. Where the head trains, and for the expected embedding, backward computes the tiles again.

Shape suffixes: N scored tokens, M those of a chunk, V vocabulary, C tokens of a tile, D hidden width, E embedding width, 1 one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerclear.losses.options import Tiles
from steerclear.losses.vocabulary import Job, OutputHead, Pass, Tile, TokenEmbeddings, add_product

CPU_TILES = Tiles(tokens=1024, vocabulary=1024)
"""Two such tiles and the head's rows stay near the cores' caches; larger ones are no faster (docs/performance.md)."""
GPU_TILES = Tiles(tokens=4096, vocabulary=8192)
"""Large enough to fill the matrix units; 128 MiB a tile in float32. Not measured on a GPU."""


def log_odds(hidden_ND: Tensor, targets_N: Tensor, head: OutputHead, *, tiles: Tiles | None = None) -> Tensor:
    """Return log(p(y) / (1 - p(y))) [N]; see `reference.log_odds`."""
    return _stream(hidden_ND, targets_N, head, tiles)[0]


def expected_cost(
    hidden_ND: Tensor,
    targets_N: Tensor,
    head: OutputHead,
    embeddings: TokenEmbeddings,
    kind: str,
    *,
    tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor]:
    """Return Σ_v p(v) c(v, y) [N], and the log-odds of y [N] without gradient; see `reference.expected_cost`."""
    odds_N, similarity_N = _stream(hidden_ND, targets_N, head, tiles, embeddings, kind)
    # y costs nothing against itself, unless its embedding is zero: then every cost is 1.
    own_cost_N = 1.0 - embeddings.unit(targets_N).any(-1).to(odds_N.dtype)
    return (-odds_N).sigmoid() * (1 - similarity_N) + odds_N.sigmoid() * own_cost_N, odds_N.detach()


def expected_embedding(
    hidden_ND: Tensor, targets_N: Tensor, head: OutputHead, embeddings: TokenEmbeddings, *, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor]:
    """Return p̄ = Σ_v p(v) ê_v [N, E], and the log-odds of y [N] without gradient; see `reference.expected_embedding`."""
    odds_N, others_NE = _stream(hidden_ND, targets_N, head, tiles, embeddings)
    own_NE = embeddings.unit(targets_N).to(others_NE.dtype)
    return (-odds_N).sigmoid()[:, None] * others_NE + odds_N.sigmoid()[:, None] * own_NE, odds_N.detach()


def _stream(
    hidden_ND: Tensor,
    targets_N: Tensor,
    head: OutputHead,
    tiles: Tiles | None,
    embeddings: TokenEmbeddings | None = None,
    kind: str | None = None,
) -> tuple[Tensor, Any]:
    """Return the log-odds [N] and the mean, under q, of the similarity to y of ``kind`` [N], else of ê [N, E], else None."""
    device = hidden_ND.device
    dtype = head.weight_VD.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    exact = torch.promote_types(dtype, torch.float32)
    job = Job(
        tiles=tiles or (CPU_TILES if device.type == "cpu" else GPU_TILES),
        scale=head.scale,
        softcap=head.softcap,
        embeddings=embeddings,
        kind=kind,
        dtype=_factors(device, dtype),
        exact=exact,
    )
    with torch.autocast(device.type, enabled=False):
        return _Primitives.apply(hidden_ND, head.weight_VD, head.bias_V, targets_N, job, torch.is_grad_enabled())


def _factors(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the factors of products: CUDA multiplies low-precision matrices into float32, other devices do not."""
    return dtype if device.type == "cuda" else torch.promote_types(dtype, torch.float32)


class _Primitives(torch.autograd.Function):
    """Log-odds of y, and a mean over the other tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        job: Job,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        head_trains, scalar = needs_weight or needs_bias, job.embeddings is None or job.kind is not None
        ctx.ready = grad_enabled and needs_hidden and not head_trains and scalar
        ctx.job, ctx.dtype = job, hidden_ND.dtype

        walk = Pass(hidden_ND, weight_VD, bias_V, targets_N, job)
        online = OnlineSums(walk, gradient=ctx.ready)
        for tile in walk.tiles():
            for chunk in walk.chunks():
                online.add(chunk, tile)
        sums = online.result()
        if ctx.ready:
            ctx.save_for_backward(*online.gradients(sums))
        else:
            ctx.save_for_backward(hidden_ND, weight_VD, bias_V, targets_N, *sums)
        return sums.odds_N, sums.mean

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_odds_N: Tensor | None, grad_mean: Tensor | None) -> tuple[Tensor | None, ...]:
        nothing = (None, None, None)
        if grad_odds_N is None and grad_mean is None:
            return None, None, None, *nothing
        if ctx.ready:
            pairs = zip((grad_odds_N, grad_mean), ctx.saved_tensors, strict=False)
            parts = [grad_N[:, None] * saved_ND for grad_N, saved_ND in pairs if grad_N is not None]
            return sum(parts[1:], parts[0]).to(ctx.dtype), None, None, *nothing
        hidden_ND, weight_VD, bias_V, targets_N, *sums = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        if not len(targets_N):
            # Zeros of no size in memory: a micro-batch without a scored token is common.
            empty = (hidden_ND, weight_VD, bias_V)
            return *(
                t.new_zeros(()).expand_as(t) if need else None for t, need in zip(empty, needs, strict=True)
            ), *nothing
        walk = Pass(hidden_ND, weight_VD, bias_V, targets_N, ctx.job)
        gradient_ND, *of_head = _gradients_again(walk, Sums(*sums), grad_odds_N, grad_mean, needs)
        return None if gradient_ND is None else gradient_ND.to(ctx.dtype), *of_head, *nothing


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
    """The running sums of a pass over the vocabulary without the target y: all are relative to the largest logit seen so far.

    Means of a similarity are kept relative to a pivot, its value at the token with that largest logit. Where q is concentrated
    on one token, the gradient of the mean is the small difference of nearly equal terms, and the pivot takes the equal part out
    first.

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


def _gradients_again(
    walk: Pass,
    sums: Sums,
    grad_odds_N: Tensor | None,
    grad_mean: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the tiles again, and return the gradients by hidden states, head weight and bias, where ``needs`` says so.

    It is needed where the head trains or a mean embedding has a gradient of its own.

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
