"""The ways of fine-tuning that the demo compares, each a few settings of `SteerClearTrainer`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from steerclear.data.templates import render_row
from steerclear.records import Row
from steerclear.training.arguments import SteerClearConfig
from steerclear.training.trainer import SteerClearTrainer

TRAINED = ("q_proj", "v_proj")
"""The weights that fine-tuning changes: those that the paper gives LoRA adapters, here whole."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way of fine-tuning."""

    label: str
    """Name in tables."""
    description: str
    """What it does with the unsafe rows, in one sentence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SteerClearConfig`."""


METHODS = {
    "sft": Method(
        label="Plain fine-tuning",
        description="Trains on the benign rows alone and leaves the unsafe rows out.",
        settings={"penalty_weight": 0.0},
    ),
    "emd_bound": Method(
        label="EMD bound, all tokens",
        description="The paper's objective: moves every position of an unsafe answer away from its token.",
        settings={
            "objective": "emd_bound",
            "cost": "cosine",
            "avoid_tokens": "all",
            "penalty_weight": 1.0,
            "normalization": "paper",
        },
    ),
    "nlcl": Method(
        label="NLCL, all tokens",
        description="The paper's comparison: lowers the likelihood of the whole unsafe answer.",
        settings={"objective": "nlcl", "avoid_tokens": "all", "penalty_weight": 1.0},
    ),
    "unlikelihood": Method(
        label="Unlikelihood, all tokens",
        description="Lowers the likelihood of every token of an unsafe answer by itself.",
        settings={"objective": "unlikelihood", "avoid_tokens": "all", "penalty_weight": 1.0},
    ),
    "first_token": Method(
        label="Clipped EMD, first token",
        description="Moves the first token of an unsafe answer away, towards anything unrelated alike, until it is unlikely.",
        settings={
            "objective": "emd",
            "cost": "clipped",
            "avoid_tokens": "first",
            "penalty_weight": 1.0,
            "avoid_until": 0.1,
        },
    ),
}
"""Every method by name, in the order of the tables."""


def fine_tune(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    method: Method,
    *,
    steps: int,
    seed: int,
    on_step: Callable[[int], None],
    added: Sequence[Row] = (),
) -> None:
    """Fine-tune the model in place on the CPU, its query and value projections only.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        rows: benign rows to imitate and unsafe rows to avoid.
        method: what to do with the unsafe ones.
        steps: optimizer steps.
        seed: seed of the order of rows.
        on_step: called with the number of steps done.
        added: more rows to imitate, drawn by the method's ``added_share``.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[-2] in TRAINED)
    # A row that is left out must not take a place in a batch.
    used = [row for row in rows if row.label or method.settings.get("penalty_weight", 1.0) > 0]
    columns = [
        {"id": r.id, "prompt": r.prompt, "completion": r.completion, "label": r.label, "added": is_added}
        for part, is_added in ((used, False), (added, True))
        for r in (render_row(row, "plain") for row in part)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SteerClearTrainer(
            model,
            _config(Path(scratch), method, steps, seed),
            train_dataset=Dataset.from_list(columns),
            processing_class=tokenizer,
            callbacks=[_OnStep(on_step)],
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train()


def _config(scratch: Path, method: Method, steps: int, seed: int) -> SteerClearConfig:
    settings: dict[str, Any] = {"learning_rate": 1e-4, "unsafe_share": 0.125, **method.settings}
    return SteerClearConfig(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=32,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=seed,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        **settings,
    )


class _OnStep(TrainerCallback):
    def __init__(self, on_step: Callable[[int], None]) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 (the base class's)
        self._on_step(state.global_step)
