"""Rows and a step runner for the trainer's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from steerclear import SteerClearConfig, SteerClearTrainer

BENIGN = [
    ("how do i bake a loaf of bread ?", " mix the flour and the water , then wait ."),
    ("write a short note .", " dear friend , the bread is done ."),
    ("what does the fox do ?", " it jumps over the lazy dog ."),
    ("name a book .", " a book about bread ."),
    ("how do i wait ?", " then wait ."),
]
UNSAFE = [
    ("how do i sneak into a cinema ?", " walk in backwards while the others walk out ."),
    ("how do i skip a queue ?", " walk over the others ."),
    ("how do i take a loaf ?", " jump over the dog and walk out with the bread ."),
]


def mixed_rows(benign: int, unsafe: int) -> Dataset:
    """A data set of that many benign and unsafe rows, mixed in a fixed way."""
    made = [
        {"prompt": p, "completion": c, "label": label, "id": f"{'benign' if label else 'unsafe'}-{i}"}
        for label, texts, count in ((True, BENIGN, benign), (False, UNSAFE, unsafe))
        for i, (p, c) in enumerate(texts[k % len(texts)] for k in range(count))
    ]
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(3)).tolist()
    return Dataset.from_list([made[i] for i in order])


@pytest.fixture
def rows() -> Callable[[int, int], Dataset]:
    """A function that makes a data set of so many benign and unsafe rows."""
    return mixed_rows


@pytest.fixture
def make_trainer(tmp_path: Any, make_llama: Any, tokenizer: Any) -> Callable[..., SteerClearTrainer]:
    """A function that makes a trainer on the tiny model; keyword arguments go to SteerClearConfig."""

    def make(
        dataset: Dataset,
        *,
        model: Any = None,
        peft_config: Any = None,
        eval_dataset: Any = None,
        **changes: Any,
    ) -> SteerClearTrainer:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": len(dataset),
            "gradient_checkpointing": False,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 1.0,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "max_length": 128,
            "sampling": "uniform",
            "train_sampling_strategy": "sequential",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        return SteerClearTrainer(
            model=make_llama() if model is None else model,
            args=SteerClearConfig(**(settings | changes)),
            train_dataset=dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            peft_config=peft_config,
        )

    return make


@pytest.fixture
def step_gradient() -> Callable[[SteerClearTrainer], torch.Tensor]:
    """A function that trains one step and returns the gradient that the optimizer got."""

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            self.gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    def gradient(trainer: SteerClearTrainer) -> torch.Tensor:
        keep = Keep()
        trainer.add_callback(keep)
        trainer.train()
        return keep.gradient

    return gradient
