"""The trainers' arguments: TRL's SFTConfig and what the avoidance term adds to it, and TRL's KTOConfig as the baseline has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers.utils import is_torch_bf16_gpu_available
from trl import KTOConfig, SFTConfig

from steerclear.data.tokenization import AvoidTokens
from steerclear.errors import ConfigError, one_of
from steerclear.losses.options import (
    AVOIDANCE_OBJECTIVES,
    IMPLEMENTATIONS,
    REFERENCE_OBJECTIVES,
    SEQUENCE_OBJECTIVES,
    GroundCost,
    LossOptions,
)

KTO = "kto"
"""The objective's name."""

TRAINED_OBJECTIVES = (*AVOIDANCE_OBJECTIVES, KTO)
"""What ``training.objective`` of a recipe may be."""

AVOID_UNTIL = 0.1
"""Where the push on a first token stops by default: docs/objectives.md has the measurements."""

NORMALIZATIONS = ("global", "paper")
SAMPLINGS = ("stratified", "uniform")

_ALLOWED = {
    "objective": AVOIDANCE_OBJECTIVES,
    "normalization": NORMALIZATIONS,
    "sampling": SAMPLINGS,
    "loss_impl": IMPLEMENTATIONS,
    "loss_type": ("nll",),
}
"""Argument -> its values."""


@dataclass
class SteerClearConfig(SFTConfig):
    """Arguments of `SteerClearTrainer`: those of `trl.SFTConfig`, and the fields below.

    The loss of an optimizer step is L = L_SFT(benign tokens) + λ · L_avoid(unsafe tokens) (paper, Eqs. 6 and 8), plus
    ``kl_weight`` · KL(base ‖ model) over the benign tokens.
    """

    objective: str = field(default="emd", metadata={"help": f"Avoidance objective: {', '.join(AVOIDANCE_OBJECTIVES)}."})
    penalty_weight: float = field(default=1.0, metadata={"help": "λ, 0 or more. 0 trains on the benign rows alone."})
    cost: str = field(
        default="clipped", metadata={"help": "Ground cost of the EMD: cosine or clipped (at similarity 0)."}
    )
    cost_embedding: str = field(default="output", metadata={"help": "Embedding the cost compares: output or input."})
    cost_centred: bool = field(default=False, metadata={"help": "Subtract the mean embedding before normalising."})
    avoid_tokens: str = field(
        default="first",
        metadata={"help": "Tokens of an unsafe answer to push away: all, or the first k content tokens."},
    )
    avoid_first_k: int = field(default=1, metadata={"help": "k of avoid_tokens=first."})
    avoid_eos: bool = field(default=False, metadata={"help": "Also push away the token that ends the unsafe answer."})
    avoid_until: float | None = field(
        default=None,
        metadata={
            "help": "Push an unsafe token no further once its probability is below this. 0: always push. Default: 0.1 for first "
            "tokens and an objective per token, as pushing on drives a good opening away too; else 0."
        },
    )
    gate_power: float = field(
        default=0.0,
        metadata={
            "help": "g of a factor (1 - p)^g on each unsafe token's loss, p its probability: spares tokens the model is sure of, "
            "as the EMD's bound does by itself. 0: no gate. Only for objectives with a loss per token."
        },
    )
    token_decay: float = field(
        default=1.0,
        metadata={
            "help": "Factor d^k on the loss of the k-th avoided token of an answer (from 0), in a weighted mean: 1 counts all "
            "alike, a small d nearly the first alone. Only for objectives with a loss per token."
        },
    )
    npo_beta: float | None = field(
        default=None,
        metadata={
            "help": "β of npo (default 0.1), npo_mean and simnpo (default 2.5). The smaller, the nearer to gradient ascent."
        },
    )
    kl_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of KL(base || model), the mean over the benign tokens; the base is the model with its adapter off. "
            "0: none. Costs a second forward pass without gradient."
        },
    )
    normalization: str = field(
        default="global",
        metadata={
            "help": "Denominators. global: all benign (unsafe) tokens of the optimizer step, over accumulation and ranks. paper: "
            "those of the micro-batch, and the bound without its factor 1/2."
        },
    )
    sampling: str = field(
        default="stratified",
        metadata={
            "help": "stratified: a fixed unsafe share in every optimizer step. uniform: as the rows come (paper)."
        },
    )
    unsafe_share: float = field(
        default=0.05, metadata={"help": "Share of unsafe rows in a step of sampling=stratified."}
    )
    extra_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of added rows (data.extra) in a step of sampling=stratified; they then cycle as unsafe rows do. "
            "Default: they are drawn with the benign rows, once an epoch."
        },
    )
    loss_impl: str = field(
        default="streamed",
        metadata={
            "help": "Implementation of both terms, of the same values. streamed: in tiles of the vocabulary. reference: from a "
            "matrix of all logits."
        },
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 mixed precision. Default: where a GPU has it (TRL: everywhere)."}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "Initial learning rate (paper: 1e-4, with LoRA)."})

    def __post_init__(self) -> None:
        given = vars(self)
        problems = [one_of(name, given[name], values) for name, values in _ALLOWED.items() if given[name] not in values]
        problems += [
            message
            for wrong, message in (
                (
                    self.penalty_weight < 0,
                    f"penalty_weight: got {self.penalty_weight}, allowed: 0 or more. A negative λ would train towards the unsafe "
                    "answers.",
                ),
                (
                    not self.kl_weight >= 0,
                    f"kl_weight: got {self.kl_weight}, allowed: 0 (no anchor) or more.",
                ),
                (
                    not 0 < self.unsafe_share < 1,
                    f"unsafe_share: got {self.unsafe_share}, allowed: above 0 and below 1.",
                ),
                (
                    self.extra_share is not None and not 0 < self.extra_share < 1,
                    f"extra_share: got {self.extra_share}, allowed: above 0 and below 1, or none.",
                ),
                (
                    self.extra_share is not None and self.sampling == "uniform",
                    f"extra_share: got {self.extra_share} with sampling 'uniform', which keeps no shares. Use sampling "
                    "'stratified', or leave it out.",
                ),
                (
                    self.packing and self.packing_strategy != "bfd",
                    f"packing_strategy: got '{self.packing_strategy}', allowed: bfd. The others split a row, and a part of an "
                    "unsafe answer is another answer.",
                ),
                (
                    self.label_smoothing_factor != 0,
                    f"label_smoothing_factor: got {self.label_smoothing_factor}, allowed: 0. It is not part of this loss.",
                ),
            )
            if wrong
        ]
        if problems:
            raise ConfigError("\n".join(problems))
        if self.avoid_until is None:
            stops = self.avoid_tokens == "first" and self.objective not in SEQUENCE_OBJECTIVES
            self.avoid_until = AVOID_UNTIL if stops else 0.0
        _ = self.loss_options, self.avoided  # which refuse what does not go together
        _settle_device_defaults(self)
        super().__post_init__()

    @property
    def trains_on_unsafe(self) -> bool:
        """Whether unsafe rows are trained on; plain SFT sees none of them."""
        return self.penalty_weight > 0

    @property
    def loss_options(self) -> LossOptions:
        """The avoidance objective with its options, as the losses name them."""
        return LossOptions(
            objective=self.objective,
            cost=GroundCost(kind=self.cost, embedding=self.cost_embedding, centred=self.cost_centred),
            until=self.avoid_until or 0.0,
            gate_power=self.gate_power,
            token_decay=self.token_decay,
            beta=self.npo_beta,
            impl=self.loss_impl,
        )

    @property
    def needs_base(self) -> str | None:
        """The argument that makes each step compare with the frozen base model, if one does."""
        if self.kl_weight > 0:
            return f"kl_weight={self.kl_weight:g}"
        return f"objective={self.objective}" if self.objective in REFERENCE_OBJECTIVES else None

    @property
    def avoided(self) -> AvoidTokens:
        """Which tokens of an unsafe answer are avoided."""
        return AvoidTokens(choice=self.avoid_tokens, first_k=self.avoid_first_k, eos=self.avoid_eos)


@dataclass
class KtoBaselineConfig(KTOConfig):
    """Arguments of `KtoBaselineTrainer`: those of `trl.KTOConfig`, but for what the baseline settles, and the fields below."""

    objective: str = field(default=KTO, metadata={"help": f"Only {KTO}."})
    kto_beta: float = field(
        default=0.1, metadata={"help": "β. The larger, the nearer the model stays to the base (TRL's name: beta)."}
    )
    desirable_weight: float | None = field(
        default=None, metadata={"help": "λ_D, of benign rows. Default: from the numbers of rows, see kto_weights."}
    )
    undesirable_weight: float | None = field(
        default=None, metadata={"help": "λ_U, of unsafe rows. Default: from the numbers of rows, see kto_weights."}
    )
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Initial learning rate, that of the other objectives."}
    )
    # What makes it this baseline, or what TRL's estimate of the KL needs, is nobody's choice.
    beta: float = field(default=0.1, init=False)
    loss_type: str = field(default="kto", init=False)
    train_sampling_strategy: str = field(default="sequential", init=False)
    sync_ref_model: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        problems = [one_of("objective", self.objective, (KTO,))] if self.objective != KTO else []
        problems += [
            f"{name}: got {value}, allowed: above 0."
            for name, value in vars(self).items()
            if name in ("kto_beta", "desirable_weight", "undesirable_weight") and value is not None and not value > 0
        ]
        if self.per_device_train_batch_size < 2:
            problems.append(
                f"per_device_train_batch_size: got {self.per_device_train_batch_size}, allowed with '{KTO}': 2 or more. "
                "Its KL is estimated from the other rows of a micro-batch, whatever gradient_accumulation_steps is."
            )
        if problems:
            raise ConfigError("\n".join(problems))
        self.beta = self.kto_beta
        _settle_device_defaults(self)
        super().__post_init__()

    @property
    def trains_on_unsafe(self) -> bool:
        """Whether unsafe rows are trained on: always, as the undesirable ones."""
        return True


Arguments = SteerClearConfig | KtoBaselineConfig


def _settle_device_defaults(args: Any) -> None:
    """Settle what TRL's arguments leave open, before their own ``__post_init__``, which would choose otherwise or warn."""
    if args.bf16 is None:
        # TRL's own default is an error on a CPU, and slow where bfloat16 is emulated.
        args.bf16 = not args.fp16 and is_torch_bf16_gpu_available()
    if getattr(args, "activation_checkpointing", args) is None:
        # transformers 5.23 renamed gradient_checkpointing, which TRL 1.16 still sets; the new name first, or it warns.
        args.activation_checkpointing = args.gradient_checkpointing
