"""Prompts a second: `steerclear.generation` in batches against a loop of `generate` calls, and an adapter merged or not.

    python benchmarks/bench_generate.py [--smoke] [--rounds 5] [--threads 2] [--model FOLDER --prompts prompts.jsonl]

All arms decode greedily and stop at the same number of new tokens. Without a model and prompts, a random Llama of 7M parameters
answers random prompts, none of which ends early.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from bench_step import random_material
from measure import Recorder, paired_times, summary
from steerclear.data.templates import render_prompt
from steerclear.generation import GenerationOptions, generate
from steerclear.models import load_base, load_tokenizer
from steerclear.records import Prompt, read_jsonl


def one_by_one(model: Any, tokenizer: Any, texts: list[str], new_tokens: int) -> list[str]:
    """Return the answers of a plain loop."""
    answers = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").to(model.device)
        made = model.generate(
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers.append(tokenizer.decode(made[0, ids["input_ids"].size(1) :], skip_special_tokens=True).strip())
    return answers


def batched(model: Any, tokenizer: Any, texts: list[str], new_tokens: int, batch: int) -> list[str]:
    """Return the answers of `steerclear.generation`, written to a file as always."""
    prompts = [Prompt(id=str(i), suite="bench", prompt=text) for i, text in enumerate(texts)]
    options = GenerationOptions(max_new_tokens=new_tokens, batch_size=batch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        found = generate(model, tokenizer, prompts, texts, options, path, model_id="bench", progress=False)
    return [answer.response for answer in found]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="one round on a tiny model, to see that it runs; not recorded"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--model", help="folder of a base model; needs --prompts")
    parser.add_argument("--prompts", help="JSONL file with a field prompt")
    arguments = parser.parse_args()
    if arguments.model and not arguments.prompts:
        parser.error("--model needs --prompts")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    count, new_tokens, rounds = (4, 4, 1) if arguments.smoke else (64, 48, arguments.rounds)
    if arguments.model:
        model, tokenizer, name = (
            load_base(arguments.model, torch.float32),
            load_tokenizer(arguments.model),
            "small base model",
        )
        texts = [render_prompt(row["prompt"]) for _, row in read_jsonl(Path(arguments.prompts))][:count]
    else:
        material = random_material(count, smoke=arguments.smoke)
        model, tokenizer, name = material.make_model(), material.tokenizer, material.name
        texts = [" ".join(f"w{i}" for i in ids[:64]) for ids, _ in material.benign]
    model.eval()
    lora = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    adapted = get_peft_model(copy.deepcopy(model), lora).eval()
    merged = copy.deepcopy(adapted).merge_and_unload().eval()

    arms: dict[str, tuple[Any, Callable[[Any], list[str]]]] = {
        "one at a time": (model, lambda m: one_by_one(m, tokenizer, texts, new_tokens)),
        **{
            f"batches of {size}": (model, lambda m, size=size: batched(m, tokenizer, texts, new_tokens, size))
            for size in (8, 32, 64)
        },
        "batches of 32, adapter": (adapted, lambda m: batched(m, tokenizer, texts, new_tokens, 32)),
        "batches of 32, adapter merged": (merged, lambda m: batched(m, tokenizer, texts, new_tokens, 32)),
    }
    answers = {arm: run(own) for arm, (own, run) in arms.items()}
    times = paired_times({arm: [lambda own=own, run=run: run(own)] for arm, (own, run) in arms.items()}, rounds)
    recorder = Recorder("generate", save=not arguments.smoke)
    for arm, (seconds,) in times.items():
        base = "batches of 32, adapter" if "adapter" in arm else "one at a time"
        figures = summary(seconds, times[base][0])
        same = sum(a == b for a, b in zip(answers[arm], answers[base], strict=True)) / len(texts)
        recorder.add(
            "generate", model=name, arm=arm, prompts=len(texts), new_tokens=new_tokens, seconds=figures["p50"],
            prompts_per_second=len(texts) / figures["p50"], against=base, speed_up=1 / figures["ratio"],
            identical_answers=same, runs=rounds,
        )  # fmt: skip
    recorder.close()


if __name__ == "__main__":
    main()
