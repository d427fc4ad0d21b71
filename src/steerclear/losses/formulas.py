"""The objectives, a few lines each, on the two primitives. All are minimised; a loss per token or per sequence comes out.

Shape suffixes: N scored tokens, S sequences, D hidden width, E embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, logsigmoid


def nll(log_odds_N: Tensor) -> Tensor:
    """SFT, Eq. 1: -log p(y), per token [N], from log-odds log(p / (1 - p))."""
    return -logsigmoid(log_odds_N)


def emd_bound(expected_NE: Tensor, target_NE: Tensor) -> Tensor:
    """The paper's loss, Eq. 5: -½‖p̄ - ê_y‖², per token [N].

    ½‖p̄ - ê_y‖² is a lower bound of the EMD with cosine cost: ½ is the tight constant of Prop. 1, by Jensen's
    inequality. The paper drops it; `normalization="paper"` in the trainer multiplies it away again.
    """
    return -0.5 * (expected_NE - target_NE).square().sum(-1)


def emd(expected_cost_N: Tensor) -> Tensor:
    """The EMD itself, Eq. 3 with a one-hot target: -Σ_v p(v) c(v, y), per token [N]."""
    return -expected_cost_N


def unlikelihood(log_odds_N: Tensor) -> Tensor:
    """-log(1 - p(y)), per token [N] (Welleck et al. 2020, arXiv 1908.04319). Its gradient by the log-odds is p, at p = 1 too."""
    return -logsigmoid(-log_odds_N)


def gradient_ascent(log_odds_N: Tensor) -> Tensor:
    """log p(y), per token [N]: the log-likelihood of the unsafe answer is descended (Jang et al. 2023, arXiv 2210.01504;
    Thudi et al. 2022, arXiv 2109.13398).

    Unbounded below: its gradient by the log-odds is 1 - p, so it pushes hardest at what the model would never say.
    """
    return logsigmoid(log_odds_N)


def circuit_breaker(hidden_ND: Tensor, base_hidden_ND: Tensor) -> Tensor:
    """max(0, cos(h, h_base)), per token [N] (Zou et al. 2024, arXiv 2406.04313): the state is turned until it is at a right angle
    to the frozen model's. Nothing says where to.

    Its gradient is zero where h is h_base, so other terms must take the first step away from the base model.
    """
    exact = torch.promote_types(hidden_ND.dtype, torch.float32)
    return cosine_similarity(hidden_ND.to(exact), base_hidden_ND.detach().to(exact), dim=-1).relu()


def confidence_gate(log_odds_N: Tensor, power: float) -> Tensor:
    """(1 - p(y))^power, per token [N]: a weight that is small where the model is sure of the unsafe token."""
    return (power * logsigmoid(-log_odds_N)).exp()


def decay_weights(sequences_N: Tensor, decay: float) -> Tensor:
    """decay^k, per token [N] in float32, for the k-th token of its sequence, from 0. Its tokens stand together, in order."""
    _, index_N, length_S = sequences_N.unique_consecutive(return_inverse=True, return_counts=True)
    start_S = length_S.cumsum(0) - length_S
    place_N = torch.arange(len(sequences_N), device=sequences_N.device) - start_S[index_N]
    return torch.tensor(decay, device=sequences_N.device) ** place_N


def sequence_sums(values_N: Tensor, index_N: Tensor, n_sequences: int) -> tuple[Tensor, Tensor]:
    """Return the sum and the mean of the values of each sequence [S]; ``index_N`` says which of the S a token belongs to."""
    zeros_S = values_N.new_zeros(n_sequences)
    total_S = zeros_S.index_add(0, index_N, values_N)
    return total_S, total_S / zeros_S.index_add(0, index_N, torch.ones_like(values_N))


def nlcl(mean_log_prob_S: Tensor) -> Tensor:
    """NLCL, Eq. 7: -log(1 - P), per sequence [S], with P = exp(mean log p) the length-normalised likelihood of ORPO."""
    # At P = 1 to the last bit the loss is large but finite.
    mean_S = mean_log_prob_S.clamp(max=-torch.finfo(mean_log_prob_S.dtype).tiny)
    return -torch.log(-torch.expm1(mean_S))


def npo(log_ratio_S: Tensor, beta: float) -> Tensor:
    """NPO (Zhang et al. 2024, arXiv 2404.05868): (2/β) log(1 + (P / P_base)^β), per sequence [S].

    ``log_ratio_S`` is log P - log P_base, the sum over the tokens; with the mean instead it is length-normalised NPO. The loss is
    (2/β) log 2 at the base model, with the gradient of gradient ascent there, and falls to 0 as P does.
    """
    return -(2 / beta) * logsigmoid(-beta * log_ratio_S)


def simnpo(mean_log_prob_S: Tensor, beta: float) -> Tensor:
    """SimNPO (Fan et al. 2024, arXiv 2410.07163): (2/β) log(1 + P^β), per sequence [S], with P as in `nlcl`.

    NPO without a reference, length-normalised; the paper's margin γ is 0, as in its authors' settings.
    """
    return -(2 / beta) * logsigmoid(-beta * mean_log_prob_S)
