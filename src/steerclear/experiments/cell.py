"""What one process does for one cell of a sweep: train, generate, judge, score, each told in the cell's ``status.json``.

A process of its own per cell, so that nothing a cell does (memory that runs out, a crash of a library) reaches another one.
"""

from __future__ import annotations

import glob
import json
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from steerclear.attacks.attack import attack_fingerprints
from steerclear.data.prepare import prepare_data
from steerclear.errors import ConfigError, Log, TrainingError
from steerclear.experiments.cells import Cell, is_trained, open_cell
from steerclear.experiments.run import Run
from steerclear.records import sha256_of, write_json, write_text
from steerclear.store.executor import end_with_parent
from steerclear.store.runs import RunFolder
from steerclear.store.status import DONE, FAILED, STAGES, Status, explain, write_status
from steerclear.training.ranks import ECHO, part_ways

ASKED = "asked.json"
"""Suite -> hash of what was asked and how the answers were decoded."""

LAUNCH_ERROR = "launch-error.txt"
"""Why a launched training failed, written by the process that did."""


def run_cell(folder: Path, log: Log) -> bool:
    """Do what is left of the cell in a folder, and return whether it is done. Why it failed is in its status."""
    cell = open_cell(folder)
    progress = _Progress(cell)
    try:
        _work(cell, progress, log)
    except Exception as error:  # whatever it is, it must be told in the sweep's table
        traceback.print_exc()
        progress.fail(explain(error))
        return False
    progress.end()
    return True


def _work(cell: Cell, progress: _Progress, log: Log) -> None:
    if is_trained(cell.folder):
        _check_rows(cell)
    else:
        progress.enter("train")
        if cell.launch.processes > 1:
            _train_launched(cell)
        else:
            train_cell(cell, log)
    if cell.recipe.evaluation.is_any:
        _set_aside_other_answers(cell)
        Run(cell.recipe, log).evaluate(stage=progress.enter)


def _check_rows(cell: Cell) -> None:
    """Make sure that none of the rows that a cell was trained on holds a prompt of a suite that is asked since.

    Raises:
        SteerClearError: one does.
    """
    prompts = Run(cell.recipe).prompts
    now = prepare_data(cell.recipe.data, prompts).manifest["sha256"]
    # Recovery adds rows of its own, made of these.
    trained = cell.folder if cell.recipe.recovery is None else cell.folder / "steered"
    if now != RunFolder(trained).record()["identity"]["data"]:
        raise ConfigError(
            "evaluation.suites: has prompts that are among the rows this cell was trained on, which on_contamination leaves out. "
            f"Remove {cell.folder} to train it again without them."
        )


def _set_aside_other_answers(cell: Cell) -> None:
    """Move answers to suites that have changed, or that were decoded otherwise, into ``earlier``."""
    evaluation, file = cell.recipe.evaluation, cell.folder / ASKED
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    how = [evaluation.generation.decoding, cell.recipe.data.template]
    prompts = Run(cell.recipe).fingerprint()["prompts"]
    now = {suite.name: sha256_of([prompts.get(suite.name), how])[:12] for suite in evaluation.suites}
    for name in _changed(before, now):
        aside = cell.folder / "earlier" / before[name]
        aside.mkdir(parents=True, exist_ok=True)
        for answers in (cell.folder / "generations").glob(f"{glob.escape(name)}.jsonl*"):
            answers.replace(aside / answers.name)
    attacks = _asked_by_attacks(cell)
    for name in _changed(before, attacks):
        set_aside(cell.folder / name, cell.folder / "earlier" / before[name])
    write_json(file, before | now | attacks)


def set_aside(folder: Path, aside: Path) -> None:
    """Move a folder, if there is one, to ``aside``, in place of an older one: what bears the same hash answers the same."""
    if folder.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(aside)


def _changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != now.get(name, before[name])]


def _asked_by_attacks(cell: Cell) -> dict[str, str]:
    """Return each attack's folder in the cell with a hash of what it asks, and how the answers are decoded."""
    attacks = cell.recipe.evaluation.attacks
    if attacks is None:
        return {}
    how = [(attacks.generation or cell.recipe.evaluation.generation).decoding, cell.recipe.data.template]
    return {f"attacks/{name}": sha256_of([asked, how])[:12] for name, asked in attack_fingerprints(attacks).items()}


def train_cell(cell: Cell, log: Log) -> None:
    """Train a cell's model, in one process of those that were launched for it."""
    Run(cell.recipe, log).train()


def _train_launched(cell: Cell) -> None:
    """Train in several processes, as ``accelerate launch`` starts them. They end when this process does.

    Raises:
        TrainingError: they did not succeed.
    """
    launch, reason = cell.launch, cell.folder / LAUNCH_ERROR
    reason.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--num_processes", str(launch.processes)]
    # Without --multi_gpu accelerate starts one process where there are no GPUs; cells at one time each need a port.
    command += ["--config_file", launch.config] if launch.config else ["--multi_gpu", "--main_process_port", "0"]
    command += ["-m", "steerclear", "cell", str(cell.folder), "--only", "train"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        status = process.wait()
    if status:
        told = reason.read_text(encoding="utf-8") if reason.is_file() else f"it ended with status {status}"
        raise TrainingError(f"training in {launch.processes} processes: {told}")


class _Progress:
    """Keeps the cell's status."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._status = Status(seconds=cell.status().seconds)
        self._since = time.monotonic()

    def enter(self, stage: str) -> None:
        """Begin a stage, which ends the one before."""
        self._leave()
        self._write(replace(self._status, stage=stage))

    def fail(self, error: str) -> None:
        """End the cell without success."""
        self._write(replace(self._status, stage=FAILED, failed_in=self._status.stage, error=error))

    def end(self) -> None:
        """End the cell."""
        self._leave()
        self._write(replace(self._status, stage=DONE, evaluation=self._cell.evaluation))

    def _leave(self) -> None:
        if self._status.stage in STAGES:
            seconds = self._status.seconds | {self._status.stage: time.monotonic() - self._since}
            self._status = replace(self._status, seconds=seconds)
        self._since = time.monotonic()

    def _write(self, status: Status) -> None:
        self._status = status
        write_status(self._cell.folder, status)


def work_on(folder: Path, only: str | None, log: Log) -> bool:
    """Work on the cell in a folder, or do one launched process's part of its training; return whether it is done.

    Args:
        only: ``train`` in a process that was launched for the training.
    """
    if only is None:
        return run_cell(folder, log)
    end_with_parent()  # which is the launcher
    try:
        train_cell(open_cell(folder), log)
    except Exception as error:  # told to the cell's own process, which cannot see it
        traceback.print_exc()
        _tell_launch_error(folder / LAUNCH_ERROR, explain(error))
        return False
    part_ways()
    return True


def _tell_launch_error(file: Path, reason: str) -> None:
    """Keep the first reason: where one process fails the others do too, as it is gone. Rank 0's own goes before its echoes."""
    told = file.read_text(encoding="utf-8") if file.is_file() else ECHO
    if told.startswith(ECHO):
        write_text(file, reason)
