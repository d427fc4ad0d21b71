"""Signed labels: whether a token is imitated or avoided, and its row's weight, inside the one ``labels`` column.

TRL keeps exactly the columns ``input_ids`` and ``labels`` through truncation, packing and padding-free batches, so what is
written into the label cannot be lost. The code of a label, an int64:

    -100                            ignored
    y + (w << 32)                   imitate token y
    -(y + 101) - (w << 32)          avoid token y

where w is the weight in units of 2⁻¹⁶, and 0 stands for the neutral weight 1. Only this file knows that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.errors import DataError

IGNORED = -100
_OFFSET = 101
_SHIFT = 32
_UNITS = 1 << 16
MAX_WEIGHT = 1000.0


@dataclass(frozen=True)
class DecodedLabels:
    """Four tensors of the shape of the labels."""

    targets: Tensor
    """Token ids; 0 where ignored."""
    imitate: Tensor
    """Boolean: the token is imitated."""
    avoid: Tensor
    """Boolean: the token is avoided."""
    weights: Tensor
    """The row's weight, float32."""


def encode(token: int, *, avoid: bool, weight: float = 1.0) -> int:
    """Return the label of one token. A weight of 0 ignores it.

    Raises:
        DataError: the weight is not in [0, MAX_WEIGHT], or so small that it would round to nothing.

    >>> encode(7, avoid=False), encode(7, avoid=True), encode(7, avoid=True, weight=0)
    (7, -108, -100)
    """
    if weight == 0:
        return IGNORED
    units = round(weight * _UNITS) if 0 < weight <= MAX_WEIGHT else 0
    if units < 1:
        raise DataError(
            f"weight: got {weight}, allowed: 0, or {1 / _UNITS:.1e} to {MAX_WEIGHT:g}. Rescale the weights."
        )
    code = token + ((0 if units == _UNITS else units) << _SHIFT)
    return -(code + _OFFSET) if avoid else code


def is_avoided(label: int) -> bool:
    """Whether an encoded label says: avoid."""
    return label <= -_OFFSET


def decode(labels: Tensor) -> DecodedLabels:
    """Return what int64 labels of any shape say."""
    imitate, avoid = labels >= 0, labels <= -_OFFSET
    code = torch.where(avoid, -labels - _OFFSET, labels).clamp(min=0)
    units = code >> _SHIFT
    weights = torch.where(units == 0, 1.0, units.float() / _UNITS)
    return DecodedLabels(code & ((1 << _SHIFT) - 1), imitate, avoid, weights)
