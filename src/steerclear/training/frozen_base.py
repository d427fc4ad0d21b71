"""The frozen base that some objectives and the anchor compare with: the model that trains, its adapter off. No second model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft import PeftModel

from steerclear.errors import ConfigError

AdapterSwitch = Callable[[], AbstractContextManager[Any]]
"""Gives a context in which the adapter is off."""


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
            "base) and anchor_weight=0."
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
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), without_adapter():
            yield
    finally:
        model.train(training)
