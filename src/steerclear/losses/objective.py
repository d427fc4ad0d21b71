"""`objective_loss`, the one door to the objectives.

Two implementations of the two vocabulary-wide primitives lie behind it: `reference`, from full logits, is the specification;
`streamed` computes the same in tiles.

Shape suffixes: N scored tokens, S sequences, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from steerclear.errors import ConfigError
from steerclear.losses import formulas, reference, streamed
from steerclear.losses.options import BETAS, REFERENCE_OBJECTIVES, SEQUENCE_OBJECTIVES, LossOptions, Tiles
from steerclear.losses.vocabulary import OutputHead, TokenEmbeddings

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
    options: LossOptions | None = None,
    *,
    embedding_VE: Tensor | None = None,
    sequences_N: Tensor | None = None,
    weights_N: Tensor | None = None,
    base_log_prob_N: Tensor | None = None,
    base_hidden_ND: Tensor | None = None,
    **named: Any,
) -> LossOutput:
    """Return the sum of an objective over the scored tokens.

    Args:
        hidden_ND: hidden states at the positions that predict the targets. N may be 0: the total is then an exact zero that
            gives every parameter behind it a zero gradient.
        targets_N: token ids y, int64.
        head: the model's output head.
        options: the objective and its options.
        embedding_VE: raw embeddings that the cost compares. Default: the head's weight. No gradient flows into it.
        sequences_N: which sequence each token belongs to: any integers, equal within a sequence. `SEQUENCE_OBJECTIVES` need it,
            and so does ``token_decay``, which also wants the tokens of a sequence together and in order.
        weights_N: factor on each token's loss; equal within a sequence. Counts ignore it.
        base_log_prob_N: log p(y) under the frozen model, which ``npo`` and ``npo_mean`` need; see `log_probability`.
        base_hidden_ND: the frozen model's hidden states at the same positions, which ``circuit_breaker`` needs.
        named: options by their names, as in ``objective="emd", until=0.1``: in place of ``options``, or over them.

    Raises:
        ConfigError: options that `LossOptions` refuses; ``sequences_N`` or what `REFERENCE_OBJECTIVES` compare with is missing.
    """
    named = {name: value for name, value in named.items() if value is not None}
    options = LossOptions(**named) if options is None else replace(options, **named)
    _check_inputs(options, sequences_N, base_log_prob_N, base_hidden_ND)
    inputs = (hidden_ND, targets_N, head)
    if options.objective in SEQUENCE_OBJECTIVES:
        odds_N = _log_odds(options, *inputs)
        losses, weights_N = _sequence_losses(options, odds_N, base_log_prob_N, sequences_N, weights_N)
    else:
        losses, odds_N = _token_losses(options, *inputs, embedding_VE, base_hidden_ND)
    count = torch.tensor(losses.numel(), device=hidden_ND.device)
    probability_N = odds_N.detach().sigmoid()
    if options.until > 0:
        losses = losses * (probability_N >= options.until)
    if options.gate_power > 0:
        # Detached: (1 - p)^g · -log(1 - p) falls as p nears 1, so with a gradient of its own the gate would turn the push around.
        losses = losses * formulas.confidence_gate(odds_N.detach(), options.gate_power)
    if sequences_N is not None and options.token_decay < 1:
        decay_N = formulas.decay_weights(sequences_N, options.token_decay)
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
    return logsigmoid(_log_odds(LossOptions(objective="nll", impl=impl, tiles=tiles), hidden_ND, targets_N, head))


def _check_inputs(
    options: LossOptions, sequences_N: Tensor | None, base_log_prob_N: Tensor | None, base_hidden_ND: Tensor | None
) -> None:
    objective = options.objective
    if sequences_N is None and (objective in SEQUENCE_OBJECTIVES or options.token_decay < 1):
        per_sequence = f"objective '{objective}' is a loss per sequence"
        what = per_sequence if options.token_decay == 1 else "token_decay counts in sequences"
        raise ConfigError(f"{what}: sequences_N is missing.")
    if objective in REFERENCE_OBJECTIVES:
        of_states = objective == "circuit_breaker"
        if (base_hidden_ND if of_states else base_log_prob_N) is None:
            name = "base_hidden_ND" if of_states else "base_log_prob_N"
            raise ConfigError(f"objective '{objective}' compares with a frozen model: {name} is missing.")


def _primitives(options: LossOptions) -> tuple[Any, dict[str, Any]]:
    """Return the module of an implementation and the options that its functions take."""
    return (reference, {}) if options.impl == "reference" else (streamed, {"tiles": options.tiles})


def _log_odds(options: LossOptions, hidden_ND: Tensor, targets_N: Tensor, head: OutputHead) -> Tensor:
    primitives, pieces = _primitives(options)
    odds_N: Tensor = primitives.log_odds(hidden_ND, targets_N, head, **pieces)
    return odds_N


def _token_losses(
    options: LossOptions,
    hidden_ND: Tensor,
    targets_N: Tensor,
    head: OutputHead,
    embedding_VE: Tensor | None,
    base_hidden_ND: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each token [N] and the log-odds of its target [N]."""
    objective, cost, inputs = options.objective, options.cost, (hidden_ND, targets_N, head)
    if objective in ("emd", "emd_bound"):
        primitives, pieces = _primitives(options)
        embeddings = TokenEmbeddings(head.weight_VD if embedding_VE is None else embedding_VE, centred=cost.centred)
        if objective == "emd":
            expected_N, odds_N = primitives.expected_cost(*inputs, embeddings, cost.kind, **pieces)
            return formulas.emd(expected_N), odds_N
        expected_NE, odds_N = primitives.expected_embedding(*inputs, embeddings, **pieces)
        return formulas.emd_bound(expected_NE, embeddings.unit(targets_N).to(expected_NE.dtype)), odds_N
    if base_hidden_ND is not None and objective == "circuit_breaker":
        with torch.no_grad():  # logged and gated by, not minimised
            odds_N = _log_odds(options, *inputs)
        return formulas.circuit_breaker(hidden_ND, base_hidden_ND), odds_N
    odds_N = _log_odds(options, *inputs)
    return _OF_LOG_ODDS[objective](odds_N), odds_N


def _sequence_losses(
    options: LossOptions, odds_N: Tensor, base_log_prob_N: Tensor | None, sequences_N: Any, weights_N: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the loss and, where tokens have weights, the weight of each sequence."""
    objective = options.objective
    names_S, index_N = sequences_N.unique(return_inverse=True)
    log_prob_N = logsigmoid(odds_N)
    if objective in REFERENCE_OBJECTIVES and base_log_prob_N is not None:
        log_prob_N = log_prob_N - base_log_prob_N.detach()
    total_S, mean_S = formulas.sequence_sums(log_prob_N, index_N, len(names_S))
    if objective == "nlcl":
        losses_S = formulas.nlcl(mean_S)
    else:
        beta = BETAS[objective] if options.beta is None else options.beta
        formula = formulas.simnpo if objective == "simnpo" else formulas.npo
        losses_S = formula(total_S if objective == "npo" else mean_S, beta)
    if weights_N is None:
        return losses_S, None
    return losses_S, torch.empty_like(losses_S).index_copy(0, index_N, weights_N.to(losses_S.dtype))
