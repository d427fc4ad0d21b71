"""Attention over several sequences in one row without attending, or paying, across them.

A packed or padding-free micro-batch is one long row. PyTorch's attention (SDPA) goes over all pairs of its positions and masks
the pairs of different sequences away: quadratic in the row. Here it goes over one sequence after the other, as flash attention's
variable-length kernels do where they can be had.

The boundaries travel as the attention mask, a form that transformers hands to each layer untouched (four dimensions) and that any
other attention refuses (int32). So they cannot be lost on the way, under gradient checkpointing neither.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "steerclear_sdpa"
"""Of this attention among those of transformers."""


def use_packed_attention(model: Any) -> bool:
    """Let a model that uses SDPA use this attention; return whether it does now. Other attentions are left as they are."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return model.config._attn_implementation == NAME


def boundaries(position_ids_1T: Tensor) -> Tensor:
    """Return where each sequence of a row begins, and the row's end, as the mask for this attention: int32 [1, 1, 1, S + 1].

    A sequence begins where position ids start anew at 0.
    """
    starts = (position_ids_1T[0] == 0).nonzero().flatten().tolist()
    return torch.tensor([*starts, position_ids_1T.size(1)], dtype=torch.int32)[None, None, None]


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Shapes as transformers has them: queries, keys, values [B, heads, T, width], out [B, T, heads, width]."""
    if attention_mask is None or attention_mask.dtype != torch.int32:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    window = kwargs.get("sliding_window")
    parts = []
    for start, end in pairwise(attention_mask.flatten().tolist()):
        own = (tensor[:, :, start:end] for tensor in (query, key, value))
        mask = _window_mask(end - start, window, query.device) if window and window < end - start else None
        parts.append(sdpa_attention_forward(module, *own, mask, **kwargs)[0])
    return torch.cat(parts, dim=1), None


def _window_mask(length: int, window: int, device: torch.device) -> Tensor:
    """Return which positions see which, of a causal attention that looks back over ``window`` positions: bool [1, 1, T, T]."""
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    return ((back >= 0) & (back < window))[None, None]
