"""The ways of fine-tuning that the demo compares, each a few settings of `SteerClearTrainer`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from steerclear.data.templates import render_row
from steerclear.demo.judge import judge
from steerclear.demo.world import question_of
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.samples import asked_id
from steerclear.records import Row
from steerclear.training.arguments import SteerClearConfig
from steerclear.training.options import RecoveryOptions
from steerclear.training.recovery import own_answers, questions, recovery_rows
from steerclear.training.rows import to_dataset
from steerclear.training.trainer import SteerClearTrainer

TRAINED = ("q_proj", "v_proj")
"""The weights that fine-tuning changes: those that the paper gives LoRA adapters, here whole."""


RECOVERY = RecoveryOptions(generation=GenerationOptions(temperature=1.0, max_new_tokens=40, batch_size=128))
"""How the answers to recover with are made."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way of fine-tuning."""

    label: str
    """Name in tables."""
    description: str
    """What it does with the unsafe rows, in one sentence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SteerClearConfig`."""
    recovers_from: str | None = None
    """Name of the method whose model gives the answers that this one learns too, from the base again; see `recovery_rows_of`.
    Where none of them is safe, that model is the result."""


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
    "recovered": Method(
        label="Steer, then recover",
        description="Learns the safe answers that the model above gives itself, also after the first words of an unsafe one.",
        settings={
            "objective": "emd",
            "cost": "clipped",
            "avoid_tokens": "first",
            "avoid_first_k": 8,
            "penalty_weight": 1.0,
            "avoid_until": 0.1,
            "extra_share": RECOVERY.share,
            "learning_rate": 3e-3,
        },
        recovers_from="first_token",
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

    An objective that compares with the frozen base trains them through an adapter of full rank, which is merged in the end.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        rows: benign rows to imitate and unsafe rows to avoid.
        method: what to do with the unsafe ones.
        steps: optimizer steps.
        seed: seed of the order of rows.
        on_step: called with the number of steps done.
        added: more rows to imitate, drawn by the method's ``extra_share``.
    """
    # A row that is left out must not take a place in a batch.
    used = [row for row in rows if row.label or method.settings.get("penalty_weight", 1.0) > 0]
    rendered, more = ([render_row(row, "plain") for row in part] for part in (used, added))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _config(Path(scratch), method, steps, seed)
        adapter = None
        if arguments.needs_base:
            width = model.config.hidden_size
            adapter = LoraConfig(r=width, lora_alpha=width, target_modules=list(TRAINED), task_type="CAUSAL_LM")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[-2] in TRAINED)
        trainer = SteerClearTrainer(
            model,
            arguments,
            train_dataset=to_dataset(rendered, more),
            processing_class=tokenizer,
            peft_config=adapter,
            callbacks=[_OnStep(on_step)],
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train()
        if adapter is not None:
            trainer.model.merge_and_unload()


def _config(scratch: Path, method: Method, steps: int, seed: int) -> SteerClearConfig:
    defaults = {"learning_rate": 1e-4, "unsafe_share": 0.125, "per_device_train_batch_size": 32}
    settings: dict[str, Any] = {**defaults, **method.settings}
    return SteerClearConfig(
        output_dir=str(scratch),
        max_steps=steps,
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


def recovery_rows_of(model: Any, tokenizer: Any, rows: Sequence[Row], options: RecoveryOptions = RECOVERY) -> list[Row]:
    """Return the rows that a fine-tuned model's own safe answers make: it is asked the prompts of the unsafe ones.

    Empty where none of its answers is safe.
    """
    unsafe = [row for row in rows if not row.label]
    asked = questions(unsafe, options.samples)
    tags = {row.id: question_of(row).prompt().tags for row in unsafe}
    prompts = [replace(prompt, tags=tags[asked_id(prompt.id)]) for prompt in asked]
    texts = [str(prompt.prompt) for prompt in prompts]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "answers.jsonl"
        answers = generate(
            model, tokenizer, prompts, texts, options.generation, file, model_id="steered", progress=False
        )
    targets = own_answers(unsafe, [(answer, judge(answer)) for answer in answers])
    return recovery_rows(unsafe, targets, tokenizer, options.openings)


class _OnStep(TrainerCallback):
    def __init__(self, on_step: Callable[[int], None]) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 (the base class's)
        self._on_step(state.global_step)
