"""Runs in the trackers that people have, through transformers' own callbacks: TensorBoard, MLflow, Weights & Biases.

A run is one entry of a tracker, however often it is killed and continued; which one, is kept in the run's folder. Loss terms come
from the trainer's log, rates of evaluations from here. Prompts and answers go to none of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import (
    get_reporting_integration_callbacks,
    is_mlflow_available,
    is_tensorboard_available,
    is_wandb_available,
)

from steerclear.errors import one_of
from steerclear.records import sha256_of, write_json
from steerclear.training.ranks import rank

TRACKERS: dict[str, tuple[Callable[[], bool], str]] = {
    "tensorboard": (is_tensorboard_available, "steerclear[tracking]"),
    "mlflow": (is_mlflow_available, "mlflow"),
    "wandb": (is_wandb_available, "wandb"),
}
"""Name -> whether it can be used, and what to install for it."""

ENTRIES = "trackers.json"
"""File in a run's folder: the ids of its entries, and the hash of the last figures that were logged there."""


def trackers_in(report_to: Any) -> list[Any]:
    """Return the trackers that ``training.report_to`` names, right or wrong."""
    names = report_to if isinstance(report_to, list) else [report_to]
    return [name for name in names if name not in (None, "none")]


def tracker_problems(names: Sequence[Any]) -> list[str]:
    """Return what is wrong with the trackers that a recipe names."""
    problems = []
    for name in names:
        if name not in list(TRACKERS):
            problems.append(one_of("training.report_to", name, ("none", *TRACKERS)))
        elif not TRACKERS[name][0]():
            problems.append(
                f"training.report_to: got '{name}', which is not installed, or switched off by a variable of its own. Run "
                f"pip install '{TRACKERS[name][1]}'."
            )
    return problems


@contextmanager
def tracked(arguments: TrainingArguments, folder: Path) -> Iterator[None]:
    """Let the trackers' callbacks find a run's own entries, and end these after the block.

    What the user set by environment variables stays. In ranks other than the first there is nothing to do: they tell nothing.

    Args:
        arguments: the trainer's; ``report_to`` names the trackers.
        folder: the run's. TensorBoard's events go to ``tensorboard`` in it.
    """
    if not arguments.report_to or rank():
        yield
        return
    if "wandb" in arguments.report_to:
        _open_wandb(arguments, folder)
    known = _entries(folder)
    variables = {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "MLFLOW_RUN_ID": known.get("mlflow"),
        "MLFLOW_MAX_LOG_PARAMS": "0" if "mlflow" in known else None,  # they were told, and may not change
    }
    before = dict(os.environ)
    os.environ.update({name: value for name, value in variables.items() if value is not None and name not in before})
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        _end_entries(succeeded)
        for name in variables:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def _open_wandb(arguments: TrainingArguments, folder: Path) -> None:
    """Begin or continue the run's entry, which transformers' callback then takes. It reads the variables only once a process."""
    import wandb

    if "wandb" not in _entries(folder):
        _keep(folder, wandb=os.environ.get("WANDB_RUN_ID") or uuid4().hex)
    wandb.init(
        project=os.environ.get("WANDB_PROJECT", "huggingface"),  # as transformers has it
        name=arguments.run_name,
        id=_entries(folder)["wandb"],
        resume="allow",
        settings=wandb.Settings(console="off"),  # what a command prints may quote an answer
    )


def _end_entries(succeeded: bool) -> None:
    """End the entries that are open: the next run of this process has its own."""
    mlflow, wandb = sys.modules.get("mlflow"), sys.modules.get("wandb")
    if mlflow is not None and mlflow.active_run() is not None:
        mlflow.end_run("FINISHED" if succeeded else "FAILED")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if succeeded else 1)


class KeepMlflowRun(TrainerCallback):
    """Keeps which MLflow run is the training's, and lets what is logged after the training go there too.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Keep the id of the run that MLflow's own callback, which comes first, has started."""
        if state.is_world_process_zero:
            _keep(self._folder, mlflow=sys.modules["mlflow"].active_run().info.run_id)

    def on_train_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Name the run again, which has just ended: MLflow would start another one for the held-out loss."""
        if state.is_world_process_zero:
            os.environ["MLFLOW_RUN_ID"] = _entries(self._folder)["mlflow"]


class TrackerLogger:
    """Logs an evaluation's figures in a trainer's trackers, apart from its log and its state, which stay as they are without.

    Args:
        callbacks: those of the trackers.
        arguments: the trainer's.
    """

    def __init__(self, callbacks: Iterable[Any], arguments: TrainingArguments) -> None:
        self._callbacks, self._arguments = list(callbacks), arguments

    @classmethod
    def of(cls, trainer: Any) -> TrackerLogger:
        """Return what logs in a trainer's own trackers."""
        kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
        return cls([own for own in trainer.callback_handler.callbacks if isinstance(own, kinds)], trainer.args)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log the figures of an evaluation of the weights of a step."""
        logs = {f"eval_{name}": value for name, value in figures.items()}
        for callback in self._callbacks:
            callback.on_log(self._arguments, TrainerState(global_step=step), TrainerControl(), logs=dict(logs))


def log_final_figures(arguments: TrainingArguments, folder: Path, step: int, figures: Mapping[str, float]) -> None:
    """Log in the trackers of a trained run how its final weights were evaluated, once for the same figures.

    Args:
        arguments: the trainer's; ``report_to`` names the trackers.
        folder: the run's.
        step: that the weights are of.
        figures: of their evaluation.
    """
    logged = sha256_of([figures, step])
    if not arguments.report_to or _entries(folder).get("scores") == logged:
        return
    with tracked(arguments, folder):
        callbacks = [callback() for callback in get_reporting_integration_callbacks(arguments.report_to)]
        TrackerLogger(callbacks, arguments).log(figures, step)
    _keep(folder, scores=logged)


def _entries(folder: Path) -> dict[str, str]:
    file = folder / ENTRIES
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _keep(folder: Path, **entries: str) -> None:
    write_json(folder / ENTRIES, _entries(folder) | entries)
