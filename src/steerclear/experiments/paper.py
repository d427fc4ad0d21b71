"""`steerclear paper`: a table or figure of the paper as a sweep, and its numbers with ours beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.attacks.figures import read_attacks
from steerclear.config import Tree, build, fill_inputs, override, parse_overrides, raise_all
from steerclear.errors import ConfigError, Log
from steerclear.evaluation.results import read_scores
from steerclear.experiments.paper_beside import Measured, lay_beside
from steerclear.experiments.paper_tables import compose, experiments, presets
from steerclear.experiments.published import published_table, published_tables
from steerclear.experiments.sweep import SweepOutcome, sweep
from steerclear.recipe.sweep import SweepRecipe
from steerclear.report.beside import BesideTable
from steerclear.report.report import report

PAGE = "report.html"
"""The page, in the sweep's folder."""

ATTACKER = "attacker"
"""Argument of the attack table: a chat model, by its folder or Hub name, a script (.jsonl), or a role in YAML."""

MADE_BY = {
    "base": "the base model: a folder or a Hub name.",
    "data": "a folder with the data sets and the files of the suites' cards; docs/paper.md lists them.",
    "unsafe": "unsafe answers of this very model. 'steerclear harvest recipes/paper_harvest.yaml --base MODEL --data DATA' makes "
    "them, as runs/paper-harvest/unsafe.jsonl.",
    "contrast": "contrastive rows. 'steerclear contrast recipes/contrast.yaml' makes them, as runs/contrast/contrast.jsonl.",
}
"""The last word of an input's name -> what it is, and how it is made."""


@dataclass(frozen=True)
class PaperOutcome:
    """What came of it."""

    sweep: SweepOutcome
    beside: BesideTable | None
    """None for a figure."""


def overview() -> str:
    """Return the tables, figures and presets that there are, a line each."""
    lines = []
    for id, table in published_tables().items():
        experiment = experiments()[id]
        about = ", ".join(experiment.models) + ("; with --attacker" if experiment.pair else "")
        lines.append(f"  {id:<9} {table.title} ({about})")
    named = [f"  {name:<13} {preset.about}" for name, preset in presets().items()]
    return "\n".join(["tables and figures, with the paper's models:", *lines, "", "presets:", *named])


def composed(
    table: str, names: Sequence[str], only: Sequence[str], judge: str | None, arguments: Sequence[str]
) -> Tree:
    """Return the sweep of a table or figure as a recipe's tree: the given inputs as their defaults, overrides laid over it.

    Args:
        only: ``AXIS=VALUE[,VALUE...]`` of what is kept of an axis.
        judge: a file that `steerclear judge fit` wrote, or a judge as in a recipe, in YAML.
        arguments: ``--key value`` of inputs, of `ATTACKER`, and of dotted keys.

    Raises:
        ConfigError: whatever is wrong with one of them.
    """
    chosen = None
    if judge is not None:
        [(_, value)] = parse_overrides(["--judge", judge])
        chosen = value if isinstance(value, dict) else {"classifier": str(value)}
    kept: dict[str, list[str]] = defaultdict(list)
    for axis, values in map(_kept, only):
        kept[axis] += values
    pairs = parse_overrides(arguments)
    attackers = [_role(value) for key, value in pairs if key == ATTACKER]
    pairs = [(key, value) for key, value in pairs if key != ATTACKER]
    tree = compose(table, names, only=kept, judge=chosen, attacker=attackers[-1] if attackers else None)
    given = {key: value for key, value in pairs if key in tree["inputs"]}
    rest = [(key, value) for key, value in pairs if key not in given]
    return override(tree | {"inputs": tree["inputs"] | given}, rest, SweepRecipe)


def _role(value: Any) -> Tree:
    """Return a chat role as a recipe has it: from its own tree, or the name of a model or of a script."""
    if isinstance(value, dict):
        return value
    return {"script": str(value)} if str(value).endswith(".jsonl") else {"model": {"path": str(value)}}


def _kept(text: str) -> tuple[str, list[str]]:
    axis, _, values = text.partition("=")
    if not axis or not values:
        raise ConfigError(f"only: got '{text}', expected AXIS=VALUE, such as rows=100 or method=emd,nlcl.")
    return axis, values.split(",")


def sweep_of(tree: Tree) -> SweepRecipe:
    """Return the sweep that a composed tree stands for.

    Raises:
        ConfigError: an input is missing, with the way to make it, or a key is wrong.
    """
    missing = [name for name, value in tree["inputs"].items() if value is None]
    raise_all([f"--{name}: is missing: {MADE_BY[name.rpartition('_')[2]]}" for name in missing])
    filled, _ = fill_inputs(tree, [])
    return build(SweepRecipe, filled)


def paper(recipe: SweepRecipe, log: Log, *, workers: int = 1) -> PaperOutcome:
    """Run a table's or a figure's sweep, or what is missing of it, and write the page with the paper's figures beside ours.

    Raises:
        SteerClearError: as `steerclear.experiments.sweep.sweep`.
    """
    outcome = sweep(recipe, log, workers=workers)
    beside = _beside(recipe, outcome)
    if outcome.finished:
        folder = Path(recipe.output)
        page = report([folder], folder / PAGE, log, title=recipe.title, beside=[beside] if beside else [])
        log(f"page: {page}")
    return PaperOutcome(outcome, beside)


def _beside(recipe: SweepRecipe, outcome: SweepOutcome) -> BesideTable | None:
    about = recipe.paper or {}
    measured = [
        Measured(
            labels=cell.labels,
            scores=read_scores(cell.folder),
            penalty_weight=cell.recipe.training.get("penalty_weight"),
            attacks=read_attacks(cell.folder),
        )
        for cell in outcome.finished
    ]
    return lay_beside(published_table(about["table"]), about["preset"].split(","), measured)
