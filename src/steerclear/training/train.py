"""`steerclear train`: from a recipe to an adapter in a run folder, resumable at any moment.

Under a launcher every rank comes through here; `steerclear.training.ranks` says which of them writes.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig

from steerclear.config import dump_yaml, raise_all, to_tree
from steerclear.data.prepare import PreparedData, prepare_data
from steerclear.data.templates import render_row
from steerclear.errors import ConfigError, Log, StorageError, did_you_mean, one_of
from steerclear.generation.weights import DTYPES, load_base, load_tokenizer
from steerclear.records import Prompt, Row, write_text
from steerclear.store.runs import RunFolder, model_fingerprint, save_weights
from steerclear.training.arguments import SteerClearConfig
from steerclear.training.checkpoints import last_complete_checkpoint
from steerclear.training.collapse_callback import CollapseCallback, check_alone, check_guard, check_penalty
from steerclear.training.evaluation_callback import EvalCallback, EvalStep
from steerclear.training.kto import KTO, TRAINED_OBJECTIVES, KtoBaselineConfig, KtoBaselineTrainer
from steerclear.training.options import TrainingSetup
from steerclear.training.ranks import by_first, launched_processes
from steerclear.training.trackers import KeepMlflowRun, TrackerLogger, tracked, tracker_problems, trackers_in
from steerclear.training.trainer import SteerClearTrainer

ALGORITHM = 2
"""Raised when a change of this code changes what the same recipe trains."""

PAPER_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 32,
    "max_length": 512,
}
"""The paper's batch of 96 = 3 x 32 and its epochs; what else it sets is the default of `SteerClearConfig`."""

OWN_DEFAULTS: dict[str, Any] = {
    "gradient_checkpointing": False,
    # Every step reaches every weight that trains: a term without rows is a zero in the graph.
    "ddp_find_unused_parameters": False,
    "report_to": "none",
    "save_strategy": "steps",
    "save_steps": 50,
    "save_total_limit": 2,
    "logging_steps": 10,
    "eval_strategy": "steps",
    "eval_steps": 50,
}

NO_EFFECT_ON_RESULTS = (
    "output_dir", "report_to", "save_strategy", "save_steps", "save_total_limit", "logging_steps", "eval_strategy",
    "eval_steps", "per_device_eval_batch_size", "disable_tqdm", "dataloader_num_workers", "use_cpu", "run_name",
    "gradient_checkpointing", "ddp_find_unused_parameters",
)  # fmt: skip
"""Arguments that may change between a killed run and its continuation."""

Arguments = SteerClearConfig | KtoBaselineConfig
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
        guard = _watch(trainer, setup, prepared, run, log, eval_step, every_steps)
        checkpoint = by_first(lambda: last_complete_checkpoint(run.checkpoints, launched_processes()))
        if checkpoint:
            log(f"continuing from {checkpoint.name}.")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if guard is not None:
            guard.restore(trainer.model)
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
        **({} if guard is None else {"guard": guard.summary()}),
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
    if setup.collapse is not None:
        check_guard(prepared)
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
    if setup.collapse is not None:
        check_alone()
    arguments = training_arguments(setup)
    if setup.collapse is not None:
        check_penalty(arguments)
    _check_ranks(arguments)
    return arguments


def _check_ranks(arguments: Arguments) -> None:
    """Refuse processes that a launcher started and that would each train alone, into the same folder."""
    if arguments.world_size != launched_processes():
        raise ConfigError(
            f"training: {launched_processes()} processes were launched, but no GPUs are found that they could share. To train "
            "on processors set training.use_cpu to true; or launch none."
        )


def _describe(run: RunFolder, manifest: dict[str, Any], arguments: Arguments) -> None:
    write_text(run.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    write_text(run.path / "training.json", arguments.to_json_string() + "\n")


def _save(run: RunFolder, trainer: Trainer) -> None:
    save_weights(trainer.model, trainer.processing_class, run.path)
    write_text(run.path / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in trainer.state.log_history))


def _finish(run: RunFolder, result: dict[str, Any]) -> None:
    run.finish("train", result)
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _watch(
    trainer: Trainer,
    setup: TrainingSetup,
    prepared: PreparedData,
    run: RunFolder,
    log: Log,
    eval_step: EvalStep | None,
    every_steps: int | None,
) -> CollapseCallback | None:
    """Add what goes along with the training: trackers, evaluations, and the guard, which is returned if there is one."""
    guard = None
    if "mlflow" in trainer.args.report_to:
        trainer.add_callback(KeepMlflowRun(run.path))
    if setup.collapse is not None:  # first, so that what it undoes is not evaluated
        guard = CollapseCallback(setup.collapse, prepared, trainer, run, setup.data.template, log)
        trainer.add_callback(guard)
    if eval_step is not None and every_steps:
        tokenizer, tell = trainer.processing_class, TrackerLogger.of(trainer).tell
        trainer.add_callback(EvalCallback(every_steps, run, eval_step, tokenizer, log, tell))
    return guard


def training_arguments(setup: TrainingSetup) -> Arguments:
    """Return the trainer's arguments: the recipe's over the paper's and this command's defaults.

    Raises:
        ConfigError: an unknown key, one of another objective's trainer, or values that the arguments' class refuses.
    """
    own, config = _own_training(setup), _config_class(setup)
    fields = _settable(config)
    problems = _wrong_keys(setup, own, fields)
    raise_all(problems)
    given = {key: _as_number(key, value, fields[key].type, problems) for key, value in own.items()}
    raise_all(problems)
    if not setup.data.heldout_count:
        given.setdefault("eval_strategy", "no")
    values = PAPER_DEFAULTS | OWN_DEFAULTS | given | {"output_dir": str(RunFolder(setup.output).checkpoints)}
    values["report_to"] = trackers_in(values["report_to"])
    raise_all(tracker_problems(values["report_to"]))
    if values["report_to"]:
        values.setdefault("run_name", setup.output.resolve().name)
    if not torch.cuda.is_available():
        values.setdefault("dataloader_pin_memory", False)
    try:
        return config(**values)
    except ConfigError as error:
        raise ConfigError("\n".join(f"training.{line}" for line in str(error).splitlines())) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training: {error}") from error


def _config_class(setup: TrainingSetup) -> type[Arguments]:
    """Return the class of the trainer's arguments, which the objective decides."""
    return KtoBaselineConfig if setup.arguments.get("objective") == KTO else SteerClearConfig


def _settable(*configs: type[Arguments]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for config in configs for f in dataclasses.fields(config) if f.init}


def _own_training(setup: TrainingSetup) -> dict[str, Any]:
    """Return the recipe's arguments without those that only another objective's trainer has and that are null: taken back."""
    taken_back = _settable(SteerClearConfig, KtoBaselineConfig).keys() - _settable(_config_class(setup)).keys()
    return {key: value for key, value in setup.arguments.items() if value is not None or key not in taken_back}


def _wrong_keys(setup: TrainingSetup, own: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    """Return what is wrong with the objective's name and the names of the arguments, none of which may pass unheard."""
    objective = setup.arguments.get("objective", SteerClearConfig.objective)
    if objective not in TRAINED_OBJECTIVES:
        return [one_of("training.objective", objective, TRAINED_OBJECTIVES)]
    of_any = _settable(SteerClearConfig, KtoBaselineConfig)
    problems = [
        f"training.{key}: got {value!r} with objective '{objective}', which has no such argument. Leave it out; where a recipe "
        "sets it for all variants, null takes it back."
        if key in of_any
        else f"training.{key}: unknown key.{did_you_mean(key, fields)}"
        for key, value in own.items()
        if key not in fields
    ]
    if "output_dir" in own:
        problems.append("training.output_dir: is set by the recipe's output.")
    return problems


def _as_number(key: str, value: Any, hint: object, problems: list[str]) -> Any:
    """Turn text into a number where one is wanted: YAML 1.1 reads 1e-4 as text."""
    if not isinstance(value, str) or str(getattr(hint, "__name__", hint)) not in ("int", "float"):
        return value
    try:
        return float(value)
    except ValueError:
        problems.append(f"training.{key}: got {value!r}, expected a number.")
        return None


def identity_of(setup: TrainingSetup, prepared: PreparedData) -> dict[str, Any]:
    """Return what the trained weights depend on, each part as a hash or plain values."""
    training = PAPER_DEFAULTS | OWN_DEFAULTS | _own_training(setup)
    return {
        "algorithm": ALGORITHM,
        "model": model_fingerprint(setup.model.path),
        "dtype": setup.model.dtype,
        "data": prepared.manifest["sha256"],
        "template": setup.data.template,
        "training": {key: training[key] for key in sorted(training) if key not in NO_EFFECT_ON_RESULTS},
        "lora": None if setup.lora is None else to_tree(setup.lora),
        # Absent where there is none (or one process), so that runs from before there were guards keep their ids.
        **({} if setup.collapse is None else {"guard": to_tree(setup.collapse)}),
        # Each brings its own rows to a step.
        **({} if launched_processes() == 1 else {"processes": launched_processes()}),
    }


def to_dataset(rows: Sequence[Row], template: str, added: Sequence[Row] = ()) -> Dataset:
    """Return the rows as a data set for the trainer, rendered by the template; ids name file and line for errors."""
    return Dataset.from_list(
        [
            {
                "prompt": (r := render_row(row, template)).prompt,
                "completion": r.completion,
                "label": r.label,
                "weight": r.weight,
                "id": f"{r.id} ({r.source})",
                "added": is_added,
            }
            for part, is_added in ((rows, False), (added, True))
            for row in part
        ]
    )


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
    return trainer(
        model=load_base(setup.model.path, dtype),
        args=arguments,
        # Plain SFT sees no unsafe row: one that counts nothing would still take a place in a batch.
        train_dataset=to_dataset(
            [*prepared.benign, *(prepared.unsafe if arguments.trains_on_unsafe else [])],
            setup.data.template,
            prepared.added,
        ),
        eval_dataset=to_dataset(prepared.heldout, setup.data.template) if prepared.heldout else None,
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
