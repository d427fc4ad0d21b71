"""The cells of a sweep: each with a recipe, an id that hashes what it is made of, and a folder that says how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steerclear.config import build, check_kind, dump_yaml, identity_tree, load_tree, raise_all, to_tree
from steerclear.errors import ConfigError, DataError, SteerClearError
from steerclear.experiments.run import Run
from steerclear.recipe.sweep import KIND, CellPlan, LaunchOptions, SweepRecipe, plan_cells
from steerclear.recipe.train import Recipe
from steerclear.records import sha256_of, sha256_of_file, write_json, write_text
from steerclear.store.runs import RECORD, model_fingerprint
from steerclear.store.status import DONE, CellJob, Status, read_status
from steerclear.training.defaults import NO_EFFECT_ON_RESULTS
from steerclear.training.options import arguments_for_hashes
from steerclear.training.train import ALGORITHM, check_recipe


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination with its place on disk, which is a run's folder."""

    id: str
    name: str
    labels: dict[str, str]
    recipe: Recipe
    launch: LaunchOptions
    evaluation: str
    """Hash of what is asked and who judges, files by their content."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.recipe.output)

    def status(self) -> Status:
        """Return how far the cell is. An evaluation with other options, prompts or judges than the recipe's is not done."""
        status = read_status(self.folder)
        if status.stage == DONE and status.evaluation != self.evaluation:
            return Status(seconds=status.seconds)
        return status

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.status().stage == DONE

    @property
    def job(self) -> CellJob:
        """What a process of its own does for the cell."""
        return CellJob(self.folder.resolve(), self.launch.processes)

    def write(self) -> None:
        """Make the folder with what the process that works on the cell needs to know."""
        write_text(self.folder / "recipe.yaml", dump_yaml(to_tree(self.recipe)))
        about = {"id": self.id, "name": self.name, "labels": self.labels, "launch": asdict(self.launch)}
        about["evaluation"] = self.evaluation
        write_json(self.folder / "cell.json", about)


def load_sweep(arguments: Sequence[str]) -> SweepRecipe:
    """Read ``[SWEEP.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    tree = load_tree(arguments, SweepRecipe)
    if "kind" not in tree:
        raise ConfigError(f"kind: is missing. A recipe of this command says 'kind: {KIND}', and has axes.")
    check_kind(tree, KIND)
    return build(SweepRecipe, tree)


def cells_of(sweep: SweepRecipe) -> list[Cell]:
    """Return the cells of a sweep. Combinations that are the same training are one cell, by the first one's name.

    Raises:
        ConfigError: what is wrong in any cell's recipe; the message names the cell.
    """
    cells: dict[str, Cell] = {}
    problems: list[str] = []
    hashes = _Hashes()
    for plan in plan_cells(sweep):
        try:
            cell = _cell(sweep, plan, hashes)
        except (ConfigError, DataError) as error:
            problems += [f"{plan.name}: {line}" for line in str(error).splitlines()]
        else:
            cells.setdefault(cell.id, cell)
    raise_all(problems)
    return list(cells.values())


def open_cell(folder: Path) -> Cell:
    """Return the cell that `Cell.write` wrote into a folder."""
    about = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    recipe = build(Recipe, load_tree([str(folder / "recipe.yaml")]))
    return Cell(**about | {"launch": LaunchOptions(**about["launch"]), "recipe": recipe})


def is_trained(folder: Path) -> bool:
    """Whether a run's training is done."""
    file = folder / RECORD
    return file.is_file() and "train" in json.loads(file.read_text(encoding="utf-8")).get("stages", {})


def _cell(sweep: SweepRecipe, plan: CellPlan, hashes: _Hashes) -> Cell:
    recipe = build(Recipe, plan.tree | {"output": sweep.output})
    made_of = _made_of(recipe, plan, hashes)
    if sweep.launch.processes > 1:  # each brings its own rows to a step
        made_of["processes"] = sweep.launch.processes
    name = sha256_of(made_of)[:12]
    named = {"run_name": plan.name} | recipe.training
    recipe = replace(recipe, output=str(Path(sweep.output) / "cells" / name), training=named)
    check_recipe(recipe.setup)
    Run(recipe).check_recovery()
    _check_launch(recipe, sweep.launch)
    asked = hashes.of_evaluation(recipe)
    return Cell(id=name, name=plan.name, labels=plan.labels, recipe=recipe, launch=sweep.launch, evaluation=asked)


def _check_launch(recipe: Recipe, launch: LaunchOptions) -> None:
    """Refuse what one process alone can do where several train."""
    alone = {
        "recovery": recipe.recovery,
        "collapse": recipe.collapse,
        "evaluation.every_steps": recipe.evaluation.every_steps,
    }
    problems = [
        f"{name}: works in one process, and launch.processes is {launch.processes}. Leave one of the two out."
        for name, value in alone.items()
        if value is not None and launch.processes > 1
    ]
    raise_all(problems)


def _made_of(recipe: Recipe, plan: CellPlan, hashes: _Hashes) -> dict[str, Any]:
    """Return what a cell's figures depend on, files by their content.

    What all cells are asked is left out, so that another suite or judge for all of them costs no training, unless it is asked or
    judged while training; what only some cells are asked tells them apart.
    """
    tree = identity_tree(recipe)
    del tree["evaluation"]
    training = {
        key: value for key, value in arguments_for_hashes(tree["training"]).items() if key not in NO_EFFECT_ON_RESULTS
    }
    data = recipe.data
    sources = {"benign": data.benign, "unsafe": data.unsafe, "added": data.extra}
    hashed = {name: hashes.of_files(source) for name, source in sources.items()}
    judged_while_training = recipe.recovery is not None or recipe.evaluation.every_steps is not None
    return tree | {
        "output": None,
        "algorithm": ALGORITHM,
        "training": training,
        "model": {**tree["model"], "path": hashes.of_model(recipe.model.path)},
        "data": {**tree["data"], **hashed},
        "evaluation": [plan.changes.get("evaluation"), hashes.of_evaluation(recipe) if judged_while_training else None],
    }


class _Hashes:
    """Hashes of what the cells read, each computed once: cells share their files."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of_files(self, source: str | list[str] | None) -> list[str]:
        """Return the hashes of files, or the names of data sets that are no files."""
        names = [source] if isinstance(source, str) else source or []
        return [
            self._of(name, lambda name: sha256_of_file(Path(name))) if Path(name).is_file() else name for name in names
        ]

    def of_model(self, path: str) -> str:
        """Return the fingerprint of a model's folder, or its Hub name."""
        return self._of(path, model_fingerprint)

    def of_evaluation(self, recipe: Recipe) -> str:
        """Return the hash of an evaluation. What cannot be read has a hash too: the cell itself will tell."""
        options = identity_tree(recipe.evaluation)
        key = sha256_of(options)
        if key not in self._known:
            try:
                contents: Any = Run(recipe).fingerprint()
            except SteerClearError as error:
                contents = str(error)
            self._known[key] = sha256_of([options, contents])
        return self._known[key]

    def _of(self, path: str, compute: Callable[[str], str]) -> str:
        if path not in self._known:
            self._known[path] = compute(path)
        return self._known[path]
