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
from torch.nn.functional import logsigmoid

from steerclear.errors import ConfigError, one_of
from steerclear.losses import formulas, reference, streamed
from steerclear.losses.anchor import anchor_loss
from steerclear.losses.cost import GroundCost, TokenEmbeddings
from steerclear.losses.formulas import decay_weights
from steerclear.losses.objectives import (
    AVOIDANCE_OBJECTIVES,
    BETAS,
    OBJECTIVES,
    REFERENCE_OBJECTIVES,
    SEQUENCE_OBJECTIVES,
    check_objective,
)
from steerclear.losses.output_head import OutputHead
from steerclear.losses.vocabulary_pass import Tiles

__all__ = [
    "AVOIDANCE_OBJECTIVES",
    "IMPLEMENTATIONS",
    "OBJECTIVES",
    "REFERENCE_OBJECTIVES",
    "SEQUENCE_OBJECTIVES",
    "GroundCost",
    "LossOutput",
    "OutputHead",
    "Tiles",
    "anchor_loss",
    "check_objective",
    "decay_weights",
    "log_probability",
    "objective_loss",
]

IMPLEMENTATIONS = ("streamed", "reference")
"""``streamed`` needs no logits matrix; ``reference`` builds it."""

_OF_LOG_ODDS = {
    "nll": formulas.nll,
    "unlikelihood": formulas.unlikelihood,
    "gradient_ascent": formulas.gradient_ascent,
}


@dataclass(frozen=True)
class LossOutput:
    """Sums and counts of one call. ``total / count`` is the mean; sums of several calls may be added first."""

    total: Tensor
    """Sum of weight · loss over tokens or sequences; scalar, connected to the graph even when nothing is scored."""
    count: Tensor
    """Number of tokens or sequences in ``total``, whatever their weights; under ``token_decay`` the sum of its factors."""
    probability: Tensor
    """Sum of p(y) over the tokens, detached."""
    tokens: Tensor
    """Number of tokens."""


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
    gate_power: float = 0.0,
    token_decay: float = 1.0,
    beta: float | None = None,
    base_log_prob_N: Tensor | None = None,
    base_hidden_ND: Tensor | None = None,
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
        sequences_N: which sequence each token belongs to: any integers, equal within a sequence. `SEQUENCE_OBJECTIVES` need it,
            and so does ``token_decay``, which also wants the tokens of a sequence together and in order.
        weights_N: factor on each token's loss; equal within a sequence. Counts ignore it.
        until: a token whose probability p(y) is below this is pushed no further: its loss is 0. It is counted all the same.
        gate_power: factor (1 - p(y))^gate_power on each token's loss, detached. Counts ignore it.
        token_decay: factor token_decay^k on the loss of the k-th token of its sequence, from 0. The count is the sum of these
            factors, so that the mean is a weighted mean.
        beta: β of the objectives in `BETAS`. Default: the one there.
        base_log_prob_N: log p(y) under the frozen model, which ``npo`` and ``npo_mean`` need; see `log_probability`.
        base_hidden_ND: the frozen model's hidden states at the same positions, which ``circuit_breaker`` needs.
        impl: one of `IMPLEMENTATIONS`: same values, other costs.
        tiles: piece sizes of the streamed one. Default: by device.

    Raises:
        ConfigError: unknown objective or impl; a combination that `check_objective` refuses; ``sequences_N`` or what
            `REFERENCE_OBJECTIVES` compare with is missing.
    """
    cost = cost or GroundCost()
    check_objective(objective, cost, until, gate_power=gate_power, token_decay=token_decay, beta=beta)
    if sequences_N is None and (objective in SEQUENCE_OBJECTIVES or token_decay < 1):
        what = (
            f"objective '{objective}' is a loss per sequence" if token_decay == 1 else "token_decay counts in sequences"
        )
        raise ConfigError(f"{what}: sequences_N is missing.")
    if objective in REFERENCE_OBJECTIVES:
        of_states = objective == "circuit_breaker"
        if (base_hidden_ND if of_states else base_log_prob_N) is None:
            name = "base_hidden_ND" if of_states else "base_log_prob_N"
            raise ConfigError(f"objective '{objective}' compares with a frozen model: {name} is missing.")
    primitives, options = _primitives(impl, tiles)
    inputs = (hidden_ND, targets_N, head)
    if objective in SEQUENCE_OBJECTIVES:
        odds_N = primitives.log_odds(*inputs, **options)
        losses, weights_N = _sequence_losses(objective, odds_N, base_log_prob_N, beta, sequences_N, weights_N)
    elif objective in ("emd", "emd_bound"):
        embeddings = TokenEmbeddings(head.weight_VD if embedding_VE is None else embedding_VE, centred=cost.centred)
        if objective == "emd":
            expected_N, odds_N = primitives.expected_cost(*inputs, embeddings, cost.kind, **options)
            losses = formulas.emd(expected_N)
        else:
            expected_NE, odds_N = primitives.expected_embedding(*inputs, embeddings, **options)
            losses = formulas.emd_bound(expected_NE, embeddings.unit(targets_N).to(expected_NE.dtype))
    elif base_hidden_ND is not None and objective == "circuit_breaker":
        with torch.no_grad():  # told and gated by, not minimised
            odds_N = primitives.log_odds(*inputs, **options)
        losses = formulas.circuit_breaker(hidden_ND, base_hidden_ND)
    else:
        odds_N = primitives.log_odds(*inputs, **options)
        losses = _OF_LOG_ODDS[objective](odds_N)
    count = torch.tensor(losses.numel(), device=hidden_ND.device)
    probability_N = odds_N.detach().sigmoid()
    if until > 0:
        losses = losses * (probability_N >= until)
    if gate_power > 0:
        # Detached: (1 - p)^g · -log(1 - p) falls as p nears 1, so with a gradient of its own the gate would turn the push around.
        losses = losses * formulas.confidence_gate(odds_N.detach(), gate_power)
    if sequences_N is not None and token_decay < 1:
        decay_N = decay_weights(sequences_N, token_decay)
        losses, count = losses * decay_N, decay_N.sum()
    return LossOutput(
        total=(losses if weights_N is None else losses * weights_N).sum(),
        count=count,
        probability=probability_N.sum(),
        tokens=torch.tensor(targets_N.numel(), device=hidden_ND.device),
    )


def log_probability(
    hidden_ND: Tensor, targets_N: Tensor, head: OutputHead, *, impl: str = "streamed", tiles: Tiles | None = None
) -> Tensor:
    """Return log p(y) [N] of each target; arguments as in `objective_loss`."""
    primitives, options = _primitives(impl, tiles)
    return logsigmoid(primitives.log_odds(hidden_ND, targets_N, head, **options))


def _primitives(impl: str, tiles: Tiles | None) -> tuple[Any, dict[str, Any]]:
    """Return the module of an implementation and the options that its functions take."""
    if impl not in IMPLEMENTATIONS:
        raise ConfigError(one_of("impl", impl, IMPLEMENTATIONS))
    return (reference, {}) if impl == "reference" else (streamed, {"tiles": tiles})


def _sequence_losses(
    objective: str,
    odds_N: Tensor,
    base_log_prob_N: Tensor | None,
    beta: float | None,
    sequences_N: Any,
    weights_N: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return the loss and, where tokens have weights, the weight of each sequence."""
    names_S, index_N = sequences_N.unique(return_inverse=True)
    log_prob_N = logsigmoid(odds_N)
    if objective in REFERENCE_OBJECTIVES and base_log_prob_N is not None:
        log_prob_N = log_prob_N - base_log_prob_N.detach()
    total_S, mean_S = formulas.sequence_sums(log_prob_N, index_N, len(names_S))
    if objective == "nlcl":
        losses_S = formulas.nlcl(mean_S)
    else:
        beta = BETAS[objective] if beta is None else beta
        formula = formulas.simnpo if objective == "simnpo" else formulas.npo
        losses_S = formula(total_S if objective == "npo" else mean_S, beta)
    if weights_N is None:
        return losses_S, None
    return losses_S, torch.empty_like(losses_S).index_copy(0, index_N, weights_N.to(losses_S.dtype))
