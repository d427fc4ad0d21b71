"""One training step a run on as many ranks as the launcher starts; rank 0 saves the gradients. Used by test_traps.py.

Arguments: model folder, rows (JSON), rows per rank, output folder, and a JSON list of the trainer's arguments of each run, with
the arguments of an adapter under "lora".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from steerclear import SteerClearConfig, SteerClearTrainer


class SaveGradient(TrainerCallback):
    """Saves the gradient that the optimizer gets."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_pre_optimizer_step(self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
        if state.is_world_process_zero:
            torch.save(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]), self.path)


folder, rows, per_rank, output, runs = sys.argv[1:]
logs = []
for number, settings in enumerate(json.loads(runs)):
    lora = settings.pop("lora", None)
    trainer = SteerClearTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=SteerClearConfig(
            output_dir=str(Path(output) / "out"), per_device_train_batch_size=int(per_rank), max_steps=1, max_grad_norm=0.0,
            gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            train_sampling_strategy="sequential", logging_steps=1, ddp_find_unused_parameters=False, **settings,
        ),
        train_dataset=Dataset.from_list(json.loads(Path(rows).read_text())),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=None if lora is None else LoraConfig(**lora, init_lora_weights=False),
        callbacks=[SaveGradient(str(Path(output) / f"gradient-{number}.pt"))],
    )  # fmt: skip
    trainer.train()
    logs.append(trainer.state.log_history[0])
if trainer.is_world_process_zero():
    (Path(output) / "logs.json").write_text(json.dumps(logs))
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
sys.stdout.flush()
# All results are on disk; gloo's threads can abort a regular exit ("terminate called without an active exception").
os._exit(0)
