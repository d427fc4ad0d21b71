"""`steerclear compare`: train and evaluate the variants of one recipe, and lay their figures side by side."""

from __future__ import annotations

from pathlib import Path

from steerclear.errors import Log, SteerClearError
from steerclear.experiments.run import Run
from steerclear.recipe.train import Recipe
from steerclear.report.read_runs import Place
from steerclear.report.report import lay_side_by_side
from steerclear.report.run_data import RunData


def compare(recipes: dict[str, Recipe], output: Path, log: Log) -> tuple[list[RunData], dict[str, str]]:
    """Train and evaluate every variant that is not finished, and lay them side by side; see `lay_side_by_side`.

    A variant that fails stops no other.

    Returns the finished variants, and for each failed one its error's text.
    """
    finished: list[Place] = []
    failed: dict[str, str] = {}
    for number, (name, recipe) in enumerate(recipes.items(), start=1):
        log(f"[{number}/{len(recipes)}] {name}")
        run = Run(recipe, log)
        try:
            run.train()
            run.evaluate()
        except SteerClearError as error:
            log(f"{name} failed: {error}")
            failed[name] = str(error)
        else:
            finished.append(Place(name, run.output))
    return lay_side_by_side(finished, output, log) if finished else [], failed
