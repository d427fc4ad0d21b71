"""The fine-tuning attack on a local model: train a little on top of its weights, then ask the behaviors as they are.

Qi et al. 2023, arXiv 2310.03693.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from steerclear.attacks.options import FineTuningOptions
from steerclear.data.mixing import nested_subset
from steerclear.data.options import DataOptions
from steerclear.data.sources import read_source
from steerclear.errors import DataError, Log
from steerclear.evaluation.targets import EvalTarget
from steerclear.generation.answers import finished, generate
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.records import Generation, Messages, Prompt, Row, sha256_of, write_jsonl
from steerclear.training.options import LoraOptions, TrainingSetup

KEPT = ("max_length", "use_cpu", "bf16", "gradient_checkpointing")
"""Arguments of the recipe's training that are the machine's rather than the attacker's."""


def attackers_rows(options: FineTuningOptions) -> list[Row]:
    """Return the rows that the attacker trains on, all to be imitated.

    Raises:
        DataError: the source cannot be read, or has no such rows, or fewer than ``count``.
    """
    rows = read_source(options.rows, "unsafe" if options.harmful else "benign").rows
    if len(rows) < (options.count or 1):
        kind = "unsafe" if options.harmful else "harmless"
        raise DataError(
            f"fine_tuning '{options.name}': {options.count or 1} {kind} rows are asked for, {options.rows} has {len(rows)}."
        )
    chosen = nested_subset(rows, options.count, options.seed) if options.count else rows
    return [replace(row, label=True) for row in chosen]


def answer_after_fine_tuning(
    setup: TrainingSetup,
    options: FineTuningOptions,
    target: EvalTarget,
    target_id: str,
    asked: Sequence[tuple[Prompt, str | Messages]],
    folder: Path,
    log: Log,
    *,
    generation: GenerationOptions,
) -> list[Generation]:
    """Return the answers of the model that the attacker's training makes of a subject.

    The training is a run of its own in ``run``, from the target's weights merged, which are not kept; its adapter is.

    Args:
        setup: what the target was trained by.
        target_id: what names its weights.
        folder: of this attack.

    Raises:
        SteerClearError: bad rows, or the training fails.
    """
    from steerclear.generation.weights import load_model
    from steerclear.training.train import train  # with trl and peft, which no other attack needs

    rows = attackers_rows(options)
    trained_on = {"of": target_id, "rows": sha256_of([asdict(row) for row in rows]), "how": asdict(options)}
    model_id = f"{target_id} fine-tuned {sha256_of(trained_on)[:12]}"
    prompts, rendered = [prompt for prompt, _ in asked], [text for _, text in asked]
    file = folder / "answers.jsonl"
    done = finished(prompts, rendered, generation, file, model_id=model_id) if file.is_file() else None
    if done is not None:
        return done
    log(f"fine-tuning attack '{options.name}': {options.steps} steps on {len(rows)} rows ...")
    write_jsonl(folder / "rows.jsonl", rows)
    start = _start(target, folder / "start")
    run = train(_attackers_setup(setup, options, start, folder), prompts, log)
    weights = str(run.adapter) if run.adapter.is_dir() else None
    model, tokenizer = load_model(start if weights else str(run.model), weights, dtype=setup.model.dtype)
    answers = generate(model, tokenizer, prompts, rendered, generation, file, model_id=model_id, allow_too_long=True)
    shutil.rmtree(folder / "start", ignore_errors=True)
    return answers


def _start(target: EvalTarget, folder: Path) -> str:
    """Return the model that the attacker begins with, as one without an adapter."""
    base, adapter = target.model.path, target.model.adapter
    if adapter is None:
        return base
    if not folder.is_dir():  # it appears whole or not at all
        from steerclear.training.merge import merge_adapter

        merge_adapter(base, adapter, folder)
    return str(folder)


def _attackers_setup(setup: TrainingSetup, options: FineTuningOptions, start: str, folder: Path) -> TrainingSetup:
    return TrainingSetup(
        output=folder / "run",
        model=ModelOptions(path=start, dtype=setup.model.dtype),
        data=DataOptions(
            benign=str(folder / "rows.jsonl"),
            heldout_count=0,
            template=setup.data.template,
            seed=options.seed,
            on_contamination="drop",
        ),
        arguments=_arguments(setup.arguments, options),
        lora=setup.lora or LoraOptions(),
    )


def _arguments(given: dict[str, Any], options: FineTuningOptions) -> dict[str, Any]:
    """Return plain fine-tuning at a constant rate, in micro-batches of the recipe's size."""
    at_once = min(options.batch_size, int(given.get("per_device_train_batch_size") or options.batch_size))
    while options.batch_size % at_once:
        at_once -= 1
    kept = {key: given[key] for key in KEPT if key in given}
    return kept | {
        "penalty_weight": 0.0,
        "max_steps": options.steps,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": options.batch_size // at_once,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "seed": options.seed,
        "save_strategy": "no",
    }


def identity(options: FineTuningOptions) -> str:
    """Return a hash of what the attacker does, the rows by their content."""
    return sha256_of([asdict(options) | {"rows": None}, [asdict(row) for row in attackers_rows(options)]])
