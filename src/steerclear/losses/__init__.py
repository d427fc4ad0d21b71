"""The losses. `objective_loss` is the one door: hidden states in, a sum and its count out; the caller divides.

Two implementations of the two vocabulary-wide primitives lie behind it: `reference`, from full logits, is the specification;
`streamed` computes the same in tiles.

Shape suffixes: N scored tokens, S sequences, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ConfigError, one_of
from steerclear.losses import formulas, reference, streamed
from steerclear.losses.cost import GroundCost, TokenEmbeddings
from steerclear.losses.output_head import OutputHead
from steerclear.losses.vocabulary_pass import Tiles

__all__ = [
    "AVOIDANCE_OBJECTIVES",
    "IMPLEMENTATIONS",
    "GroundCost",
    "LossOutput",
    "OutputHead",
    "Tiles",
    "check_objective",
    "objective_loss",
]

SEQUENCE_OBJECTIVES = ("nlcl",)
"""Objectives with one loss per sequence; the others have one per token."""

AVOIDANCE_OBJECTIVES = ("emd_bound", "emd", "nlcl", "unlikelihood")
"""What pushes unsafe tokens away."""

OBJECTIVES = ("nll", *AVOIDANCE_OBJECTIVES)

IMPLEMENTATIONS = ("streamed", "reference")
"""``streamed`` needs no logits matrix; ``reference`` builds it."""


@dataclass(frozen=True)
class LossOutput:
    """Sums and counts of one call. ``total / count`` is the mean; sums of several calls may be added first."""

    total: Tensor
    """Sum of weight · loss over tokens or sequences; scalar, connected to the graph even when nothing is scored."""
    count: Tensor
    """Number of tokens or sequences in ``total``, whatever their weights."""
    probability: Tensor
    """Sum of p(y) over the tokens, detached."""
    tokens: Tensor
    """Number of tokens."""


def check_objective(objective: str, cost: GroundCost, until: float = 0.0) -> None:
    """Raise ConfigError for an unknown objective or one that the cost or ``until`` does not allow."""
    if objective not in OBJECTIVES:
        raise ConfigError(one_of("objective", objective, OBJECTIVES))
    if objective == "emd_bound" and cost.kind != "cosine":
        raise ConfigError(
            f"cost: got '{cost.kind}' with objective 'emd_bound', allowed: cosine. The bound of Prop. 1 holds for "
            "the cosine cost only; use objective 'emd' for a clipped cost."
        )
    if not 0 <= until < 1:
        raise ConfigError(f"avoid_until: got {until}, allowed: 0 (never stop pushing) to below 1.")
    if until > 0 and objective in SEQUENCE_OBJECTIVES:
        raise ConfigError(
            f"avoid_until: got {until} with objective '{objective}', which has no loss per token; only 0 is allowed."
        )


def objective_loss(
    hidden_ND: Tensor,
    targets_N: Tensor,
    head: OutputHead,
    *,
    objective: str,
    cost: GroundCost | None = None,
    embedding_VE: Tensor | None = None,
    sequences_N: Tensor | None = None,
    weights_N: Tensor | None = None,
    until: float = 0.0,
    impl: str = "streamed",
    tiles: Tiles | None = None,
) -> LossOutput:
    """Return the sum of an objective over the scored tokens.

    Args:
        hidden_ND: hidden states at the positions that predict the targets. N may be 0: the total is then an exact zero that
            gives every parameter behind it a zero gradient.
        targets_N: token ids y, int64.
        head: the model's output head.
        objective: one of `OBJECTIVES`. ``nll`` imitates the targets, the others avoid them.
        cost: ground cost of the EMD objectives. Default: cosine.
        embedding_VE: raw embeddings that the cost compares. Default: the head's weight. No gradient flows into it.
        sequences_N: which sequence each token belongs to: any integers, equal within a sequence. ``nlcl`` needs it.
        weights_N: factor on each token's loss; equal within a sequence. Counts ignore it.
        until: a token whose probability p(y) is below this is pushed no further: its loss is 0. It is counted all the same.
        impl: one of `IMPLEMENTATIONS`: same values, other costs.
        tiles: piece sizes of the streamed one. Default: by device.

    Raises:
        ConfigError: unknown objective or impl; a clipped cost with ``emd_bound``; ``nlcl`` without ``sequences_N`` or with
            ``until``.
    """
    cost = cost or GroundCost()
    check_objective(objective, cost, until)
    if impl not in IMPLEMENTATIONS:
        raise ConfigError(one_of("impl", impl, IMPLEMENTATIONS))
    if objective in SEQUENCE_OBJECTIVES and sequences_N is None:
        raise ConfigError(f"objective '{objective}' is a loss per sequence: sequences_N is missing.")
    primitives: Any = reference if impl == "reference" else streamed
    options = {} if impl == "reference" else {"tiles": tiles}
    inputs = (hidden_ND, targets_N, head)
    embeddings = TokenEmbeddings(head.weight_VD if embedding_VE is None else embedding_VE, centred=cost.centred)
    if objective == "emd_bound":
        expected_NE, odds_N = primitives.expected_embedding(*inputs, embeddings, **options)
        losses = formulas.emd_bound(expected_NE, embeddings.unit(targets_N).to(expected_NE.dtype))
    elif objective == "emd":
        expected_N, odds_N = primitives.expected_cost(*inputs, embeddings, cost.kind, **options)
        losses = formulas.emd(expected_N)
    else:
        odds_N = primitives.log_odds(*inputs, **options)
        if objective == "nlcl":
            losses, weights_N = _nlcl_losses(odds_N, sequences_N, weights_N)
        else:
            losses = formulas.nll(odds_N) if objective == "nll" else formulas.unlikelihood(odds_N)
    probability_N = odds_N.detach().sigmoid()
    if until > 0:
        losses = losses * (probability_N >= until)
    return LossOutput(
        total=(losses if weights_N is None else losses * weights_N).sum(),
        count=torch.tensor(losses.numel(), device=hidden_ND.device),
        probability=probability_N.sum(),
        tokens=torch.tensor(targets_N.numel(), device=hidden_ND.device),
    )


def _nlcl_losses(odds_N: Tensor, sequences_N: Tensor, weights_N: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the loss and, where tokens have weights, the weight of each sequence."""
    names_S, index_N = sequences_N.unique(return_inverse=True)
    losses_S = formulas.nlcl(odds_N, index_N, len(names_S))
    if weights_N is None:
        return losses_S, None
    return losses_S, torch.empty_like(losses_S).index_copy(0, index_N, weights_N.to(losses_S.dtype))
