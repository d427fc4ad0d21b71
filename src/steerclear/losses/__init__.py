"""The losses. `objective_loss` is the one door: hidden states in, a sum and its count out; the caller divides.

Shape suffixes: N scored tokens, S sequences, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.errors import ConfigError, one_of
from steerclear.losses import formulas
from steerclear.losses.cost import GroundCost, cost_to_targets, unit_embeddings
from steerclear.losses.reference import OutputHead, expected_cost, expected_embedding, token_log_prob

__all__ = [
    "AVOIDANCE_OBJECTIVES",
    "GroundCost",
    "LossOutput",
    "OutputHead",
    "check_objective",
    "objective_loss",
]

SEQUENCE_OBJECTIVES = ("nlcl",)
"""Objectives with one loss per sequence; the others have one per token."""

AVOIDANCE_OBJECTIVES = ("emd_bound", "emd", "nlcl", "unlikelihood")
"""What pushes unsafe tokens away."""

OBJECTIVES = ("nll", *AVOIDANCE_OBJECTIVES)


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

    Raises:
        ConfigError: unknown objective; a clipped cost with ``emd_bound``; ``nlcl`` without ``sequences_N`` or with ``until``.
    """
    cost = cost or GroundCost()
    check_objective(objective, cost, until)
    logits_NV = head.logits(hidden_ND)
    log_prob_N, log_complement_N = token_log_prob(logits_NV, targets_N)
    if objective in SEQUENCE_OBJECTIVES:
        if sequences_N is None:
            raise ConfigError(f"objective '{objective}' is a loss per sequence: sequences_N is missing.")
        names_S, index_N = sequences_N.unique(return_inverse=True)
        losses = formulas.nlcl(log_prob_N, index_N, len(names_S))
        if weights_N is not None:
            weights_N = torch.empty_like(losses).index_copy(0, index_N, weights_N.to(losses.dtype))
    elif objective == "nll":
        losses = formulas.nll(log_prob_N)
    elif objective == "unlikelihood":
        losses = formulas.unlikelihood(log_complement_N)
    else:
        unit_VE = unit_embeddings(head.weight_VD if embedding_VE is None else embedding_VE, centred=cost.centred)
        losses = _emd_losses(logits_NV, targets_N, unit_VE.to(logits_NV.dtype), objective, cost.kind)
    if until > 0:
        losses = losses * (log_prob_N.detach().exp() >= until)
    return LossOutput(
        total=(losses if weights_N is None else losses * weights_N).sum(),
        count=torch.tensor(losses.numel(), device=hidden_ND.device),
        probability=log_prob_N.detach().exp().sum(),
        tokens=torch.tensor(targets_N.numel(), device=hidden_ND.device),
    )


def _emd_losses(logits_NV: Tensor, targets_N: Tensor, unit_VE: Tensor, objective: str, kind: str) -> Tensor:
    if objective == "emd_bound":
        return formulas.emd_bound(expected_embedding(logits_NV, unit_VE), unit_VE[targets_N])
    return formulas.emd(expected_cost(logits_NV, cost_to_targets(unit_VE, targets_N, kind)))
