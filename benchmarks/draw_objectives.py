"""Draws docs/objectives.svg: how hard each objective pushes an unsafe token, and where the mass goes.

    python benchmarks/draw_objectives.py

A vocabulary of four tokens with unit embeddings: the unsafe token y, a related one (similarity 0.6), an unrelated one (0) and an
opposite one (-0.6). y has probability p, the other three share the rest alike. Drawn are the downhill steps on the logits of the
four, -∂loss/∂logit, against p, computed by `steerclear.objective_loss`; an answer has this one token.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from steerclear.losses.objective import objective_loss
from steerclear.losses.options import REFERENCE_OBJECTIVES, GroundCost
from steerclear.losses.vocabulary import OutputHead

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "steerclear"
from matplotlib import pyplot  # noqa: E402 (after the backend is chosen)

PANELS = (
    ("emd_bound", {"objective": "emd_bound"}),
    ("emd, cosine", {"objective": "emd"}),
    ("emd, clipped", {"objective": "emd", "cost": GroundCost(kind="clipped")}),
    ("emd, clipped, gate 1", {"objective": "emd", "cost": GroundCost(kind="clipped"), "gate_power": 1.0}),
    ("nlcl", {"objective": "nlcl"}),
    ("unlikelihood", {"objective": "unlikelihood"}),
    ("gradient_ascent", {"objective": "gradient_ascent"}),
    ("npo, β 0.1", {"objective": "npo"}),
    ("npo_mean, β 2.5", {"objective": "npo_mean"}),
    ("simnpo, β 2.5", {"objective": "simnpo"}),
)
TOKENS = (("y, unsafe", "#c0392b"), ("related", "#b9770e"), ("unrelated", "#2a6f97"), ("opposite", "#6c757d"))
SIMILARITIES = (1.0, 0.6, 0.0, -0.6)
BASE = 0.5
"""Probability of y under the frozen base."""


def steps(p: float, options: dict[str, object]) -> Tensor:
    """Return -∂loss/∂logit [4] where y has probability p."""
    embedding_VE = torch.tensor([[s, math.sqrt(1 - s * s)] for s in SIMILARITIES], dtype=torch.float64)
    logits_1V = torch.tensor([[p, *[(1 - p) / 3] * 3]], dtype=torch.float64).log().requires_grad_()
    # The head is the identity, so hidden states are logits; the cost compares the embeddings above.
    head = OutputHead(weight_VD=torch.eye(4, dtype=torch.float64))
    base = torch.tensor([math.log(BASE)], dtype=torch.float64)
    needs_base = options["objective"] in REFERENCE_OBJECTIVES
    loss = objective_loss(
        logits_1V,
        torch.tensor([0]),
        head,
        embedding_VE=embedding_VE,
        sequences_N=torch.tensor([0]),
        base_log_prob_N=base if needs_base else None,
        impl="reference",
        **options,
    ).total
    [gradient_1V] = torch.autograd.grad(loss, logits_1V)
    return -gradient_1V[0]


def main() -> None:
    """Draw."""
    probabilities = torch.linspace(0.002, 0.998, 200, dtype=torch.float64).tolist()
    figure, axes = pyplot.subplots(2, 5, figsize=(12, 4.6), layout="constrained", sharex=True)
    for axis, (name, options) in zip(axes.flat, PANELS, strict=True):
        moved = torch.stack([steps(p, options) for p in probabilities])
        for column, (label, colour) in enumerate(TOKENS):
            axis.plot(probabilities, moved[:, column].tolist(), color=colour, label=label, lw=1.6)
        axis.axhline(0, color="#b9b9b9", lw=0.8)
        axis.set_title(name, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.supxlabel("p(y)", fontsize=9)
    figure.supylabel("step on the logit", fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside upper center", ncols=4)
    figure.savefig(Path(__file__).parent.parent / "docs" / "objectives.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
