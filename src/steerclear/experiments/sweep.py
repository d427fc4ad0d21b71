"""`steerclear sweep`: train and evaluate every cell of a grid. What is finished is not done again; what fails stops nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live

from steerclear.errors import ConfigError, Log, SteerClearError
from steerclear.experiments.cells import Cell, cells_of
from steerclear.experiments.sweep_progress import Progress
from steerclear.judges.opening import harm_judge, refusal_judge
from steerclear.recipe.axes import axes_of
from steerclear.recipe.sweep import SweepRecipe
from steerclear.records import write_json
from steerclear.report.read_runs import Place
from steerclear.report.report import lay_side_by_side
from steerclear.store.executor import RayOptions, local_executor, ray_executor
from steerclear.store.locks import alone, has_locks
from steerclear.store.status import FAILED, Status, write_status

REFRESH_S = 1.0
"""Seconds between looks at the cells."""


@dataclass(frozen=True)
class SweepOutcome:
    """What came of a sweep."""

    finished: list[Cell]
    failed: dict[str, str]
    """Name of a cell -> why it failed."""


def sweep(recipe: SweepRecipe, log: Log, *, workers: int = 1, ray: RayOptions | None = None) -> SweepOutcome:
    """Work on every cell that is not done, and lay the finished ones side by side in the sweep's folder.

    Each cell is a run's folder, ``cells/ID``. The id hashes what the cell is made of: a cell keeps its place when axes or values
    are added, and another one is made when its settings or its files change. A cell that failed is tried again.

    Args:
        workers: cells at a time on this machine.
        ray: where they run instead.

    Raises:
        SteerClearError: a cell's recipe is wrong, the folder cannot be written, or there is no cluster.
    """
    cells = cells_of(recipe)
    if ray is not None or workers > 1:
        _check_caches(cells)
    output = Path(recipe.output)
    with alone(output, log) if has_locks(output) else nullcontext():
        write_json(output / "sweep.json", _about(recipe, cells))
        pending = [cell for cell in cells if not cell.is_done]
        for cell in pending:
            cell.write()
            write_status(cell.folder, Status(seconds=cell.status().seconds))
        log(f"{len(cells)} cells, {len(cells) - len(pending)} of them done before.")
        if pending:
            _fit_judges(pending, log)
            with local_executor(workers) if ray is None else ray_executor(ray) as executor:
                _follow({executor.submit(cell.job): cell for cell in pending}, cells, log)
        outcome = SweepOutcome(
            [cell for cell in cells if cell.is_done],
            {cell.name: str(cell.status().error) for cell in cells if cell.status().stage == FAILED},
        )
        evaluated = [cell for cell in outcome.finished if cell.recipe.evaluation.is_any]
        if evaluated:
            lay_side_by_side([Place(cell.name, cell.folder, cell.labels) for cell in evaluated], output, log)
    return outcome


def _check_caches(cells: Sequence[Cell]) -> None:
    """Refuse a cache of judges' scores that processes would write at the same time, each cutting off what another has begun."""
    if any(cell.recipe.evaluation.judge_cache is not None for cell in cells):
        raise ConfigError(
            "recipe.evaluation.judge_cache: is for one process at a time. Leave it out, so that each cell has its own, or use "
            "one worker."
        )


def _about(recipe: SweepRecipe, cells: Sequence[Cell]) -> dict[str, object]:
    return {
        "name": recipe.title or Path(recipe.output).name,
        "axes": {axis: list(values) for axis, values in axes_of(recipe.axes, recipe.seeds).items()},
        "cells": [cell.id for cell in cells],
        "paper": recipe.paper,
    }


def _fit_judges(cells: Sequence[Cell], log: Log) -> None:
    """Fit once what the cells would otherwise fit at the same time. Whatever is wrong, the cells themselves will tell."""
    options = [cell.recipe.evaluation for cell in cells]
    judges = [judge for e in options for judge in (e.judge, *e.second_opinions) if judge.fit_on]
    for judge in {(judge.classifier, judge.fit_on): judge for judge in judges}.values():
        with suppress(SteerClearError):
            harm_judge(judge, log)
    for refusal in {e.refusal.model: e.refusal for e in options if e.refusal is not None}.values():
        with suppress(SteerClearError):
            refusal_judge(refusal, log)


def _follow(futures: Mapping[Future[None], Cell], cells: Sequence[Cell], log: Log) -> None:
    """Wait for the cells, and show how far they are: a table on a terminal, else a line for each change."""
    progress = Progress(cells)
    console = Console(stderr=True)
    live = Live(console=console, auto_refresh=False, transient=True) if sys.stderr.isatty() else None
    shown: AbstractContextManager[object] = live or nullcontext()
    with shown:
        running = set(futures)
        while running:
            ended, running = wait(running, timeout=REFRESH_S)
            for future in ended:
                _check_executor(future, futures[future])
            news = progress.look()
            if live is not None:
                live.update(progress.table(console.height), refresh=True)
            else:
                for line in news:
                    log(line)


def _check_executor(future: Future[None], cell: Cell) -> None:
    """Tell in a cell's status of an error outside its process: a host that is gone, a log that cannot be written."""
    error = future.exception()
    if error is not None:
        status = cell.status()
        reason = f"the cell could not be run: {type(error).__name__}: {error}".splitlines()[0]
        write_status(cell.folder, replace(status, stage=FAILED, failed_in=status.stage, error=reason))
