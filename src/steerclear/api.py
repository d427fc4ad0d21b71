"""What the commands do, as functions of Python: `import steerclear` offers them all.

A function that runs a recipe takes it as a file, as an object, or as sections in keywords, in any mixture: keywords that are
inputs of the file fill them (as ``--base MODEL`` does on the command line), the others are laid over it.

    run = steerclear.train("recipes/ta_sft.yaml", base="MODEL", benign="benign.jsonl", unsafe="unsafe.jsonl", output="runs/mine")
    run = steerclear.train(model="MODEL", data={"benign": "benign.jsonl", "unsafe": "unsafe.jsonl"}, output="runs/mine")

What is finished is not done again: a call that was killed continues when it is made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from steerclear.config import Tree, build, check_kind, fill_inputs, load_yaml, merge, new_names, override, to_tree
from steerclear.errors import ConfigError, Log, quiet

if TYPE_CHECKING:
    from steerclear.data.columns import ImportOptions
    from steerclear.data.import_report import Imported
    from steerclear.evaluation.curve import PickLimits
    from steerclear.evaluation.scores import Scores
    from steerclear.experiments.sweep import SweepOutcome
    from steerclear.experiments.tune import Tuned
    from steerclear.generation.options import GenerationOptions
    from steerclear.harvest.contrast_recipe import ContrastRecipe
    from steerclear.harvest.harvest_recipe import HarvestRecipe
    from steerclear.judges.measures import JudgeMeasures
    from steerclear.judges.options import JudgeOptions
    from steerclear.recipe.sweep import SweepRecipe
    from steerclear.recipe.train import Recipe
    from steerclear.recipe.tune import TuneRecipe
    from steerclear.records import Generation
    from steerclear.report.run_data import RunData
    from steerclear.store.executor import RayOptions

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished training."""

    path: Path
    """The run's folder: record, manifest, log, weights, and what was evaluated."""
    weights: Path
    """The adapter, or the whole model where all weights were trained."""
    steps: int
    heldout_benign_loss: float | None
    """On held-out benign rows, in nats a token. None: no row was held out, or the loss is no finite number."""
    scores: Scores | None
    """Of its evaluation. None: the recipe asks nothing."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Models that were evaluated or attacked."""

    path: Path
    """The run's folder, which holds tables where there are several models."""
    models: dict[str, RunData]
    """Name -> scores, and figures under attack."""
    failed: dict[str, str]
    """Name -> why it could not be done."""


def recipe_of(kind: type[Kind], name: str, recipe: Any, settings: Mapping[str, Any]) -> Kind:
    """Return a recipe from a file, an object, or nothing, with settings laid over it.

    Args:
        kind: the recipe's class.
        name: its ``kind``.
        recipe: file, object of the class, mapping, or None.
        settings: inputs of the file; sections as dataclasses or mappings, which are merged; ``model`` may be a name; and
            dotted keys, such as ``{"training.max_steps": 10}``.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    if isinstance(recipe, kind) and not settings:
        return recipe
    tree: Tree = _tree(recipe)
    inputs = tree.get("inputs") or {}
    given = {key: value for key, value in settings.items() if key in inputs}
    tree, _ = fill_inputs(tree, [(key, str(value)) for key, value in given.items()])
    tree = new_names(kind, tree)
    for key, value in settings.items():
        if key not in given:
            tree = _laid_over(kind, tree, key, value)
    check_kind(tree, name)
    return build(kind, tree)


def _tree(recipe: Any) -> Tree:
    if recipe is None:
        return {}
    if isinstance(recipe, str | Path):
        return load_yaml(Path(recipe))
    if isinstance(recipe, Mapping):
        return dict(recipe)
    if dataclasses.is_dataclass(recipe) and not isinstance(recipe, type):
        return dict(to_tree(recipe))
    raise ConfigError(f"recipe: got a {type(recipe).__name__}, expected a file, a mapping or a recipe.")


def _laid_over(kind: type, tree: Tree, key: str, value: Any) -> Tree:
    plain = to_tree(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    plain = str(plain) if isinstance(plain, Path) else plain
    if key == "model" and isinstance(plain, str):
        plain = {"path": plain}
    if "." in key:
        return override(tree, [(key, plain)], kind)
    return merge(tree, new_names(kind, {key: dict(plain) if isinstance(plain, Mapping) else plain}))


def train(recipe: Recipe | str | Path | None = None, *, log: Log = quiet, **settings: Any) -> TrainedRun:
    """Train a model, or continue, and evaluate it where the recipe names suites or attacks.

    Args:
        recipe: see the module; its settings are in docs/settings.md.
        log: gets one line about each thing the user should know.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds another run, or the disk is full.
    """
    from steerclear.experiments.run import Run
    from steerclear.recipe.train import Recipe

    run = Run(recipe_of(Recipe, "train", recipe, settings), log)
    folder = run.train()
    trained = folder.record()["stages"]["train"]
    return TrainedRun(
        path=folder.path,
        weights=folder.adapter if folder.adapter.is_dir() else folder.model,
        steps=trained["steps"],
        heldout_benign_loss=trained["heldout_benign_loss"],
        scores=run.evaluate() if run.recipe.evaluation.is_any else None,
    )


def evaluate(
    recipe: Recipe | str | Path | None = None,
    *,
    checkpoints: Sequence[str] = ("final",),
    log: Log = quiet,
    **settings: Any,
) -> Evaluated:
    """Ask models the recipe's suites, judge their answers, and measure what they still can.

    Several models are also laid side by side in the run's folder: table.md, table.csv, differences.csv, index.html.

    Args:
        checkpoints: each ``final``, ``base``, a folder, or ``NAME=FOLDER``.

    Raises:
        SteerClearError: no suite, nothing trained yet, no such folder, or a judge cannot be opened.
    """
    from steerclear.attacks.figures import read_attacks
    from steerclear.experiments.run import Run
    from steerclear.recipe.train import Recipe
    from steerclear.report.read_runs import Place
    from steerclear.report.report import lay_side_by_side
    from steerclear.report.run_data import RunData

    run = Run(recipe_of(Recipe, "train", recipe, settings), log)
    evaluated, failed = run.evaluate_all(checkpoints)
    if len(evaluated) > 1:
        lay_side_by_side([Place(target.name, target.folder) for target, _ in evaluated], run.output, log)
    models = {
        target.name: RunData(name=target.name, scores=scores, attacks=read_attacks(target.folder))
        for target, scores in evaluated
    }
    return Evaluated(path=run.output, models=models, failed=failed)


def attack(
    recipe: Recipe | str | Path | None = None,
    *,
    checkpoints: Sequence[str] = ("final",),
    log: Log = quiet,
    **settings: Any,
) -> Evaluated:
    """Attack models as the recipe's ``evaluation.attacks`` says; tables are in the run's folder: attacks.md and attacks.csv.

    Args:
        checkpoints: as for `evaluate`; the others are held against the first.

    Raises:
        SteerClearError: no attack, a file is missing or wrong, nothing trained yet, or a judge cannot be opened.
    """
    from steerclear.evaluation.scores import score
    from steerclear.experiments.run import Run
    from steerclear.recipe.train import Recipe
    from steerclear.records import write_text
    from steerclear.report.attacks import attacks_csv
    from steerclear.report.findings import find
    from steerclear.report.run_data import RunData
    from steerclear.report.texts import attacks_markdown

    run = Run(recipe_of(Recipe, "train", recipe, settings), log)
    attacked, failed = run.attack_all(checkpoints)
    models = {name: RunData(name=name, scores=score([]), attacks=figures) for name, figures in attacked.items()}
    if models:
        laid = list(models.values())
        write_text(run.output / "attacks.csv", attacks_csv(laid))
        write_text(run.output / "attacks.md", attacks_markdown(find(run.output.name, laid, baseline=laid[0].name)))
    return Evaluated(path=run.output, models=models, failed=failed)


def generate(
    model: str | Path,
    prompts: str | Path,
    output: str | Path,
    *,
    adapter: str | Path | None = None,
    template: str = "alpaca",
    limit: int | None = None,
    generation: GenerationOptions | None = None,
) -> list[Generation]:
    """Answer the prompts of a file (JSONL or JSON with a field prompt or instruction), or continue.

    Args:
        model: folder or Hub name.
        output: JSONL file of the answers.
        template: how prompts are rendered: ``alpaca``, ``plain`` or ``chat``.
        limit: a sample of so many prompts.
        generation: how answers are decoded. None: greedily.

    Raises:
        SteerClearError: a file, the model or an option is wrong, or ``output`` holds answers of another model.
    """
    from steerclear.evaluation.files import answer_file
    from steerclear.generation.options import GenerationOptions, ModelOptions

    source = ModelOptions(path=str(model), adapter=None if adapter is None else str(adapter))
    return answer_file(source, Path(prompts), Path(output), template, limit, generation or GenerationOptions())


def judge(
    answers: str | Path,
    judge: JudgeOptions | Mapping[str, Any] | str | Path,
    *,
    output: str | Path | None = None,
    refusal_model: str | None = None,
    log: Log = quiet,
) -> Scores | JudgeMeasures:
    """Judge a file of answers and return their scores; of labelled rows (with ``is_safe``) return how well the judge does.

    Args:
        judge: options, or a file that `steerclear judge fit` wrote.
        output: JSONL file for the verdicts.
        refusal_model: a file that `steerclear judge fit-refusal` wrote.

    Raises:
        SteerClearError: the file is neither, or the judge cannot be used.
    """
    from steerclear.evaluation.files import score_file
    from steerclear.judges.options import JudgeOptions

    if isinstance(judge, str | Path):
        judge = JudgeOptions(classifier=str(judge))
    elif isinstance(judge, Mapping):
        judge = build(JudgeOptions, dict(judge))
    return score_file(Path(answers), judge, None if output is None else Path(output), log, refusal_model)


def harvest(
    recipe: HarvestRecipe | str | Path | None = None,
    *,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    log: Log = quiet,
    **settings: Any,
) -> Path | None:
    """Build the unsafe set from a model's own answers, or continue; return the file of unsafe rows.

    Args:
        workers: processes on this host that answer.
        shard: ``(i, n)``: answer part i of n only, for hosts whose shared folder has no locks. None is then returned while others
            are not finished.

    Raises:
        SteerClearError: bad recipe, data or model, or fewer rows were found than asked for; what was found is kept.
    """
    from steerclear.harvest.harvest import harvest as run
    from steerclear.harvest.harvest_recipe import HarvestRecipe

    return run(recipe_of(HarvestRecipe, "harvest", recipe, settings), log, count=workers, shard=shard)


def contrast(recipe: ContrastRecipe | str | Path | None = None, *, log: Log = quiet, **settings: Any) -> Path:
    """Make benign rows whose prompts only seem toxic, or continue; return their file.

    Raises:
        SteerClearError: bad recipe, data or model, or a server stopped answering.
    """
    from steerclear.attacks.behaviors import all_prompts
    from steerclear.harvest.contrast import contrast as run
    from steerclear.harvest.contrast_recipe import ContrastRecipe

    made = recipe_of(ContrastRecipe, "contrast", recipe, settings)
    return run(made, all_prompts(made.evaluation), log)


def sweep(
    recipe: SweepRecipe | str | Path,
    *,
    workers: int = 1,
    ray: RayOptions | None = None,
    log: Log = quiet,
    **settings: Any,
) -> SweepOutcome:
    """Train and evaluate a grid of recipes, or do what is missing of it; cells that fail stop nothing.

    Args:
        workers: cells at a time on this machine.
        ray: where they run instead.

    Raises:
        SteerClearError: a cell's recipe is wrong, the folder cannot be written, or there is no cluster.
    """
    from steerclear.experiments.sweep import sweep as run
    from steerclear.recipe.sweep import SweepRecipe

    return run(recipe_of(SweepRecipe, "sweep", recipe, settings), log, workers=workers, ray=ray)


def tune(recipe: TuneRecipe | str | Path, *, workers: int = 1, log: Log = quiet, **settings: Any) -> Tuned | None:
    """Find λ, and other settings that the recipe names, by trials, or continue; the best one's recipe is a file.

    Args:
        workers: processes on this host that train.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds another search, or several trials failed in a row.
    """
    from steerclear.experiments.tune import tune as run
    from steerclear.recipe.tune import TuneRecipe

    return run(recipe_of(TuneRecipe, "tune", recipe, settings), log, count=workers)


def report(
    folders: Sequence[str | Path],
    output: str | Path = "report.html",
    *,
    title: str | None = None,
    baseline: str | None = None,
    limits: PickLimits | None = None,
    model_cards: bool = False,
    log: Log = quiet,
) -> Path:
    """Write one page about finished runs, sweeps or comparisons, and beside it the same as .md, .csv and .tex; return the page.

    Args:
        baseline: the run that the others are held against. None: the first that saw no unsafe row.
        limits: of the run that the page recommends.
        model_cards: write README.md into the folder of every trained run's weights.

    Raises:
        SteerClearError: a folder has no run, none is evaluated, a file is broken, or there is no such baseline.
    """
    from steerclear.report.report import report as write

    places = [Path(folder) for folder in folders]
    return write(places, Path(output), log, title=title, baseline=baseline, limits=limits, model_cards=model_cards)


def merge_adapter(base: str | Path, adapter: str | Path, output: str | Path) -> Path:
    """Fold an adapter into its base and save a plain model; `steerclear.merge` is this function.

    Raises:
        SteerClearError: a model cannot be opened, or ``output`` is not empty.
    """
    from steerclear.training.merge import merge_adapter as fold

    fold(str(base), str(adapter), Path(output))
    return Path(output)


def import_rows(
    files: Sequence[str | Path], output: str | Path, options: ImportOptions | None = None
) -> Imported | None:
    """Turn labelled tables or logs into row files for recipes; return what was found, None where the folder holds this import.

    Args:
        options: which columns mean what. None: as they are called.

    Raises:
        SteerClearError: a file cannot be read or has no row to keep, or the folder holds something else.
    """
    from steerclear.data.columns import ImportOptions
    from steerclear.data.import_rows import import_rows as run

    return run([Path(file) for file in files], Path(output), options or ImportOptions())
