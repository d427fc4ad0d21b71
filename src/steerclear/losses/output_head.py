"""The map from hidden states to logits.

Shape suffixes: N scored tokens, V vocabulary, D hidden width.
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
