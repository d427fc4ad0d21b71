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

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from steerclear.losses.cost import TokenEmbeddings
from steerclear.losses.online_sums import OnlineSums, Sums
from steerclear.losses.output_head import OutputHead
from steerclear.losses.tile_gradients import gradients_again
from steerclear.losses.vocabulary_pass import Job, Pass, Tiles

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
        gradient_ND, *of_head = gradients_again(walk, Sums(*sums), grad_odds_N, grad_mean, needs)
        return None if gradient_ND is None else gradient_ND.to(ctx.dtype), *of_head, *nothing
