"""`steerclear train`: from a recipe to an adapter in a run folder, resumable at any moment.

Under a launcher every rank comes through here; `steerclear.training.ranks` says which of them writes.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from steerclear.config import dump_yaml, to_tree
from steerclear.data.prepare import PreparedData, prepare_data
from steerclear.errors import ConfigError, Log, StorageError
from steerclear.generation.weights import DTYPES, load_base, load_tokenizer
from steerclear.records import Prompt, write_text
from steerclear.store.runs import RunFolder, model_fingerprint, save_weights
from steerclear.training.arguments import KTO, Arguments, KtoBaselineConfig
from steerclear.training.collapse import CollapseCallback
from steerclear.training.defaults import arguments_that_decide, training_arguments
from steerclear.training.evaluation_callback import EvalCallback, EvalStep
from steerclear.training.kto import KtoBaselineTrainer
from steerclear.training.options import TrainingSetup
from steerclear.training.ranks import by_first, launched_processes
from steerclear.training.rows import to_dataset
from steerclear.training.trackers import KeepMlflowRun, TrackerLogger, tracked
from steerclear.training.trainer import SteerClearTrainer

ALGORITHM = 2
"""Raised when a change of this code changes what the same recipe trains."""

Trainer = SteerClearTrainer | KtoBaselineTrainer


def train(
    setup: TrainingSetup,
    prompts: Sequence[Prompt],
    log: Log,
    *,
    eval_step: EvalStep | None = None,
    every_steps: int | None = None,
) -> RunFolder:
    """Train one phase as the setup says, or continue, or do nothing where it is done.

    Args:
        prompts: the evaluation prompts, which must not be among the training rows.
        log: gets one line about each thing the user should know.
        eval_step: evaluates the live model of a step into a folder, every ``every_steps``.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds another run, or the disk is full.
    """
    prepared, arguments = check_training(setup, prompts)
    for message in prepared.messages:
        log(message)
    run = RunFolder(setup.output)
    record = by_first(lambda: run.claim(identity_of(setup, prepared), dump_yaml(setup.as_tree())))
    if "train" in record["stages"]:
        log(f"{run.path}: already trained.")
        return run
    with _full_disk_explained(run.path), tracked(arguments, run.path):
        trainer = make_trainer(setup, prepared, arguments)
        if isinstance(trainer, KtoBaselineTrainer):
            log(str(trainer.weights))
        manifest = prepared.manifest | {"tokens": trainer.tokens_cut, "sampling": trainer.sampling_summary()}
        by_first(lambda: _describe(run, manifest, arguments))
        watch = _accompany(trainer, setup, prepared, run, log, eval_step, every_steps)
        checkpoint = by_first(lambda: last_complete_checkpoint(run.checkpoints, launched_processes()))
        if checkpoint:
            log(f"continuing from {checkpoint.name}.")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if watch is not None:
            watch.restore(trainer.model)
        figures = trainer.evaluate() if prepared.heldout else {}
        by_first(lambda: _save(run, trainer))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result = {
        "steps": trainer.state.global_step,
        "final_loss": _finite(losses[-1]) if losses else None,
        "heldout_benign_loss": _finite(figures.get("eval_benign_loss")),
        "seconds": sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history),
        "rows": {
            "benign": len(prepared.benign),
            "added": len(prepared.added),
            "unsafe": len(prepared.unsafe) if arguments.trains_on_unsafe else 0,
        },
        **({} if watch is None else {"guard": watch.summary()}),
    }
    by_first(lambda: _finish(run, result))
    return run


def _finite(value: float | None) -> float | None:
    """Return a figure, None for one that JSON does not have: that of a training that diverged."""
    return value if value is not None and math.isfinite(value) else None


def check_training(setup: TrainingSetup, prompts: Sequence[Prompt]) -> tuple[PreparedData, Arguments]:
    """Find what keeps a recipe from being trained before a model is loaded; return its rows and arguments.

    Raises:
        SteerClearError: bad recipe or data.
    """
    arguments = check_recipe(setup)
    prepared = prepare_data(setup.data, prompts)
    if setup.collapse is not None and not prepared.heldout:
        raise ConfigError("collapse: got no held-out benign rows to measure on. Set data.heldout_count to 1 or more.")
    return prepared, arguments


def check_recipe(setup: TrainingSetup) -> Arguments:
    """Find what keeps a recipe from being trained before its rows are read; return its arguments.

    Raises:
        ConfigError: what is wrong.
    """
    if not setup.model.path:
        raise ConfigError("model.path: is missing. A served model can be evaluated, only a local one trained.")
    if setup.model.adapter is not None:
        raise ConfigError(
            "model.adapter: is evaluated, not trained further. Merge it into its base first, or leave it out."
        )
    processes = launched_processes()
    if setup.collapse is not None and processes > 1:
        raise ConfigError(
            f"collapse: probing while training works in one process, and there are {processes}. Set collapse to null, or train "
            "in one process."
        )
    arguments = training_arguments(setup)
    if setup.collapse is not None and isinstance(arguments, KtoBaselineConfig):
        raise ConfigError(
            f"collapse: got objective '{KTO}', which it cannot watch. Set collapse to null, and evaluation.every_steps instead."
        )
    if arguments.world_size != processes:
        # Each would train alone, into the same folder.
        raise ConfigError(
            f"training: {processes} processes were launched, but no GPUs are found that they could share. To train on processors "
            "set training.use_cpu to true; or launch none."
        )
    return arguments


def _describe(run: RunFolder, manifest: dict[str, Any], arguments: Arguments) -> None:
    write_text(run.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    write_text(run.path / "training.json", arguments.to_json_string() + "\n")


def _save(run: RunFolder, trainer: Trainer) -> None:
    save_weights(trainer.model, trainer.processing_class, run.path)
    write_text(run.path / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in trainer.state.log_history))


def _finish(run: RunFolder, result: dict[str, Any]) -> None:
    run.finish("train", result)
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _accompany(
    trainer: Trainer,
    setup: TrainingSetup,
    prepared: PreparedData,
    run: RunFolder,
    log: Log,
    eval_step: EvalStep | None,
    every_steps: int | None,
) -> CollapseCallback | None:
    """Add what goes along with the training: trackers, evaluations, and the watch against collapse, which is returned."""
    watch = None
    if "mlflow" in trainer.args.report_to:
        trainer.add_callback(KeepMlflowRun(run.path))
    if setup.collapse is not None:  # first, so that what it undoes is not evaluated
        watch = CollapseCallback(setup.collapse, prepared, trainer, run, log)
        trainer.add_callback(watch)
    if eval_step is not None and every_steps:
        tokenizer, trackers = trainer.processing_class, TrackerLogger.of(trainer)
        trainer.add_callback(EvalCallback(every_steps, run, eval_step, tokenizer, log, trackers))
    return watch


def identity_of(setup: TrainingSetup, prepared: PreparedData) -> dict[str, Any]:
    """Return what the trained weights depend on, each part as a hash or plain values."""
    return {
        "algorithm": ALGORITHM,
        "model": model_fingerprint(setup.model.path),
        "dtype": setup.model.dtype,
        "data": prepared.manifest["sha256"],
        "template": setup.data.template,
        "training": arguments_that_decide(setup),
        "lora": None if setup.lora is None else to_tree(setup.lora),
        # Absent where there is none (or one process), so that runs from before it was there keep their ids. It was called guard.
        **({} if setup.collapse is None else {"guard": to_tree(setup.collapse)}),
        # Each brings its own rows to a step.
        **({} if launched_processes() == 1 else {"processes": launched_processes()}),
    }


def make_trainer(setup: TrainingSetup, prepared: PreparedData, arguments: Arguments) -> Trainer:
    """Return the trainer of a recipe, on the base model."""
    dtype = DTYPES.get(setup.model.dtype)
    if dtype is None:
        dtype = torch.bfloat16 if setup.lora and torch.cuda.is_available() else torch.float32
    lora = setup.lora and LoraConfig(
        r=setup.lora.r,
        lora_alpha=setup.lora.alpha,
        lora_dropout=setup.lora.dropout,
        target_modules=setup.lora.target_modules,
        task_type="CAUSAL_LM",
    )
    trainer = KtoBaselineTrainer if isinstance(arguments, KtoBaselineConfig) else SteerClearTrainer
    rows = prepared.rendered
    return trainer(
        model=load_base(setup.model.path, dtype),
        args=arguments,
        # Plain SFT sees no unsafe row: one that counts nothing would still take a place in a batch.
        train_dataset=to_dataset(
            [*rows["benign"], *(rows["unsafe"] if arguments.trains_on_unsafe else [])], rows["added"]
        ),
        eval_dataset=to_dataset(rows["heldout"]) if rows["heldout"] else None,
        processing_class=load_tokenizer(setup.model.path),
        peft_config=lora,
    )


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn the many ways in which libraries report a full disk into one error."""
    try:
        yield
    except Exception as error:  # safetensors has its own class, torch.save a RuntimeError without the cause
        texts = ("No space left", "file write failed", "unexpected pos")
        if getattr(error, "errno", None) != errno.ENOSPC and not any(text in str(error) for text in texts):
            raise
        raise StorageError(
            f"{folder}: the disk is full. Earlier checkpoints are kept; free some space, then run the same command again to "
            "continue."
        ) from error


def last_complete_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """Return the newest checkpoint that was written to its end, by all the processes of the training.

    The trainer's state is the last file that the first process writes. Each of several writes the state of its own random
    numbers (as a zip file, whose end is written last), and none waits for the others.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_complete(path, processes)), None)


def _is_complete(checkpoint: Path, processes: int) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    own = [checkpoint / f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else []
    return all(file.is_file() and zipfile.is_zipfile(file) for file in own)
