"""The vocabulary-wide quantities from full logits. This file is the specification that faster forms are held against.

All return at least float32. Shape suffixes: N scored tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OutputHead:
    """The map from hidden states to logits: scale · (h Wᵀ + b), then soft-capped where the model does that."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    """Logits become softcap · tanh(logits / softcap)."""

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return the logits [N, V], at least float32."""
        raw_NV = torch.nn.functional.linear(hidden_ND.to(self.weight_VD.dtype), self.weight_VD, self.bias_V)
        logits_NV = raw_NV.to(torch.promote_types(raw_NV.dtype, torch.float32)) * self.scale
        return logits_NV if self.softcap is None else self.softcap * torch.tanh(logits_NV / self.softcap)


def token_log_prob(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(y) and log(1 - p(y)), each [N].

    log(1 - p) is the difference of two log-sum-exps, with and without y, and log p is taken from it where p > 1/2. So neither
    loses its digits near p = 1, and the gradient of -log(1 - p) on the logit of y is p there, not 0/0.
    """
    all_N = logits_NV.logsumexp(-1)
    others_NV = logits_NV.scatter(-1, targets_N[:, None], -torch.inf)
    log_complement_N = others_NV.logsumexp(-1) - all_N
    plain_N = logits_NV.gather(-1, targets_N[:, None]).squeeze(-1) - all_N
    confident_N = plain_N > -0.5
    # Away from its own branch, log1p would send NaN gradients through `where`, so it gets a harmless input there.
    near_one_N = torch.log1p(-torch.where(confident_N, log_complement_N, torch.full_like(plain_N, -1.0)).exp())
    return torch.where(confident_N, near_one_N, plain_N), log_complement_N


def expected_embedding(logits_NV: Tensor, unit_VE: Tensor) -> Tensor:
    """Return p̄ = Σ_v p(v) ê_v, [N, E]."""
    return logits_NV.softmax(-1) @ unit_VE


def expected_cost(logits_NV: Tensor, cost_NV: Tensor) -> Tensor:
    """Return Σ_v p(v) c(v, y), [N]: the EMD to a one-hot target (METHOD: one coupling is left)."""
    return (logits_NV.softmax(-1) * cost_NV).sum(-1)
