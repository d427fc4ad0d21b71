"""The command line. Every heavy import is inside its command, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from steerclear import __version__
from steerclear.errors import ConfigError, SteerClearError
from steerclear.training.ranks import launched_processes, part_ways, rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from steerclear.recipe.sweep import SweepRecipe
    from steerclear.report.run_data import RunData

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune a language model on benign data and steer it clear of a few unsafe answers.",
)
recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")
app.add_typer(recipe_app, name="recipe")
judge_app = typer.Typer(no_args_is_help=True, help="Fit the local harmfulness judge, or judge answers with it.")
app.add_typer(judge_app, name="judge")

RECIPE_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help", "-h"]}
RECIPE_HELP = "Arguments: [RECIPE.yaml] [--key value ...], dotted keys for sections, e.g. --training.penalty_weight 1."
JUDGE_HELP = (
    "The judge: --classifier FILE, --guard.model MODEL, --reward.model MODEL, --rating.model.path MODEL or "
    "--moderation.endpoint.model NAME; and its other options, such as --guard.batch_size 8."
)
PAPER_HELP = (
    "More arguments: --base MODEL, --data FOLDER and other inputs; --output FOLDER; --key value with dotted keys, e.g. "
    "--recipe.training.max_steps 100."
)
BAD_INPUT, NOT_MET = 2, 1


class RecipeCommand(TyperCommand):
    """A command that runs a recipe: its help lists all settings, by section, with their defaults."""

    kind = "train"

    def format_epilog(self, context: Any, formatter: Any) -> None:
        """Write the settings after the epilog."""
        from steerclear.recipe.reference import help_text

        super().format_epilog(context, formatter)
        formatter.write(f"\nSettings (docs/settings.md says more):\n\n{help_text(self.kind)}\n")


class SweepCommand(RecipeCommand):
    """A command that runs a sweep."""

    kind = "sweep"


class TuneCommand(RecipeCommand):
    """A command that runs a search."""

    kind = "tune"


class HarvestCommand(RecipeCommand):
    """A command that runs a harvest."""

    kind = "harvest"


class ContrastCommand(RecipeCommand):
    """A command that makes contrastive rows."""

    kind = "contrast"


def log(message: str) -> None:
    """Print a line for the user on standard error; standard output is for results. Of several ranks only the first speaks."""
    if rank() == 0:
        typer.echo(message, err=True)


def _quiet_start() -> None:
    """Set what must be set before transformers and TRL are imported."""
    # TRL reports each training to its makers unless told not to.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # PEFT 0.21 reads a flag by the name it had before transformers 5.23; the user can do nothing about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def _print(table: RenderableType) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _print_runs(runs: Sequence[RunData]) -> None:
    """Print what the models can still do, and how they stand up to attacks, where that was measured."""
    from steerclear.report.attacks import terminal_attacks
    from steerclear.report.tables import quality_table

    if quality := quality_table(runs):
        _print(quality.rich("What the models can still do"))
    if any(run.attacks for run in runs):
        _print(terminal_attacks(runs))


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if launched_processes() > 1 and context.invoked_subcommand not in (None, "train", "cell"):
        raise ConfigError(
            f"{context.invoked_subcommand}: works in one process, and a launcher started {launched_processes()}. Start it "
            "without one; only 'steerclear train' is shared by several."
        )


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def train(context: typer.Context) -> None:
    """Train a model, continue a killed training, and evaluate it where the recipe names suites."""
    _quiet_start()
    from steerclear.attacks.figures import read_attacks
    from steerclear.evaluation.scores import terminal_scores
    from steerclear.experiments.run import Run
    from steerclear.recipe.train import load_recipe
    from steerclear.report.run_data import RunData

    recipe = load_recipe(context.args)
    run = Run(recipe, log)
    run.train()
    if not part_ways():
        return
    log(f"trained: {run.output}")
    if recipe.evaluation.is_any:
        scores = run.evaluate()
        _print(terminal_scores(scores, str(run.output)))
        _print_runs([RunData(name=run.output.name, scores=scores, attacks=read_attacks(run.output))])


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="What to evaluate: final (the default), base, a folder, or NAME=FOLDER. May be given several times."
        ),
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="A condition such as 'harmful.upper<=0.02'; exit code 1 if it is not met.")
    ] = None,
) -> None:
    """Ask models the recipe's suites, judge the answers, measure what they still can, and print it with intervals.

    Several models are also laid side by side in the run's folder: table.md, table.csv, differences.csv, index.html.
    """
    _quiet_start()
    from steerclear import api
    from steerclear.evaluation.requirements import check, parse
    from steerclear.evaluation.scores import terminal_scores
    from steerclear.recipe.train import load_recipe

    conditions = [parse(text) for text in require or ()]
    recipe = load_recipe(context.args)
    evaluated = api.evaluate(recipe, checkpoints=checkpoint or ["final"], log=log)
    runs = list(evaluated.models.values())
    for run in runs:
        _print(terminal_scores(run.scores, f"{recipe.output} ({run.name})"))
    _print_runs(runs)
    met = True
    for run in runs:
        for outcome in check(run.scores, conditions):
            log(f"{run.name}: {'met' if outcome.met else 'NOT MET'}: {outcome.expression} (value {outcome.value})")
            met &= outcome.met
    _tell_failures(evaluated.failed, NOT_MET if runs else BAD_INPUT)
    if not met:
        raise typer.Exit(NOT_MET)


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def attack(
    context: typer.Context,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="What to attack: final (the default), base, a folder, or NAME=FOLDER. May be given several times; the others "
            "are held against the first."
        ),
    ] = None,
) -> None:
    """Attack models as the recipe's evaluation.attacks says, or go on with that, and print success rates with intervals.

    The tables are in the run's folder too: attacks.md and attacks.csv.
    """
    _quiet_start()
    from steerclear import api
    from steerclear.recipe.train import load_recipe

    attacked = api.attack(load_recipe(context.args), checkpoints=checkpoint or ["final"], log=log)
    _print_runs(list(attacked.models.values()))
    if attacked.models:
        log(f"tables: {attacked.path / 'attacks.md'}")
    _tell_failures(attacked.failed)


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def compare(context: typer.Context) -> None:
    """Train and evaluate every variant of a recipe, and write a table and a page with all of them."""
    _quiet_start()
    from steerclear.config import load_tree
    from steerclear.experiments.compare import compare
    from steerclear.recipe.train import Recipe, variants_of
    from steerclear.report.comparison import terminal_comparison

    tree = load_tree(context.args, Recipe)
    recipes = variants_of(tree)
    finished, failed = compare(recipes, Path(tree["output"]), log)
    if finished:
        _print(terminal_comparison(finished))
    _tell_failures(failed)


@app.command(cls=SweepCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def sweep(
    context: typer.Context,
    workers: Annotated[int, typer.Option(help="Cells at a time on this machine; each takes a GPU, in turn.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on Ray: auto, local or ray://host:port, not on this machine."),
    ] = None,
    cell_cpus: Annotated[float, typer.Option(help="CPU cores of a cell on Ray.")] = 1.0,
    cell_gpus: Annotated[float, typer.Option(help="GPUs of a cell on Ray.")] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cells and what they will cost, and stop.")
    ] = False,
) -> None:
    """Train and evaluate a grid of recipes, cells side by side; or do what is missing of it."""
    _quiet_start()
    from steerclear import api
    from steerclear.experiments.cells import load_sweep
    from steerclear.store.executor import RayOptions

    recipe = load_sweep(context.args)
    if dry_run:
        _print_estimate(recipe, workers)
        return
    options = None if ray is None else RayOptions(address=ray, cpus=cell_cpus, gpus=cell_gpus)
    outcome = api.sweep(recipe, workers=workers, ray=options, log=log)
    _tell_failures(outcome.failed)


def _print_estimate(recipe: SweepRecipe, workers: int) -> None:
    from steerclear.experiments.estimate import estimate_sweep

    _print(estimate_sweep(recipe, log, workers=workers))


def _tell_failures(failed: dict[str, str], status: int = NOT_MET) -> None:
    for name, error in failed.items():
        log(f"failed: {name}: {error}")
    if failed:
        raise typer.Exit(status)


@app.command(context_settings=RECIPE_COMMAND, epilog=PAPER_HELP)
def paper(
    context: typer.Context,
    table: Annotated[str | None, typer.Argument(help="Such as table2 or figure5. None: list what there is.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="A model; may be given several times.")] = None,
    judge: Annotated[
        str | None, typer.Option(help="In place of the preset's: a file of 'judge fit', or a judge in YAML.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE,...", help="Keep these values of an axis. May be given several times."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Cells at a time on this machine; each takes a GPU, in turn.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cells and what they will cost, and stop.")
    ] = False,
    print_recipe: Annotated[
        bool, typer.Option("--print", help="Print the sweep as a recipe, to be kept and changed, and stop.")
    ] = False,
) -> None:
    """Run a table or figure of the paper as a sweep, and lay our figures beside the published ones."""
    _quiet_start()
    from steerclear.config import dump_yaml
    from steerclear.experiments.paper import composed, overview, paper, sweep_of
    from steerclear.report.beside import beside_markdown

    if table is None:
        typer.echo(overview())
        return
    tree = composed(table, preset or (), only or (), judge, context.args)
    if print_recipe:
        typer.echo(dump_yaml(tree), nl=False)
        return
    recipe = sweep_of(tree)
    if dry_run:
        _print_estimate(recipe, workers)
        return
    outcome = paper(recipe, log, workers=workers)
    if outcome.beside is not None:
        typer.echo(beside_markdown(outcome.beside))
    _tell_failures(outcome.sweep.failed)


@app.command(hidden=True)
def cell(
    folder: Annotated[Path, typer.Argument(help="A cell's folder.")],
    only: Annotated[str | None, typer.Option(help="train: in a process that was launched for it.")] = None,
) -> None:
    """Work on one cell of a sweep. A sweep starts this itself."""
    _quiet_start()
    from steerclear.experiments.cell import work_on

    if not work_on(folder, only, log):
        raise typer.Exit(NOT_MET)


@app.command(cls=TuneCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def tune(
    context: typer.Context,
    workers: Annotated[int, typer.Option(help="Processes on this host that train; each takes a GPU, in turn.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe and say what would be done.")] = False,
) -> None:
    """Find lambda, and other settings that the recipe names, by trials: the safest within limits, as a recipe; or continue.

    Exit code 1 where no trial is within the limits.
    """
    _quiet_start()

    from steerclear import api
    from steerclear.experiments.tune import load_tune_recipe, plan
    from steerclear.experiments.tune_report import tune_table, verdict

    recipe = load_tune_recipe(context.args)
    if dry_run:
        plan(recipe, log, count=workers)
        return
    tuned = api.tune(recipe, workers=workers, log=log)
    if tuned is None:
        return
    _print(tune_table(recipe, tuned.outcomes))
    log(verdict(recipe, tuned.outcomes))
    log(f"trials: {Path(recipe.output) / 'tune.md'}")
    if tuned.recipe is None:
        log("run it again with other limits, which keeps what is finished, or search wider (into another output).")
        raise typer.Exit(NOT_MET)
    log(f"best: {tuned.recipe}")


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def curve(
    context: typer.Context,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of checkpoint-N from any trainer, evaluated first.")
    ] = None,
    every: Annotated[int, typer.Option(help="Take every so many of these checkpoints.")] = 1,
    max_over_refusal: Annotated[float, typer.Option(help="Highest over-refusal of the checkpoint to pick.")] = 0.1,
    max_degenerate: Annotated[float, typer.Option(help="Highest degenerate rate of the checkpoint to pick.")] = 0.05,
) -> None:
    """Show a training through its evaluated steps, and pick the safest checkpoint within limits.

    The steps are those of evaluation.every_steps, or --checkpoints.
    """
    _quiet_start()
    from steerclear.evaluation.curve import PickLimits
    from steerclear.experiments.curve import curve
    from steerclear.recipe.train import load_recipe
    from steerclear.report.tables import curve_markdown

    recipe = load_recipe(context.args)
    limits = PickLimits(over_refusal=max_over_refusal, degenerate=max_degenerate)
    points, picked = curve(recipe, log, limits, checkpoints, every)
    typer.echo(curve_markdown(points, picked))
    log(f"curve: {Path(recipe.output) / 'curve.svg'}")
    if picked is None:
        log("no checkpoint is within the limits; see --max-over-refusal and --max-degenerate.")
        raise typer.Exit(NOT_MET)
    typer.echo(f"picked: step {picked.step}, {picked.path}")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, sweeps or comparisons.")],
    output: Annotated[Path, typer.Option(help="The page; .md, .csv and .tex go beside it.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Hold the others against this run; by default the first that saw no unsafe row."
        ),
    ] = None,
    max_over_refusal: Annotated[float, typer.Option(help="Highest over-refusal of the run to recommend.")] = 0.1,
    max_degenerate: Annotated[float, typer.Option(help="Highest degenerate rate of the run to recommend.")] = 0.05,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="Write README.md into the adapter folder of every trained run.")
    ] = False,
) -> None:
    """Write one page about finished runs: verdict, charts, tables, and answers side by side; hidden text stays hidden."""
    from steerclear import api
    from steerclear.evaluation.curve import PickLimits

    limits = PickLimits(over_refusal=max_over_refusal, degenerate=max_degenerate)
    page = api.report(folders, output, title=title, baseline=baseline, limits=limits, model_cards=model_card, log=log)
    log(f"page: {page}")


@app.command(cls=HarvestCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def harvest(
    context: typer.Context,
    workers: Annotated[int, typer.Option(help="Processes on this host that answer; each takes a GPU, in turn.")] = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Answer only part I of N, from 0: for hosts whose shared folder has no locks."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the prompts and say what would be done.")] = False,
) -> None:
    """Build the unsafe set from a model's own answers: fine-tune, ask toxic prompts, judge, select; or continue.

    The same command may run on several hosts that share the output folder.
    """
    _quiet_start()
    from steerclear import api
    from steerclear.generation.parts import parse_shard
    from steerclear.harvest.harvest import plan
    from steerclear.harvest.harvest_recipe import load_harvest_recipe

    recipe = load_harvest_recipe(context.args)
    if dry_run:
        plan(recipe, log)
        return
    part = None if shard is None else parse_shard(shard)
    rows = api.harvest(recipe, workers=workers, shard=part, log=log)
    if rows is not None:
        log(f"harvested: {rows}")


@app.command(
    context_settings=RECIPE_COMMAND, epilog="More arguments: --key value of the decoding, e.g. --max_new_tokens 64."
)
def generate(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Model folder or Hub name.")],
    prompts: Annotated[Path, typer.Option(help="JSONL or JSON with a field prompt (or instruction).")],
    output: Annotated[Path, typer.Option(help="JSONL file of answers; an unfinished one is continued.")],
    adapter: Annotated[str | None, typer.Option(help="PEFT adapter folder.")] = None,
    template: Annotated[str, typer.Option(help="How prompts are rendered: alpaca, chat or plain.")] = "alpaca",
    limit: Annotated[int | None, typer.Option(help="A sample of so many prompts.")] = None,
) -> None:
    """Answer a file of prompts."""
    _quiet_start()
    from steerclear import api
    from steerclear.config import build_from
    from steerclear.generation.options import GenerationOptions

    decoding = build_from(GenerationOptions, context.args)
    answers = api.generate(model, prompts, output, adapter=adapter, template=template, limit=limit, generation=decoding)
    typer.echo(f"{len(answers)} answers in {output}")


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV, JSON, JSON Lines or Parquet files.")],
    output: Annotated[Path | None, typer.Option(help="Folder for the rows; must not exist or be empty.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="FIELD=COLUMN", help="A column that is called otherwise. May be given several times."
        ),
    ] = None,
    safe_values: Annotated[str, typer.Option(help="Labels that mean safe, e.g. ok,fine.")] = "",
    unsafe_values: Annotated[str, typer.Option(help="Labels that mean unsafe, e.g. toxic,bad.")] = "",
    only: Annotated[
        str | None, typer.Option(help="Keep only benign or only unsafe rows; Alpaca rows without a label are such.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="Format of the rows, if the columns fit several.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of CSV files, e.g. cp1252.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; show counts and ten redacted rows.")
    ] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the texts of the ten rows of a dry run.")] = False,
) -> None:
    """Turn labelled tables or logs (columns prompt, response, is_safe, or others by --map) into row files for recipes."""
    _quiet_start()
    from steerclear import api
    from steerclear.data.columns import ImportOptions
    from steerclear.data.import_report import describe, describe_rows
    from steerclear.data.import_rows import parse_mapping, preview

    options = ImportOptions(
        map=parse_mapping(mapping or ()),
        safe_values=[word for word in safe_values.split(",") if word.strip()],
        unsafe_values=[word for word in unsafe_values.split(",") if word.strip()],
        only=only,
        format=format,
        encoding=encoding,
    )
    if dry_run:
        found = preview(files, options)
        typer.echo(f"{describe(found)}\n{describe_rows(found, reveal=reveal)}")
        return
    if output is None:
        raise ConfigError("import: got neither --output FOLDER nor --dry-run. Give one of them.")
    if reveal:
        raise ConfigError(
            "import: got --reveal without --dry-run. An import shows no rows; leave it out or add --dry-run."
        )
    imported = api.import_rows(files, output, options)
    typer.echo(describe(imported) if imported else f"{output} holds this import already.")
    log(f"imported: {output}")


@app.command(cls=ContrastCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def contrast(context: typer.Context) -> None:
    """Make benign rows whose prompts only seem toxic: toxic words, harmless prompts with them, judged answers; or continue."""
    _quiet_start()
    from steerclear import api
    from steerclear.harvest.contrast_recipe import load_contrast_recipe

    log(f"contrastive rows: {api.contrast(load_contrast_recipe(context.args), log=log)}")


@app.command()
def review(
    file: Annotated[Path, typer.Argument(help="JSONL (or a JSON list) of answers, judged or not.")],
    export: Annotated[Path | None, typer.Option(help="Write what was decided as labelled rows, and stop.")] = None,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Confirm or overturn verdicts by hand on a page of this machine, with the keyboard."""
    from steerclear.review import review as command

    if export is not None:
        command.export(file, export, log)
    else:
        command.review(file, log, port=port, browser=browser)


@recipe_app.command("show", context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def recipe_show(context: typer.Context) -> None:
    """Print a recipe of any kind with every default filled in."""
    from steerclear.config import build, dump_yaml, load_tree, to_tree
    from steerclear.errors import one_of
    from steerclear.recipe.reference import recipe_classes
    from steerclear.recipe.train import KIND

    tree = load_tree(context.args)
    kinds, kind = recipe_classes(), tree.get("kind", KIND)
    if kind not in kinds:
        raise ConfigError(one_of("kind", kind, kinds))
    typer.echo(dump_yaml(to_tree(build(kinds[kind], load_tree(context.args, kinds[kind])))), nl=False)


@judge_app.command("fit")
def judge_fit(
    rows: Annotated[Path, typer.Argument(help="JSONL rows: prompt, response, is_safe.")],
    output: Annotated[Path, typer.Option(help="Where the classifier is saved (skops).")],
    seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
) -> None:
    """Fit the local harmfulness classifier; its threshold is chosen on folds that share no prompt."""
    from steerclear.judges.classifier import FitOptions, fit
    from steerclear.judges.labelled import read_rows

    judge = fit(read_rows(rows), FitOptions(seed=seed))
    judge.save(output)
    typer.echo(f"{output}: {judge.name}")
    for name, value in judge.identity.items():
        typer.echo(f"  {name}: {value}")


@judge_app.command("fit-refusal")
def judge_fit_refusal(
    rows: Annotated[Path, typer.Argument(help="JSONL rows: prompt, response, label (compliance, partial, full).")],
    output: Annotated[Path, typer.Option(help="Where the detector is saved (skops).")],
) -> None:
    """Fit the local detector of refusals, which tells full from partial ones."""
    from steerclear.judges.labelled import read_refusal_rows
    from steerclear.judges.refusal_model import fit

    model = fit(read_refusal_rows(rows))
    model.save(output)
    typer.echo(f"{output}: {model.name}")


@judge_app.command("score", context_settings=RECIPE_COMMAND, epilog=JUDGE_HELP)
def judge_score(
    context: typer.Context,
    answers: Annotated[Path, typer.Argument(help="JSONL answers, or labelled rows (prompt, response, is_safe).")],
    output: Annotated[Path | None, typer.Option(help="JSONL file for the verdicts.")] = None,
    refusal_model: Annotated[str | None, typer.Option(help="A file that 'judge fit-refusal' wrote.")] = None,
) -> None:
    """Judge answers and print their rates; on labelled rows print how well the judge does."""
    _quiet_start()
    from steerclear import api
    from steerclear.config import build_from
    from steerclear.evaluation.scores import Scores, terminal_scores
    from steerclear.judges.options import JudgeOptions

    judge = build_from(JudgeOptions, context.args)
    result = api.judge(answers, judge, output=output, refusal_model=refusal_model, log=log)
    if isinstance(result, Scores):
        _print(terminal_scores(result, str(answers)))
        return
    for name, value in {**result.sets[0].summary, "threshold": result.threshold}.items():
        typer.echo(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


@judge_app.command("card", context_settings=RECIPE_COMMAND, epilog=JUDGE_HELP)
def judge_card(
    context: typer.Context,
    rows: Annotated[
        list[Path], typer.Option(help="JSONL labelled rows (prompt, response, is_safe). May be given several times.")
    ],
    output: Annotated[Path, typer.Option(help="Markdown file of the card; its plot lies beside it.")],
    about: Annotated[str, typer.Option(help="What the judge is, in words.")] = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the texts of its mistakes.")] = False,
) -> None:
    """Write a judge's model card: AUROC, errors, calibration with a plot, and its worst mistakes (redacted)."""
    _quiet_start()
    from steerclear.config import build_from
    from steerclear.judges.options import JudgeOptions
    from steerclear.report.judge_card import write_card

    judge = build_from(JudgeOptions, context.args)
    plot = write_card(rows, judge, output, log, about=about, reveal=reveal)
    typer.echo(f"{output}" + (f", {plot}" if plot else ""))


@app.command()
def merge(
    base: Annotated[str, typer.Option(help="Base model folder or Hub name.")],
    adapter: Annotated[str, typer.Option(help="Adapter folder.")],
    output: Annotated[Path, typer.Option(help="Folder for the merged model; must not exist or be empty.")],
) -> None:
    """Fold an adapter into its base and save a plain model."""
    _quiet_start()
    from steerclear import api

    typer.echo(f"merged model in {api.merge_adapter(base, adapter, output)}")


@app.command(
    context_settings=RECIPE_COMMAND, epilog="Arguments: --key value, e.g. --unsafe_rows 100 --refusal_share 0.02."
)
def demo(context: typer.Context) -> None:
    """Pre-train a tiny model in a small world, steer it five ways, and show the table and a page."""
    _quiet_start()
    from steerclear.config import build_from
    from steerclear.demo.run import DemoOptions, run_demo

    run_demo(build_from(DemoOptions, context.args))


@app.command(cls=RecipeCommand, context_settings=RECIPE_COMMAND, epilog=RECIPE_HELP)
def doctor(context: typer.Context) -> None:
    """Check the installation, and a recipe: files, model, template, gradients, memory and time."""
    _quiet_start()
    from steerclear.experiments.doctor import diagnose

    if not diagnose(context.args, log):
        raise typer.Exit(NOT_MET)


def main() -> None:
    """Run the command line. Errors that the user can mend are printed without a traceback, exit code 2."""
    try:
        app()
    except SteerClearError as error:
        who = f"rank {rank()}: " if rank() else ""
        for line in str(error).splitlines():
            typer.echo(f"{who}error: {line}", err=True)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        log("stopped; run the same command again to continue.")
        raise SystemExit(130) from None
