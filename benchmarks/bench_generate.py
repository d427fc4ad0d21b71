"""Prompts a second: `steerclear.generation` in batches against a loop of `generate` calls, and an adapter merged or not.

    python benchmarks/bench_generate.py [--smoke] [--rounds 5] [--threads 2] [--model FOLDER --prompts prompts.jsonl]

All arms decode greedily and stop at the same number of new tokens. Without a model and prompts, a random Llama of 7M parameters
answers random prompts, none of which ends early.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model

from bench_step import random_material
from measure import Recorder, benchmark_parser, paired_times, parse_and_set_threads, summary
from steerclear.data.templates import render_prompt
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.weights import load_base, load_tokenizer
from steerclear.records import Prompt, read_jsonl


@dataclass(frozen=True)
class EvalTarget:
    """Who answers what."""

    name: str
    model: Any
    tokenizer: Any
    texts: list[str]
    """The prompts, rendered."""


def load(model: str | None, prompts: str | None, count: int, *, smoke: bool) -> EvalTarget:
    """Return a model folder and prompts from a file, or random ones where none are named."""
    if model and prompts:
        name, made, tokenizer = "small base model", load_base(model, torch.float32), load_tokenizer(model)
        # The Alpaca template makes text of every prompt.
        texts = [cast(str, render_prompt(row["prompt"])) for _, row in read_jsonl(Path(prompts))][:count]
    else:
        material = random_material(count, smoke=smoke)
        name, made, tokenizer = material.name, material.make_model(), material.tokenizer
        texts = [" ".join(f"w{i}" for i in ids[:64]) for ids, _ in material.benign]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return EvalTarget(name, made.to(device).eval(), tokenizer, texts)


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


def batched(
    model: Any, tokenizer: Any, texts: list[str], new_tokens: int, batch: int, cache: str = "dynamic"
) -> list[str]:
    """Return the answers of `steerclear.generation`, written to a file as always."""
    prompts = [Prompt(id=str(i), suite="bench", prompt=text) for i, text in enumerate(texts)]
    options = GenerationOptions(max_new_tokens=new_tokens, batch_size=batch, cache=cache)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        found = generate(model, tokenizer, prompts, texts, options, path, model_id="bench", progress=False)
    return [answer.response for answer in found]


def arms_of(target: EvalTarget, new_tokens: int) -> dict[str, Callable[[], list[str]]]:
    """Return the ways to decode that are compared: each answers all prompts."""
    model, tokenizer, texts = target.model, target.tokenizer, target.texts
    lora = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    adapted = get_peft_model(copy.deepcopy(model), lora).eval()
    merged = copy.deepcopy(adapted).merge_and_unload().eval()
    return {
        "one at a time": partial(one_by_one, model, tokenizer, texts, new_tokens),
        **{f"batches of {size}": partial(batched, model, tokenizer, texts, new_tokens, size) for size in (8, 32, 64)},
        "batches of 32, static cache": partial(batched, model, tokenizer, texts, new_tokens, 32, "static"),
        "32 at a time, paged cache": partial(batched, model, tokenizer, texts, new_tokens, 32, "paged"),
        "batches of 32, adapter": partial(batched, adapted, tokenizer, texts, new_tokens, 32),
        "batches of 32, adapter merged": partial(batched, merged, tokenizer, texts, new_tokens, 32),
    }


def main() -> None:
    """Measure and record."""
    parser = benchmark_parser(__doc__, smoke="on a tiny model")
    parser.add_argument("--model", help="folder of a base model; needs --prompts")
    parser.add_argument("--prompts", help="JSONL file with a field prompt")
    arguments = parse_and_set_threads(parser)
    if arguments.model and not arguments.prompts:
        parser.error("--model needs --prompts")
    count, new_tokens = (4, 4) if arguments.smoke else (64, 48)
    target = load(arguments.model, arguments.prompts, count, smoke=arguments.smoke)
    arms = arms_of(target, new_tokens)
    answers = {arm: work() for arm, work in arms.items()}
    times = paired_times({arm: [work] for arm, work in arms.items()}, arguments.rounds)
    prompts = len(target.texts)
    recorder = Recorder("generate", save=not arguments.smoke)
    for arm, (seconds,) in times.items():
        base = "batches of 32, adapter" if "adapter" in arm else "one at a time"
        figures = summary(seconds, times[base][0])
        same = sum(a == b for a, b in zip(answers[arm], answers[base], strict=True)) / prompts
        recorder.add(
            "generate", model=target.name, arm=arm, prompts=prompts, new_tokens=new_tokens, seconds=figures["p50"],
            prompts_per_second=prompts / figures["p50"], against=base, speed_up=1 / figures["ratio"],
            identical_answers=same, runs=arguments.rounds,
        )  # fmt: skip
    recorder.close()


if __name__ == "__main__":
    main()
