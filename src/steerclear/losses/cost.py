"""The ground cost of the Earth Mover Distance: how far apart two tokens are in meaning (paper, Eq. 4).

Shape suffixes: V vocabulary, E width of the embedding, N scored tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.errors import ConfigError, one_of

COSTS = ("cosine", "clipped")
EMBEDDINGS = ("output", "input")


@dataclass(frozen=True, kw_only=True)
class GroundCost:
    """Which cost c(v, y) between tokens the EMD moves mass at.

    With unit embeddings ê: ``cosine`` is 1 - ê_v·ê_y, in [0, 2] (Eq. 4). ``clipped`` is 1 - max(ê_v·ê_y, 0), in [0, 1]: every
    unrelated token is equally far, so nothing is gained by running to the one token that is farthest.
    """

    kind: str = "cosine"
    """``cosine`` or ``clipped``."""
    embedding: str = "output"
    """Whose rows are the embeddings: ``output`` (the head, as the paper's EMO reference does) or ``input``."""
    centred: bool = False
    """Subtract the mean embedding before normalising: most embeddings share one large common direction."""

    def __post_init__(self) -> None:
        if self.kind not in COSTS:
            raise ConfigError(one_of("cost", self.kind, COSTS))
        if self.embedding not in EMBEDDINGS:
            raise ConfigError(one_of("cost_embedding", self.embedding, EMBEDDINGS))


def unit_embeddings(weight_VE: Tensor, *, centred: bool = False) -> Tensor:
    """Return the unit embeddings ê [V, E]: detached, at least float32.

    A row of norm zero (vocabularies are padded with such rows) stays zero, so its cost to every token is 1. The mean that
    ``centred`` subtracts is over the other rows.
    """
    embed_VE = weight_VE.detach().to(torch.promote_types(weight_VE.dtype, torch.float32))
    used_V = embed_VE.square().sum(-1) > 0
    if centred:
        mean_E = embed_VE[used_V].mean(0)
        embed_VE = torch.where(used_V[:, None], embed_VE - mean_E, embed_VE)
    return torch.nn.functional.normalize(embed_VE, dim=-1)


def cost_to_targets(unit_VE: Tensor, targets_N: Tensor, kind: str) -> Tensor:
    """Return c(v, y_n) for every token v of the vocabulary and every target: [N, V]."""
    similarity_NV = unit_VE[targets_N] @ unit_VE.T
    return 1 - (similarity_NV.clamp(min=0) if kind == "clipped" else similarity_NV)
