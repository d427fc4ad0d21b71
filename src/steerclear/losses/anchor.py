"""The anchor: how far the model's predictions have moved from a frozen model's.

Shape suffixes: N scored tokens, M those of a chunk, V vocabulary, D hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from torch.utils.checkpoint import checkpoint

from steerclear.losses.vocabulary import OutputHead

CHUNK = 256
"""Tokens whose logits exist at a time: 125 MiB a matrix for a vocabulary of 128,000."""


def anchor_loss(
    hidden_ND: Tensor,
    head: OutputHead,
    base_hidden_ND: Tensor,
    base_head: OutputHead,
    *,
    weights_N: Tensor | None = None,
    impl: str = "streamed",
) -> Tensor:
    """Return Σ weight · KL(p_base ‖ p) over the tokens, as Yao et al. (2023, arXiv 2310.10683) keep a model near its original.

    KL(p_base ‖ p) = Σ_v p_base(v) (log p_base(v) - log p(v)); its gradient by the logits is p - p_base. It is an exact zero where
    both models are the same, and where no token is scored; a scalar in either case, connected to the graph.

    Args:
        hidden_ND: hidden states of the model that trains.
        base_hidden_ND: those of the frozen model at the same positions; no gradient flows into it or its head.
        impl: ``streamed`` goes over `CHUNK` tokens at a time and computes their logits again in the backward pass;
            ``reference`` keeps all logits.
    """
    inputs_ND = (hidden_ND, base_hidden_ND)
    if impl == "reference":
        divergence_N = _divergence(*inputs_ND, head, base_head)
    else:
        divergence_N = torch.cat(
            [
                checkpoint(_divergence, *chunk_MD, head, base_head, use_reentrant=False, preserve_rng_state=False)
                for chunk_MD in zip(*(states_ND.split(CHUNK) for states_ND in inputs_ND), strict=True)
            ]
        )
    return (divergence_N if weights_N is None else divergence_N * weights_N).sum()


def _divergence(hidden_MD: Tensor, base_hidden_MD: Tensor, head: OutputHead, base_head: OutputHead) -> Tensor:
    with torch.no_grad():
        base_log_prob_MV = base_head.logits(base_hidden_MD).log_softmax(-1)
    log_prob_MV = head.logits(hidden_MD).log_softmax(-1)
    return kl_div(log_prob_MV, base_log_prob_MV, reduction="none", log_target=True).sum(-1)
