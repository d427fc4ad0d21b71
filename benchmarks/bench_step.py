"""Time of a TA-SFT step against a step of TRL's SFTTrainer on the same rows. Prints JSON lines.

    python benchmarks/bench_step.py [--smoke] [--rounds 5]

Both train a random Llama (4 layers, width 256, vocabulary 4,096) on the same 32 tokenized rows of 128 tokens, with LoRA on
q and v. Here 5 % of the rows are unsafe; TRL's step imitates all of them. Rounds alternate; the ratio is of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from steerclear import SteerClearConfig, SteerClearTrainer
from steerclear.commands.runs import versions
from steerclear.data.signed_labels import encode

ROWS, TOKENS, VOCABULARY, PROMPT = 32, 128, 4096, 32


class Clock(TrainerCallback):
    """Keeps the wall time of each optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def rows(unsafe: int, *, signed: bool) -> Dataset:
    """The same random rows; with ``signed`` labels the first ``unsafe`` ones are to be avoided."""
    ids = torch.randint(4, VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0)).tolist()
    made = []
    for number, row in enumerate(ids):
        avoid = signed and number < unsafe
        made.append({"input_ids": row, "labels": [-100] * PROMPT + [encode(t, avoid=avoid) for t in row[PROMPT:]]})
    return Dataset.from_list(made)


def seconds_per_step(trainer_class: Any, config_class: Any, steps: int, unsafe: int, **settings: Any) -> list[float]:
    """Wall times of ``steps`` steps after two that warm up."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
            num_key_value_heads=8, max_position_embeddings=512,
        )
    )  # fmt: skip
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "w0")), pad_token="w0", eos_token="w1"
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=model,
            args=config_class(
                output_dir=folder, max_steps=steps + 2, per_device_train_batch_size=16, gradient_accumulation_steps=2,
                gradient_checkpointing=False, bf16=False, report_to="none", save_strategy="no", logging_strategy="no",
                disable_tqdm=True, **settings,
            ),
            train_dataset=rows(unsafe, signed=trainer_class is SteerClearTrainer),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
            callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    return clock.seconds[2:]


def main() -> None:
    """Run the pairs and print one row each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    rounds, steps, unsafe = (1, 1, 2) if arguments.smoke else (arguments.rounds, 4, 2)
    objectives = {"emd": {"cost": "clipped"}, "emd_bound": {"cost": "cosine"}, "nlcl": {}}
    for objective, options in objectives.items():
        ours: list[float] = []
        base: list[float] = []
        for _ in range(rounds):
            base += seconds_per_step(SFTTrainer, SFTConfig, steps, unsafe)
            ours += seconds_per_step(
                SteerClearTrainer, SteerClearConfig, steps, unsafe, objective=objective, sampling="uniform", **options
            )
        row = {
            "objective": objective,
            "unsafe_rows": unsafe,
            "rows": ROWS,
            "seconds": round(statistics.median(ours), 4),
            "seconds_trl_sft": round(statistics.median(base), 4),
            "ratio": round(statistics.median(ours) / statistics.median(base), 3),
            "steps": len(ours),
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
            "versions": versions(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
