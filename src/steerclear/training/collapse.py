"""When is a training collapsing, and what is done about it: limits on what probes of the live model see.

The list of probes is all there is to know: each says what was seen at a step and what was done, so those up to a checkpoint's
step are the state of a training that continues from it. Who probes is `steerclear.training.collapse_callback`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from steerclear.training.options import CollapseOptions


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was seen of the model at a step, and what was done about it."""

    step: int
    answers: int
    degenerate: dict[str, int]
    """Kind of degeneracy -> number of answers."""
    examples: dict[str, str]
    """Kind of degeneracy -> the start of one such answer."""
    benign_loss: float | None
    """Mean over the answer tokens of the held-out rows, in nats. None: not a finite number."""
    penalty_weight: float
    """λ of the steps after this probe."""
    action: str = "passed"
    """``passed``, ``lowered`` or ``stopped``."""
    over: list[str] | None = None
    """What is over the limits, in words. None: nothing."""

    @property
    def broken(self) -> int:
        """Number of degenerate answers."""
        return sum(self.degenerate.values())


def decide(probe: Probe, earlier: Sequence[Probe], options: CollapseOptions, *, last: bool) -> Probe:
    """Return the probe with what is over the limits and what is to be done about it.

    Args:
        earlier: the probes before it, that before the first step first.
        last: no step follows, so lowering λ would change nothing.
    """
    over = _over_limits(probe, earlier, options)
    if not over:
        return probe
    lowered = sum(one.action == "lowered" for one in earlier)
    # Where the loss is not a number, the optimizer's moments are not either, and would spoil the weights again.
    helps = not last and probe.penalty_weight > 0 and probe.benign_loss is not None
    if options.action == "lower" and lowered < options.max_lowerings and helps:
        return replace(probe, over=over, action="lowered", penalty_weight=probe.penalty_weight * options.factor)
    return replace(probe, over=over, action="stopped")


def _over_limits(probe: Probe, earlier: Sequence[Probe], options: CollapseOptions) -> list[str]:
    first = earlier[0] if earlier else probe
    over = []
    if probe.broken / probe.answers > first.broken / first.answers + options.max_degenerate_rise:
        over.append(
            f"{probe.broken} of {probe.answers} answers are degenerate ({_kinds(probe)}; before the first step {first.broken} "
            f"were){_example(probe)}"
        )
    losses = [one.benign_loss for one in earlier if one.benign_loss is not None]
    if probe.benign_loss is None:
        over.append("the benign loss is not a number any more")
    elif losses and probe.benign_loss > min(losses) + options.max_loss_rise:
        over.append(
            f"the benign loss is {probe.benign_loss:.2f} nats, {probe.benign_loss - min(losses):.2f} above its lowest so far"
        )
    return over


def _kinds(probe: Probe) -> str:
    counts = sorted(probe.degenerate.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts)


def _example(probe: Probe) -> str:
    shown = [kind for kind in probe.degenerate if probe.examples.get(kind)]
    return f", such as {probe.examples[max(shown, key=probe.degenerate.__getitem__)]!r}" if shown else ""


def last_passed(probes: Sequence[Probe], step: int | None = None) -> int:
    """Return the step of the last weights within the limits, or of the last at or before a step."""
    return max(probe.step for probe in probes if probe.action == "passed" and (step is None or probe.step <= step))


def explain(probe: Probe, earlier: Sequence[Probe]) -> str:
    """Return for the user, in two or three sentences, what was over the limits at a probe, what is done and what to do."""
    seen, first, kept = " and ".join(probe.over or ()), earlier[0].penalty_weight, last_passed(earlier)
    good = f"the weights of step {kept}" if kept else "the weights before the first step"
    if probe.action == "lowered":
        return (
            f"collapse, step {probe.step}: {seen}. Training goes on from {good}, with penalty_weight "
            f"{probe.penalty_weight:g} in place of {earlier[-1].penalty_weight:g}."
        )
    advice = (
        f"Set penalty_weight below {first:g}, or push fewer tokens (avoid_tokens: first, a smaller avoid_first_k) or less far "
        "(a larger avoid_until, for objectives per token)."
        if first > 0
        else "There is no penalty (penalty_weight 0): train for fewer steps, or lower learning_rate."
    )
    return f"collapse, step {probe.step}: training is stopped, as {seen}. Kept are {good}. {advice}"


def save_trained(model: Any, file: Path) -> None:
    """Save the weights that train into a file, which is whole or absent."""
    weights = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    unfinished = file.with_name(f".{file.name}.unfinished")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, unfinished)
    unfinished.replace(file)


def load_trained(model: Any, file: Path) -> None:
    """Put the weights of `save_trained` back into the model that they came from."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in load_file(file).items():
            parameters[name].copy_(weight)
