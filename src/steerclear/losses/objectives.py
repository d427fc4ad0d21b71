"""The names of the objectives, what each needs, and which options it allows."""

from __future__ import annotations

from steerclear.errors import ConfigError, one_of
from steerclear.losses.cost import GroundCost

REFERENCE_OBJECTIVES = ("npo", "npo_mean", "circuit_breaker")
"""Objectives that compare with a frozen model: with its probabilities, or its hidden states."""

SEQUENCE_OBJECTIVES = ("nlcl", "npo", "npo_mean", "simnpo")
"""Objectives with one loss per sequence."""

AVOIDANCE_OBJECTIVES = ("emd_bound", "emd", "nlcl", "unlikelihood", "gradient_ascent", *REFERENCE_OBJECTIVES, "simnpo")
"""What pushes unsafe tokens away."""

OBJECTIVES = ("nll", *AVOIDANCE_OBJECTIVES)

BETAS = {"npo": 0.1, "npo_mean": 2.5, "simnpo": 2.5}
"""The default β: 0.1 as in the paper of NPO, 2.5 as in published runs of SimNPO, whose scale, a mean, ``npo_mean`` has."""


def check_objective(
    objective: str,
    cost: GroundCost,
    until: float = 0.0,
    *,
    gate_power: float = 0.0,
    token_decay: float = 1.0,
    beta: float | None = None,
) -> None:
    """Raise ConfigError for an unknown objective, or one that the cost or another option does not allow."""
    if objective not in OBJECTIVES:
        raise ConfigError(one_of("objective", objective, OBJECTIVES))
    if objective == "emd_bound" and cost.kind != "cosine":
        raise ConfigError(
            f"cost: got '{cost.kind}' with objective 'emd_bound', allowed: cosine. The bound of Prop. 1 holds for "
            "the cosine cost only; use objective 'emd' for a clipped cost."
        )
    if not 0 <= until < 1:
        raise ConfigError(f"avoid_until: got {until}, allowed: 0 (never stop pushing) to below 1.")
    if not gate_power >= 0:
        raise ConfigError(f"gate_power: got {gate_power}, allowed: 0 (no gate) or more.")
    if not 0 < token_decay <= 1:
        raise ConfigError(f"token_decay: got {token_decay}, allowed: above 0, to 1 (all tokens count alike).")
    if objective in SEQUENCE_OBJECTIVES:
        for name, got, off in (
            ("avoid_until", until, 0),
            ("gate_power", gate_power, 0),
            ("token_decay", token_decay, 1),
        ):
            if got != off:
                raise ConfigError(
                    f"{name}: got {got} with objective '{objective}', which has no loss per token; only {off} is allowed."
                )
    if beta is not None and objective not in BETAS:
        raise ConfigError(f"npo_beta: got {beta} with objective '{objective}'; only {', '.join(BETAS)} have a β.")
    if beta is not None and not beta > 0:
        raise ConfigError(f"npo_beta: got {beta}, allowed: above 0.")
