"""`steerclear attack`: how models stand up to attacks, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerclear.attacks.attacking import attack_judges, attack_model, check_attacks
from steerclear.errors import Log, SteerClearError
from steerclear.evaluation.evaluated_model import answering_of
from steerclear.evaluation.scores import score
from steerclear.evaluation.targets import targets_of
from steerclear.recipe.train import Recipe
from steerclear.records import write_text
from steerclear.report.attacks import attacks_csv, attacks_markdown
from steerclear.report.comparison import RunScores


def attack_all(recipe: Recipe, checkpoints: Sequence[str], log: Log) -> tuple[list[RunScores], dict[str, str]]:
    """Attack models as the recipe says; what was finished before, by this command or a killed one, is not done again.

    ``attacks.md`` and ``attacks.csv`` in the recipe's output lay the models side by side, with paired tests against the first.
    One model that fails does not stop the others.

    Args:
        checkpoints: each ``final`` (what the run trained, or the recipe's ``model.adapter``), ``base``, a folder, or
            ``NAME=FOLDER``.

    Returns the attacked models, and for each failed one its error's text.

    Raises:
        SteerClearError: no attack, a file is missing or wrong, nothing trained yet, or a judge cannot be opened.
    """
    check_attacks(recipe)
    targets = targets_of(recipe.model, Path(recipe.output), checkpoints)
    judges = attack_judges(recipe, log)
    attacked: list[RunScores] = []
    failed: dict[str, str] = {}
    for target in targets:
        try:
            told = attack_model(recipe, target, answering_of(target.model), judges, log)
            attacked.append(RunScores(name=target.name, scores=score([]), attacks=told["attacks"]))
        except SteerClearError as error:
            log(f"{target.name} failed: {error}")
            failed[target.name] = str(error)
    if attacked:
        write_text(Path(recipe.output) / "attacks.csv", attacks_csv(attacked))
        write_text(Path(recipe.output) / "attacks.md", attacks_markdown(attacked))
    return attacked, failed
