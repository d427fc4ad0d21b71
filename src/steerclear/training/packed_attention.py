"""Attention over several sequences in one row without attending, or paying, across them.

A packed or padding-free micro-batch is one long row. PyTorch's attention (SDPA) goes over all pairs of its positions and masks
the pairs of different sequences away: quadratic in the row. Here it goes over one sequence after the other, as flash attention's
variable-length kernels do where they can be had.

The boundaries travel as the attention mask, in a form that transformers' own mask making hands on untouched (four dimensions) and
that any other attention refuses (int32). So they cannot be lost on the way, under gradient checkpointing neither. Architectures
that make or read masks by themselves are found by a probe and keep their own attention.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from steerclear.generation.weights import at_rest

logger = logging.getLogger(__name__)

NAME = "steerclear_sdpa"
"""Of this attention among those of transformers."""


def use_packed_attention(model: Any) -> bool:
    """Let a model that uses SDPA use this attention, and return whether it does now. Other attentions are left as they are.

    A probe of two short sequences decides: this attention if it keeps them apart, else the model's own, with a warning if that
    mixes them. The attention's name stays in the live model's configuration (and in a pickled one), not in saved files.
    """
    if model.config._attn_implementation != "sdpa":
        return False
    config = model.config.get_text_config()
    chunked = "chunked_attention" in (getattr(config, "layer_types", None) or ())  # attends within chunks of a sequence
    if not chunked:
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
        if _keeps_apart(model, marked=True):
            return True
        model.set_attn_implementation("sdpa")
    if _keeps_apart(model, marked=False) is False:
        logger.warning(
            "%s mixes the sequences of a packed row, so packed or padding-free training is not what separate rows would give. "
            "Set packing=False and padding_free=False.",
            type(model).__name__,
        )
    return False


def _keeps_apart(model: Any, *, marked: bool) -> bool | None:
    """Return whether two sequences in one row have the hidden states that they have alone; None if the model cannot be asked."""
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(1, 9, device=device)[None] % model.get_input_embeddings().weight.size(0)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]], device=device)
    mask = {"attention_mask": boundaries(positions)} if marked else {}
    try:
        with at_rest(model):
            packed = model.base_model(ids, position_ids=positions, use_cache=False, **mask).last_hidden_state
            alone = [model.base_model(part, use_cache=False).last_hidden_state for part in (ids[:, :3], ids[:, 3:])]
    except Exception:  # an architecture that does not fit raises what it likes
        return None
    expected = torch.cat(alone, dim=1).float()
    # Mixed sequences differ by as much as they are large; rounding in bfloat16 by a percent or two.
    return bool((packed.float() - expected).norm() <= 0.1 * expected.norm())


def with_boundaries(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return a model's keyword arguments with the mask that this attention reads, where the model uses it on one long row."""
    positions = inputs.get("position_ids")
    is_one_row = positions is not None and len(positions) == 1 and inputs.get("attention_mask") is None
    if not is_one_row or model.config._attn_implementation != NAME:
        return inputs
    return {**inputs, "attention_mask": boundaries(positions)}


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
