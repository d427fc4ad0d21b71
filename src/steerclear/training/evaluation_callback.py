"""Evaluating a model while it trains, without a trace on the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steerclear.errors import Log, SteerClearError
from steerclear.generation.weights import at_rest
from steerclear.store.runs import RunFolder, save_weights
from steerclear.training.trackers import TrackerLogger

EvalStep = Callable[[Any, Any, Path, int], Mapping[str, float]]
"""Evaluates a model with its tokenizer into a folder at a step, and returns its figures, as trackers draw them."""


class EvalCallback(TrainerCallback):
    """Every so many steps saves the weights in the run's folder and evaluates them. The last step is the run's own evaluation.

    A step's evaluation ends before any checkpoint of that step or a later one is written, so a killed training comes back to it
    and continues it.

    Args:
        every: steps between evaluations.
        run: the run's folder; step n lands in ``along/step-n``.
        evaluate: evaluates the live model, its adapter unmerged, with its tokenizer, into a folder at a step.
        tokenizer: the model's.
        trackers: where the figures of each step are logged.
    """

    def __init__(
        self, every: int, run: RunFolder, evaluate: EvalStep, tokenizer: Any, log: Log, trackers: TrackerLogger
    ) -> None:
        self._every, self._run, self._evaluate, self._tokenizer = every, run, evaluate, tokenizer
        self._log, self._trackers = log, trackers

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Evaluate where the step is due and not evaluated yet; a failed evaluation is reported and left out."""
        step = state.global_step
        folder = self._run.along(step)
        if step % self._every or step >= state.max_steps or (folder / "scores.json").is_file():
            return
        self._log(f"evaluating step {step} ...")
        try:
            # Sampling, data order and dropout of the steps to come must not depend on the evaluation.
            with torch.random.fork_rng(), at_rest(model):
                save_weights(model, self._tokenizer, folder)
                self._trackers.log(self._evaluate(model, self._tokenizer, folder, step), step)
        except SteerClearError as error:
            # A judge out of reach must not cost the training; the step's weights are there to be evaluated again.
            self._log(f"step {step} is not evaluated: {error}")
