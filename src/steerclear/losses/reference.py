"""The two primitives from full logits. This file is the specification that `streamed`, which has the same functions, is held to.

All return at least float32. Shape suffixes: N scored tokens, V vocabulary, D hidden width, E embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steerclear.losses.vocabulary import OutputHead, TokenEmbeddings


def log_odds(hidden_ND: Tensor, targets_N: Tensor, head: OutputHead) -> Tensor:
    """Return log(p(y) / (1 - p(y))) [N]: the logit of y less the log-sum-exp of all others.

    It holds every digit of both p and 1 - p: log p = logsigmoid(log-odds), log(1 - p) = logsigmoid(-log-odds), and the
    gradient of either is finite and exact at p = 1.
    """
    return _log_odds(head.logits(hidden_ND), targets_N)


def expected_cost(
    hidden_ND: Tensor, targets_N: Tensor, head: OutputHead, embeddings: TokenEmbeddings, kind: str
) -> tuple[Tensor, Tensor]:
    """Return Σ_v p(v) c(v, y) [N], the EMD to a one-hot target (one coupling is left), and the log-odds of y [N]."""
    logits_NV = head.logits(hidden_ND)
    unit_VE = embeddings.unit().to(logits_NV.dtype)
    similarity_NV = unit_VE[targets_N] @ unit_VE.T
    cost_NV = 1 - (similarity_NV.clamp(min=0) if kind == "clipped" else similarity_NV)
    return (logits_NV.softmax(-1) * cost_NV).sum(-1), _log_odds(logits_NV, targets_N).detach()


def expected_embedding(
    hidden_ND: Tensor, targets_N: Tensor, head: OutputHead, embeddings: TokenEmbeddings
) -> tuple[Tensor, Tensor]:
    """Return p̄ = Σ_v p(v) ê_v [N, E], and the log-odds of y [N]."""
    logits_NV = head.logits(hidden_ND)
    return logits_NV.softmax(-1) @ embeddings.unit().to(logits_NV.dtype), _log_odds(logits_NV, targets_N).detach()


def _log_odds(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    others_NV = logits_NV.scatter(-1, targets_N[:, None], -torch.inf)
    return logits_NV.gather(-1, targets_N[:, None]).squeeze(-1) - others_NV.logsumexp(-1)
