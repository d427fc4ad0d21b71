"""Time, memory and throughput of a TA-SFT optimizer step against a step of TRL's SFTTrainer on the same rows.

    python benchmarks/bench_step.py [--smoke] [--rounds 5] [--threads 2]
        [--model FOLDER --benign alpaca.jsonl --unsafe unsafe.jsonl]

Both trainers get the same tokenized rows in the same order. TRL's imitates all of them; here a share is to be avoided, with the
cheapest objective (clipped EMD on the first token) and the dearest (the bound on every token). Rounds alternate between the arms,
and a ratio is the median over rounds of ratios within a round. Without a model and files, a random Llama and random rows of the
same lengths stand in: 7M parameters on a CPU, 1B on a GPU.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from measure import Peak, Recorder, benchmark_parser, parse_and_set_threads, peak_memory, wait_for_device
from steerclear import SteerClearConfig, SteerClearTrainer
from steerclear.data.signed_labels import IGNORED, encode
from steerclear.data.sources import read_source
from steerclear.data.templates import render_row
from steerclear.data.tokenization import AvoidTokens, tokenize_row
from steerclear.generation.weights import load_base, load_tokenizer

ROWS_PER_STEP, STEPS, MAX_LENGTH = 32, 3, 512
"""Three steps of 32 rows hold the paper's batch of 96, so that a share of 1 % is one row."""

CHEAPEST = {"objective": "emd", "cost": "clipped", "avoid_tokens": "first"}
DEAREST = {"objective": "emd_bound", "cost": "cosine", "avoid_tokens": "all"}

Row = tuple[list[int], int]
"""Token ids, and the number of them that belong to the prompt."""


@dataclass(frozen=True)
class Material:
    """What is trained: a way to make the model afresh, and rows to imitate and to avoid."""

    name: str
    make_model: Callable[[], Any]
    tokenizer: Any
    benign: list[Row]
    unsafe: list[Row]

    def dataset(self, rows: int, unsafe_share: float, avoid_tokens: str, *, signed: bool) -> Dataset:
        """Return that many rows, the unsafe ones spread evenly; unless ``signed`` all are to be imitated."""
        every = round(1 / unsafe_share) if unsafe_share else rows + 1
        made = []
        for number in range(rows):
            avoid = number % every == every - 1
            pool = self.unsafe if avoid else self.benign
            ids, prompt = pool[number % len(pool)]
            answer = len(ids) - prompt
            last = 1 if avoid and signed and avoid_tokens == "first" else answer
            labels = [encode(token, avoid=avoid and signed) for token in ids[prompt : prompt + last]]
            made.append({"input_ids": ids, "labels": [IGNORED] * prompt + labels + [IGNORED] * (answer - last)})
        return Dataset.from_list(made)


class Clock(TrainerCallback):
    """Keeps the wall time of each optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait_for_device()
        self.seconds.append(time.perf_counter() - self._start)


@dataclass(frozen=True)
class Run:
    """What one training cost."""

    step_seconds: list[float]
    memory: Peak


def train(material: Material, dataset: Dataset, *, ours: bool, lora: bool, batch: int, **options: Any) -> Run:
    """Train and return the cost of the steps. The first one warms up and is not in it."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder, "max_steps": STEPS + 1, "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 2, "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no",
            "logging_strategy": "no", "disable_tqdm": True, "train_sampling_strategy": "sequential", "max_length": MAX_LENGTH,
            "bf16": torch.cuda.is_available(), "dataloader_pin_memory": torch.cuda.is_available(),
        } | options  # fmt: skip
        made = {
            "model": material.make_model(),
            "train_dataset": dataset,
            "processing_class": material.tokenizer,
            "callbacks": [clock],
            "peft_config": LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
            if lora
            else None,
        }
        if ours:
            trainer = SteerClearTrainer(args=SteerClearConfig(**{"sampling": "uniform", **settings}), **made)
        else:
            trainer = SFTTrainer(args=SFTConfig(**settings), **made)
        trainer.remove_callback(PrinterCallback)
        memory = peak_memory(trainer.train)
    return Run(clock.seconds[1:], memory)


def compare(recorder: Recorder, material: Material, rounds: int, *, shares: Sequence[float], lora: bool) -> None:
    """Record the step of each objective at each unsafe share, beside TRL's step on the same rows."""
    for share in shares:
        arms: dict[str, dict[str, Any]] = {"TRL SFTTrainer": {}, "steerclear SFT": {"penalty_weight": 0.0}}
        if share:
            arms = {"TRL SFTTrainer": {}, "emd clipped, first token": CHEAPEST, "emd_bound, all tokens": DEAREST}
        runs: dict[str, list[Run]] = {name: [] for name in arms}
        for number in range(rounds):
            for name in sorted(arms, key=lambda arm: (list(arms).index(arm) - number) % len(arms)):
                ours, options = name != "TRL SFTTrainer", arms[name]
                dataset = material.dataset(
                    ROWS_PER_STEP * (STEPS + 1), share, options.get("avoid_tokens", "all"), signed=ours
                )
                batch = ROWS_PER_STEP // 2
                runs[name].append(train(material, dataset, ours=ours, lora=lora, batch=batch, **options))
        base = runs["TRL SFTTrainer"]
        tokens = sum(map(len, dataset["input_ids"][ROWS_PER_STEP:])) / STEPS
        for name, own in runs.items():
            seconds = [statistics.median(run.step_seconds) for run in own]
            total = [sum(run.step_seconds) for run in own]
            recorder.add(
                "step", model=material.name, tuning="LoRA" if lora else "full", unsafe_share=share, arm=name,
                seconds=statistics.median(seconds), rows_per_second=ROWS_PER_STEP * STEPS / statistics.median(total),
                tokens_per_second=tokens * STEPS / statistics.median(total),
                ratio_time=statistics.median(a / sum(b.step_seconds) for a, b in zip(total, base, strict=True)),
                peak_mib=_median([run.memory.mib for run in own]), extra_mib=_median([run.memory.extra_mib for run in own]),
                ratio_peak=_ratio([run.memory.mib for run in own], [run.memory.mib for run in base]),
                ratio_extra=_ratio([run.memory.extra_mib for run in own], [run.memory.extra_mib for run in base]), runs=rounds,
            )  # fmt: skip


def packing(recorder: Recorder, material: Material, rounds: int, rows: int) -> None:
    """Record rows a second, padded and packed, over the same rows."""
    unpacked = material.dataset(rows, 0.05, "first", signed=True)
    tokens = sum(map(len, unpacked["input_ids"]))
    # As many real tokens a micro-batch in both.
    packs = max(1, round(ROWS_PER_STEP / 2 * tokens / rows / MAX_LENGTH))
    speeds: dict[str, list[float]] = {"padded": [], "packed": []}
    for number in range(rounds):
        for name in ("padded", "packed") if number % 2 else ("packed", "padded"):
            batch = ROWS_PER_STEP // 2 if name == "padded" else packs
            seconds = train(
                material, unpacked, ours=True, lora=True, batch=batch, max_steps=-1, num_train_epochs=2, packing=name == "packed",
                **CHEAPEST,
            ).step_seconds  # fmt: skip
            # The second of two epochs: what is left of the first warmed up.
            speeds[name].append(rows / sum(seconds[len(seconds) // 2 :]))
    for name, speed in speeds.items():
        recorder.add(
            "packing", model=material.name, arm=name, rows=rows, tokens=tokens, rows_per_second=statistics.median(speed),
            tokens_per_second=statistics.median(speed) * tokens / rows,
            ratio_rows_per_second=statistics.median(a / b for a, b in zip(speed, speeds["padded"], strict=True)), runs=rounds,
        )  # fmt: skip


def real_material(model: str, benign: str, unsafe: str, rows: int) -> Material:
    """Return a model folder and rows from files, in the Alpaca template."""
    tokenizer = load_tokenizer(model)

    def read(source: str, role: str) -> list[Row]:
        made = []
        for row in read_source(source, role).rows[:rows]:
            text = render_row(row, "alpaca")
            done = tokenize_row(
                tokenizer, text.prompt, text.completion, True, avoid=AvoidTokens(), max_length=MAX_LENGTH, row_id=row.id
            )
            made.append((done.input_ids, sum(label == IGNORED for label in done.labels)))
        return made

    return Material(
        "small base model, Alpaca and BeaverTails rows", lambda: load_base(model, torch.float32), tokenizer,
        read(benign, "benign"), read(unsafe, "unsafe"),
    )  # fmt: skip


def random_material(rows: int, *, smoke: bool) -> Material:
    """Return a random Llama and random rows whose lengths spread as Alpaca's do."""
    gpu = torch.cuda.is_available() and not smoke
    vocabulary, width, layers, heads, groups, inner = (
        (128_256, 2048, 16, 32, 8, 8192) if gpu else (512, 32, 2, 4, 4, 64) if smoke else (4096, 256, 6, 8, 8, 704)
    )
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, max_position_embeddings=MAX_LENGTH,
    )  # fmt: skip
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, "w0"))
    g = torch.Generator().manual_seed(0)
    lengths = torch.normal(4.8, 0.6, (rows,), generator=g).exp().long().clamp(24, MAX_LENGTH).tolist()
    made = [(torch.randint(4, vocabulary, (n,), generator=g).tolist(), n // 3) for n in lengths]
    parameters = "1B" if gpu else "0.05M" if smoke else "7M"
    return Material(
        f"random Llama of {parameters} parameters, random rows",
        lambda: LlamaForCausalLM(config).to(torch.bfloat16 if gpu else torch.float32),
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1"),
        made,
        made[::-1],
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(values: Sequence[float | None], base: Sequence[float | None]) -> float | None:
    return _median([a / b for a, b in zip(values, base, strict=True) if a is not None and b])


def main() -> None:
    """Measure and record."""
    parser = benchmark_parser(__doc__, smoke="on a tiny model")
    parser.add_argument("--model", help="folder of a base model; needs --benign and --unsafe")
    parser.add_argument("--benign", help="rows to imitate")
    parser.add_argument("--unsafe", help="rows to avoid")
    arguments = parse_and_set_threads(parser)
    if arguments.model and not (arguments.benign and arguments.unsafe):
        parser.error("--model needs --benign and --unsafe")
    disable_progress_bars()
    rounds, rows = arguments.rounds, (64 if arguments.smoke else 512)
    if arguments.model:
        material = real_material(arguments.model, arguments.benign, arguments.unsafe, rows)
    else:
        material = random_material(rows, smoke=arguments.smoke)
    recorder = Recorder("step", save=not arguments.smoke)
    compare(recorder, material, rounds, shares=(0.05,) if arguments.smoke else (0.0, 0.01, 0.05, 0.2), lora=True)
    compare(recorder, material, rounds, shares=(0.05,), lora=False)
    packing(recorder, material, rounds, rows // 2)
    recorder.close()


if __name__ == "__main__":
    main()
