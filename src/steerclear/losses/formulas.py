"""The objectives, a few lines each, on the two primitives. All are minimised; a loss per token or per sequence comes out.

Shape suffixes: N scored tokens, S sequences, E embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


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


def nlcl(log_odds_N: Tensor, sequences_N: Tensor, n_sequences: int) -> Tensor:
    """NLCL, Eq. 7: -log(1 - P), per sequence [S], with P = exp(mean log p) the length-normalised likelihood of ORPO."""
    log_prob_N = logsigmoid(log_odds_N)
    zeros_S = log_prob_N.new_zeros(n_sequences)
    total_S = zeros_S.index_add(0, sequences_N, log_prob_N)
    length_S = zeros_S.index_add(0, sequences_N, torch.ones_like(log_prob_N))
    # At P = 1 to the last bit the loss is large but finite.
    mean_S = (total_S / length_S).clamp(max=-torch.finfo(log_prob_N.dtype).tiny)
    return -torch.log(-torch.expm1(mean_S))
