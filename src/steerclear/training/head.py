"""All loss terms inside the model's own forward, so that they run through PEFT, DDP and FSDP wrappers.

`add_objective_head` patches ``forward`` as TRL's ``add_fused_lm_head`` does: with ``signed_labels`` the backbone runs once and
the head on the scored positions only; without, the forward is the one that was there before. Where the loss compares with the
frozen base model, the backbone runs once more, without gradient, first: it is the model itself, its adapter off.

Shape suffixes: B rows, T positions, N scored tokens, D hidden width, V vocabulary, E embedding width.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

from steerclear.data import signed_labels
from steerclear.errors import ConfigError, ModelError
from steerclear.generation.weights import at_rest
from steerclear.losses.anchor import anchor_loss
from steerclear.losses.objective import LossOutput, log_probability, objective_loss
from steerclear.losses.options import REFERENCE_OBJECTIVES, LossOptions
from steerclear.losses.vocabulary import OutputHead
from steerclear.training import packed_attention

AdapterSwitch = Callable[[], AbstractContextManager[Any]]
"""Gives a context in which the adapter is off."""


@dataclass
class ObjectiveOutput(ModelOutput):
    """Sums and counts of one micro-batch, each a scalar tensor."""

    benign_total: Tensor | None = None
    """Sum of weight · -log p(y) over the imitated tokens; carries the gradient."""
    benign_tokens: Tensor | None = None
    penalty_total: Tensor | None = None
    """Sum of weight · avoidance loss over the avoided tokens or sequences; carries the gradient."""
    penalty_count: Tensor | None = None
    """Number of avoided tokens, or of sequences under a sequence objective."""
    unsafe_probability: Tensor | None = None
    """Sum of p(y) over the avoided tokens, detached."""
    unsafe_tokens: Tensor | None = None
    anchor_total: Tensor | None = None
    """Sum of weight · KL(base ‖ model) over the imitated tokens, where there is an anchor; carries the gradient."""


@dataclass(frozen=True)
class BaseStates:
    """What the frozen base model makes of a micro-batch."""

    hidden_BTD: Tensor
    head: OutputHead


def head_of(model: Any) -> OutputHead:
    """Return the output head of a causal language model as the forward passes use it.

    The names of scale and soft-cap are those of the transformers architectures (Gemma 2, Cohere, Granite, ...).

    Raises:
        ModelError: the model has no output head with a weight.
    """
    module = model.get_output_embeddings()
    if module is None or getattr(module, "weight", None) is None:
        raise ModelError(f"{type(model).__name__} has no output head: a causal language model is needed.")
    config = model.config.get_text_config()
    named = (getattr(config, name, None) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"))
    scale = next((value for value in named if value is not None), 1.0)
    if scale == 1.0 and getattr(config, "logits_scaling", None) is not None:
        scale = config.logits_scaling if config.model_type == "hyperclovax" else 1 / config.logits_scaling
    return OutputHead(
        weight_VD=_whole(module.weight),
        bias_V=_whole(module.bias) if getattr(module, "bias", None) is not None else None,
        scale=scale,
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def _whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def sequence_index(labels_BT: Tensor, position_ids_BT: Tensor | None) -> Tensor:
    """Return an integer for each position, equal within a sequence [B, T].

    A row is a sequence, unless position ids start anew inside it: then it is packed, and each start begins a sequence.
    """
    rows_B1 = torch.arange(labels_BT.size(0), device=labels_BT.device)[:, None]
    if position_ids_BT is None:
        return rows_B1.expand_as(labels_BT)
    return rows_B1 * labels_BT.size(1) + (position_ids_BT == 0).cumsum(1)


def add_objective_head(
    model: Any, avoidance: LossOptions, *, anchored: bool = False, without_adapter: AdapterSwitch | None = None
) -> None:
    """Patch ``model.forward``: ``model(..., signed_labels=labels)`` then returns an `ObjectiveOutput`.

    Args:
        model: the causal language model itself, not its PEFT wrapper.
        avoidance: the avoidance objective; its implementation is that of all terms.
        anchored: whether to compute the divergence from the frozen base model.
        without_adapter: see `adapter_switch`; ``anchored`` and the `REFERENCE_OBJECTIVES` need it.
    """
    plain_forward = model.forward

    @functools.wraps(plain_forward)
    def forward(self: Any, *args: Any, signed_labels: Tensor | None = None, **kwargs: Any) -> Any:
        if signed_labels is None:
            return plain_forward(*args, **kwargs)
        kwargs.pop("labels", None)
        inputs = packed_attention.with_boundaries(self, kwargs)
        base: BaseStates | None = None
        if without_adapter is not None and _is_compared(signed_labels, avoidance.objective, anchored):
            with as_base(self, without_adapter):
                base = BaseStates(self.base_model(*args, **inputs, use_cache=False).last_hidden_state, head_of(self))
        hidden_BTD = self.base_model(*args, **inputs, use_cache=False).last_hidden_state
        with maybe_gather_lm_head_ctx(self.get_output_embeddings().weight):
            return _all_terms(self, hidden_BTD, signed_labels, kwargs.get("position_ids"), avoidance, base, anchored)

    model.forward = types.MethodType(forward, model)


def _is_compared(labels_BT: Tensor, objective: str, anchored: bool) -> bool:
    """Whether any token of the micro-batch needs the base model; most have no unsafe one."""
    decoded = signed_labels.decode(labels_BT[:, 1:])
    compared_BT = decoded.imitate & anchored | decoded.avoid & (objective in REFERENCE_OBJECTIVES)
    return bool(compared_BT.any())


def _all_terms(
    model: Any,
    hidden_BTD: Tensor,
    labels_BT: Tensor,
    position_ids_BT: Tensor | None,
    avoidance: LossOptions,
    base: BaseStates | None,
    anchored: bool,
) -> ObjectiveOutput:
    head = head_of(model)
    sequences_BT = sequence_index(labels_BT, position_ids_BT)[:, 1:]
    decoded = signed_labels.decode(labels_BT[:, 1:].to(head.weight_VD.device))
    hidden_BTD = hidden_BTD[:, :-1].to(head.weight_VD.device)
    # Where there was no base pass, no token is compared, and no token's states can be taken from any.
    base_BTD = hidden_BTD.detach() if base is None else base.hidden_BTD[:, :-1].to(head.weight_VD.device)
    base_head = head if base is None else base.head
    embedding_VE = _whole(model.get_input_embeddings().weight) if avoidance.cost.embedding == "input" else None

    def term(mask_BT: Tensor, options: LossOptions, **of_base: Tensor) -> LossOutput:
        return objective_loss(
            hidden_BTD[mask_BT],
            decoded.targets[mask_BT],
            head,
            options,
            embedding_VE=embedding_VE,
            sequences_N=sequences_BT.to(mask_BT.device)[mask_BT],
            weights_N=decoded.weights[mask_BT],
            **of_base,
        )

    impl, mask_BT = avoidance.impl, decoded.avoid
    of_base = {}
    if avoidance.objective == "circuit_breaker":
        # The last states, those before the head: no other layer's are at hand without hooks.
        of_base = {"base_hidden_ND": base_BTD[mask_BT]}
    elif avoidance.objective in REFERENCE_OBJECTIVES:
        with torch.no_grad():
            base_log_prob_N = log_probability(base_BTD[mask_BT], decoded.targets[mask_BT], base_head, impl=impl)
        of_base = {"base_log_prob_N": base_log_prob_N}
    benign = term(decoded.imitate, LossOptions(objective="nll", impl=impl))
    unsafe = term(mask_BT, avoidance, **of_base)
    anchor = None
    if anchored:
        mask_BT = decoded.imitate
        states_ND = (hidden_BTD[mask_BT], head, base_BTD[mask_BT], base_head)
        anchor = anchor_loss(*states_ND, weights_N=decoded.weights[mask_BT], impl=impl)
    return ObjectiveOutput(
        benign_total=benign.total,
        benign_tokens=benign.count,
        penalty_total=unsafe.total,
        penalty_count=unsafe.count,
        unsafe_probability=unsafe.probability,
        unsafe_tokens=unsafe.tokens,
        anchor_total=anchor,
    )


def adapter_switch(model: Any, wanted_by: str | None) -> AdapterSwitch | None:
    """Return what switches the adapter of a PEFT model off, or None where nobody wants it.

    Args:
        wanted_by: the argument that needs it, named in errors.

    Raises:
        ConfigError: all weights train, so that no base is left; or the adapter trains the base's own biases.
    """
    if wanted_by is None:
        return None
    if not isinstance(model, PeftModel):
        raise ConfigError(
            f"{wanted_by}: compares with the frozen base model, which is the model with its adapter switched off, but here "
            "all weights train. Train an adapter (peft_config; in a recipe: lora), or choose another objective (simnpo needs no "
            "base) and kl_weight=0."
        )
    changed = [name for name, config in model.peft_config.items() if getattr(config, "bias", "none") != "none"]
    if changed:
        raise ConfigError(
            f"{wanted_by}: compares with the frozen base model, but adapter '{changed[0]}' trains biases of the base itself, "
            "which cannot be switched off. Set bias='none' in its configuration."
        )
    switch: AdapterSwitch = model.disable_adapter
    return switch


@contextmanager
def as_base(model: Any, without_adapter: AdapterSwitch) -> Iterator[None]:
    """Make ``model`` its frozen base for a while: adapter off, no dropout, no gradient.

    Enter it before the forward pass that trains, not after: PEFT's switch also turns the adapter's requires_grad off and on.
    """
    with at_rest(model), without_adapter():
        yield
