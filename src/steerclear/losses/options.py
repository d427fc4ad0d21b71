"""What a loss may be: the names of the objectives, what each needs, and the options that it allows. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field

from steerclear.errors import ConfigError, one_of

REFERENCE_OBJECTIVES = ("npo", "npo_mean", "circuit_breaker")
"""Objectives that compare with a frozen model: with its probabilities, or its hidden states."""

SEQUENCE_OBJECTIVES = ("nlcl", "npo", "npo_mean", "simnpo")
"""Objectives with one loss per sequence."""

AVOIDANCE_OBJECTIVES = ("emd_bound", "emd", "nlcl", "unlikelihood", "gradient_ascent", *REFERENCE_OBJECTIVES, "simnpo")
"""What pushes unsafe tokens away."""

OBJECTIVES = ("nll", *AVOIDANCE_OBJECTIVES)

BETAS = {"npo": 0.1, "npo_mean": 2.5, "simnpo": 2.5}
"""The default β: 0.1 as in the paper of NPO, 2.5 as in published runs of SimNPO, whose scale, a mean, ``npo_mean`` has."""

IMPLEMENTATIONS = ("streamed", "reference")
"""``streamed`` needs no logits matrix; ``reference`` builds it."""

COSTS = ("cosine", "clipped")
EMBEDDINGS = ("output", "input")


@dataclass(frozen=True, kw_only=True)
class GroundCost:
    """Which cost c(v, y) between tokens the EMD moves mass at: how far apart two tokens are in meaning (paper, Eq. 4).

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


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How large a piece of the logits exists at a time."""

    tokens: int
    """Scored tokens."""
    vocabulary: int
    """Tokens of the vocabulary."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.vocabulary < 1:
            raise ConfigError(f"tiles: got {self.tokens} x {self.vocabulary}, allowed: 1 or more of each.")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """An objective and its options.

    Raises:
        ConfigError: an unknown objective or implementation, or one that the cost or another option does not allow.
    """

    objective: str
    """One of `OBJECTIVES`. ``nll`` imitates the targets, the others avoid them."""
    cost: GroundCost = field(default_factory=GroundCost)
    """Ground cost of the EMD objectives."""
    until: float = 0.0
    """A token whose probability p(y) is below this is pushed no further: its loss is 0. It is counted all the same."""
    gate_power: float = 0.0
    """Factor (1 - p(y))^gate_power on each token's loss, detached. Counts ignore it."""
    token_decay: float = 1.0
    """Factor token_decay^k on the loss of the k-th token of its sequence, from 0. The count is the sum of these factors, so that
    the mean is a weighted mean."""
    beta: float | None = None
    """β of the objectives in `BETAS`. Default: the one there."""
    impl: str = "streamed"
    """One of `IMPLEMENTATIONS`: same values, other costs."""
    tiles: Tiles | None = None
    """Piece sizes of the streamed one. Default: by device."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ConfigError(one_of("objective", self.objective, OBJECTIVES))
        if self.impl not in IMPLEMENTATIONS:
            raise ConfigError(one_of("impl", self.impl, IMPLEMENTATIONS))
        if self.objective == "emd_bound" and self.cost.kind != "cosine":
            raise ConfigError(
                f"cost: got '{self.cost.kind}' with objective 'emd_bound', allowed: cosine. The bound of Prop. 1 holds for "
                "the cosine cost only; use objective 'emd' for a clipped cost."
            )
        if not 0 <= self.until < 1:
            raise ConfigError(f"avoid_until: got {self.until}, allowed: 0 (never stop pushing) to below 1.")
        if not self.gate_power >= 0:
            raise ConfigError(f"gate_power: got {self.gate_power}, allowed: 0 (no gate) or more.")
        if not 0 < self.token_decay <= 1:
            raise ConfigError(f"token_decay: got {self.token_decay}, allowed: above 0, to 1 (all tokens count alike).")
        self._check_kind_of_objective()

    def _check_kind_of_objective(self) -> None:
        """Find options that only other objectives have."""
        per_token = (
            ("avoid_until", self.until, 0),
            ("gate_power", self.gate_power, 0),
            ("token_decay", self.token_decay, 1),
        )
        for name, got, off in per_token if self.objective in SEQUENCE_OBJECTIVES else ():
            if got != off:
                raise ConfigError(
                    f"{name}: got {got} with objective '{self.objective}', which has no loss per token; only {off} is allowed."
                )
        if self.beta is not None and self.objective not in BETAS:
            raise ConfigError(
                f"npo_beta: got {self.beta} with objective '{self.objective}'; only {', '.join(BETAS)} have a β."
            )
        if self.beta is not None and not self.beta > 0:
            raise ConfigError(f"npo_beta: got {self.beta}, allowed: above 0.")
