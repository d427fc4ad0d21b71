"""What a sweep will cost, before it runs: times of cells that are done, and a few measured micro-batches and answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.text import Text

from steerclear.attacks.attack import most_answers
from steerclear.data.prepare import PreparedData, prepare_data
from steerclear.data.templates import render_prompt
from steerclear.errors import ConfigError, Log
from steerclear.experiments.cells import Cell, cells_of, is_trained
from steerclear.experiments.run import Run
from steerclear.generation.model import open_model
from steerclear.recipe.sweep import SweepRecipe
from steerclear.recipe.train import Recipe
from steerclear.records import Prompt, sha256_of
from steerclear.report.comparison import duration
from steerclear.store.executor import shared_cores
from steerclear.store.status import explain
from steerclear.table import NO_VALUE, Table
from steerclear.training.cost import micro_batch_seconds, peak_memory, sample_trainer
from steerclear.training.defaults import NO_EFFECT_ON_RESULTS, training_arguments
from steerclear.training.options import TrainingSetup

MICRO_BATCHES = 3
"""Micro-batches of which the mean time is taken."""

NO_EFFECT_ON_SPEED = (*NO_EFFECT_ON_RESULTS, "penalty_weight", "learning_rate", "seed", "num_train_epochs", "max_steps")
"""Arguments of which a row's time does not depend."""


@dataclass(frozen=True)
class Speed:
    """Measured on this device."""

    row_s: float
    """Seconds of training for a row."""
    prompt_s: float
    """Seconds for an answer, in a batch."""
    memory: int
    """Bytes at most, so far in this process."""


@dataclass(frozen=True)
class Estimate:
    """What a cell has left to do."""

    cell: Cell
    rows: int = 0
    """Rows that training goes through, repeats counted."""
    answers: int = 0
    """Answers to prompts, those along the training included."""
    train_s: float = 0.0
    answer_s: float = 0.0
    wrong: str | None = None
    """What keeps the cell from running."""

    @property
    def seconds(self) -> float:
        """The time of the whole cell."""
        return self.train_s + self.answer_s


def estimate_sweep(sweep: SweepRecipe, log: Log, *, workers: int = 1) -> Group:
    """Return a table of the cells with what each has left to do, and for how long. Nothing is trained.

    Cells that differ only in what does not change the speed are measured once. What is not counted: judging, and evaluation of
    anything but answers. Processes that share a machine slow each other down, which is not measured.

    Raises:
        ConfigError: a cell's recipe is wrong.
    """
    if workers < 1:
        raise ConfigError(f"workers: got {workers}, allowed: 1 or more cells at a time.")
    cells = cells_of(sweep)
    speeds: dict[str, Speed] = {}
    with shared_cores(workers):
        estimates = [_estimate(cell, speeds, log) for cell in cells]
    return _table(estimates, workers, max((speed.memory for speed in speeds.values()), default=0))


def _estimate(cell: Cell, speeds: dict[str, Speed], log: Log) -> Estimate:
    if cell.is_done:
        return Estimate(cell)
    recipe = cell.recipe
    try:
        prompts = Run(recipe).prompts
        prepared = prepare_data(recipe.data, prompts)
        key = _key(recipe)
        if key not in speeds:
            log(f"measuring {cell.name} ...")
            speeds[key] = _measure(recipe, prepared, prompts)
    except Exception as error:  # whatever it is, the cell will meet it too
        return Estimate(cell, wrong=explain(error))
    speed = speeds[key]
    attacks = recipe.evaluation.attacks
    behaviors, under_attack = most_answers(attacks) if attacks is not None else (0, 0)
    answers = len(prompts) - behaviors
    if is_trained(cell.folder):
        answers += under_attack
        return Estimate(cell, 0, answers, 0.0, answers * speed.prompt_s)
    rows = rows_seen(recipe.setup, prepared)
    if recipe.evaluation.every_steps is not None:
        answers *= 1 + (rows // _rows_per_step(recipe.setup) - 1) // recipe.evaluation.every_steps
    answers += under_attack
    if recipe.recovery is not None:  # steered first, and asked
        rows, answers = 2 * rows, answers + recipe.recovery.samples * len(prepared.unsafe)
    return Estimate(cell, rows, answers, rows * speed.row_s, answers * speed.prompt_s)


def _rows_per_step(setup: TrainingSetup) -> int:
    arguments = training_arguments(setup)
    return arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps


def rows_seen(setup: TrainingSetup, prepared: PreparedData) -> int:
    """Return how many rows a training goes through, repeats counted, to about one optimizer step an epoch."""
    arguments = training_arguments(setup)
    if arguments.max_steps > 0:
        return arguments.max_steps * _rows_per_step(setup)
    benign, unsafe = len(prepared.benign), len(prepared.unsafe) if arguments.trains_on_unsafe else 0
    share = getattr(arguments, "unsafe_share", None)
    if not unsafe or share is None or arguments.sampling == "uniform":
        return round(arguments.num_train_epochs * (benign + len(prepared.added) + unsafe))
    extra_share = arguments.extra_share or 0.0
    passed = benign + (0 if extra_share else len(prepared.added))
    return round(arguments.num_train_epochs * passed / (1 - share - extra_share))


def _key(recipe: Recipe) -> str:
    """Return what the speed depends on."""
    training = {key: value for key, value in recipe.training.items() if key not in NO_EFFECT_ON_SPEED}
    decoding = recipe.evaluation.generation
    return sha256_of(
        [recipe.model.path, recipe.model.dtype, repr(recipe.lora), training, recipe.data.benign, repr(decoding)]
    )


def _measure(recipe: Recipe, prepared: PreparedData, prompts: Sequence[Prompt]) -> Speed:
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sample_trainer(recipe.setup, prepared, scratch)
        size = trainer.args.per_device_train_batch_size
        rows = list(trainer.train_dataset)
        batches = [
            [rows[(size * batch + place) % len(rows)] for place in range(size)] for batch in range(MICRO_BATCHES)
        ]
        seconds = [micro_batch_seconds(trainer, batch) for batch in batches]
        return Speed(sum(seconds) / (size * MICRO_BATCHES), _answering_time(recipe, prompts, scratch), peak_memory())


def _answering_time(recipe: Recipe, prompts: Sequence[Prompt], scratch: str) -> float:
    """Return the seconds of an answer in one batch, the untrained model's: it may end sooner or later than the trained one."""
    options = recipe.evaluation.generation
    asked = prompts[: options.batch_size]
    if not asked:
        return 0.0
    model = open_model(recipe.model, options)
    rendered = [render_prompt(prompt.prompt, "", recipe.data.template) for prompt in asked]
    model.answer(asked[:1], rendered[:1], Path(scratch) / "first.jsonl", progress=False)  # loads, and warms up
    start = time.perf_counter()
    model.answer(asked, rendered, Path(scratch) / "answers.jsonl", progress=False)
    return (time.perf_counter() - start) / len(asked)


def _table(estimates: Sequence[Estimate], workers: int, memory: int) -> Group:
    left = [estimate for estimate in estimates if not estimate.cell.is_done and estimate.wrong is None]
    total = sum(estimate.seconds for estimate in left)
    # The longest cell may begin last.
    whole = max(total / workers, max((estimate.seconds for estimate in left), default=0.0))
    told = (
        f"{len(left)} of {len(estimates)} cells to do: {duration(total)} of one process after the other, about "
        f"{duration(whole)} with {workers} at a time, plus judging; {memory / 2**30:.1f} GiB of memory a process"
    )
    headings = ["cell", "id", "rows", "training", "answers", "answering", "note"]
    return Group(Table(headings, list(map(_row, estimates)), names=2).rich(), Text(told))


def _row(estimate: Estimate) -> list[str]:
    names = [estimate.cell.name, estimate.cell.id[:6]]
    if estimate.cell.is_done:
        return [*names, *[NO_VALUE] * 4, "done"]
    if estimate.wrong is not None:
        return [*names, *[NO_VALUE] * 4, f"will fail: {estimate.wrong}"]
    times = [duration(estimate.train_s), f"{estimate.answers:,}", duration(estimate.answer_s)]
    return [*names, f"{estimate.rows:,}", *times, ""]
