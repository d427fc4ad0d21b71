"""What a training costs on this device: measured on a few micro-batches, not guessed."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from steerclear.data.prepare import PreparedData
from steerclear.training.defaults import training_arguments
from steerclear.training.options import TrainingSetup
from steerclear.training.sampler import UNSAFE
from steerclear.training.train import Trainer, make_trainer

ROWS_LOOKED_AT = 64


def sample_trainer(setup: TrainingSetup, prepared: PreparedData, scratch: str) -> Trainer:
    """Return the setup's trainer on the first rows of each part, writing into a scratch folder."""
    sample = prepared.beginning(ROWS_LOOKED_AT, heldout=1)
    setup = setup.changed(output=Path(scratch), arguments={**setup.arguments, "disable_tqdm": True})
    return make_trainer(setup, sample, training_arguments(setup))


def heaviest_rows(trainer: Trainer) -> list[Any]:
    """Return the micro-batch of the longest rows of the trainer's data."""
    rows = sorted(trainer.train_dataset, key=lambda row: len(row["input_ids"]), reverse=True)
    # An unsafe row belongs in it whatever its length, or the avoidance term would not run.
    rows.sort(key=lambda row: row["part"] != UNSAFE)
    size = trainer.args.per_device_train_batch_size
    return rows[:1] + sorted(rows[1:], key=lambda row: len(row["input_ids"]), reverse=True)[: size - 1]


def micro_batch_seconds(trainer: Trainer, rows: Iterable[Any]) -> float:
    """Run forward and backward of one micro-batch twice, and return the seconds of the second."""
    trainer._set_signature_columns_if_needed()
    keep = trainer._signature_columns
    batch = trainer._prepare_inputs(trainer.data_collator([{k: row[k] for k in keep if k in row} for row in rows]))
    trainer.model.train()
    seconds = 0.0
    for _ in range(2):
        trainer.model.zero_grad()
        start = time.perf_counter()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return seconds


def peak_memory() -> int:
    """Return the most memory that this process had at once, in bytes: of the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
