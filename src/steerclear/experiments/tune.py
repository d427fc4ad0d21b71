"""`steerclear tune`: find λ, and what else a recipe names, by trials; the result is a recipe. Resumable at any moment.

Every trial is a run folder in ``trials``. What came of all of them is in ``study.db``, ``trials.csv`` and ``tune.md``; the best
one's recipe is ``best.yaml``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steerclear.config import build, check_kind, dump_yaml, identity_tree, load_tree, raise_all, to_tree
from steerclear.data.prepare import PreparedData
from steerclear.errors import ConfigError, Log, ModelError
from steerclear.experiments.run import Run
from steerclear.experiments.trials import COMPLETE, FAILED, PRUNED, Outcome, choose, load_optuna
from steerclear.experiments.tune_report import best_yaml, outcome_line, start_line, trials_csv, tune_markdown
from steerclear.experiments.tune_study import SharedStudy, open_study
from steerclear.experiments.tune_trial import of_the_recipe, probe_recipe, run_trial, trial_recipe
from steerclear.generation.weights import load_tokenizer
from steerclear.recipe.train import Recipe
from steerclear.recipe.tune import KIND, TuneRecipe
from steerclear.records import KIND as KIND_OF_PROMPT
from steerclear.records import Prompt, write_text
from steerclear.store.executor import worker_number, workers
from steerclear.store.runs import RunFolder
from steerclear.training.defaults import training_arguments
from steerclear.training.ranks import launched_processes
from steerclear.training.train import check_training, identity_of

ALGORITHM = 1
"""Raised when a change of this code changes what the same recipe finds."""

FAILED_IN_A_ROW = 3
"""So many trials that fail one after the other end the search: what they have in common must be mended first."""

POLL_S = 1.0
"""Seconds between two looks at what other processes do."""


@dataclass(frozen=True)
class Tuned:
    """What came of a search."""

    outcomes: list[Outcome]
    best: Outcome | None
    """None: no trial is within the limits."""
    nearest: Outcome | None
    """The one that is the least above them; the best, if there is one. None: no trial was finished."""
    recipe: Path | None
    """The best one's, for `steerclear train`."""


def load_tune_recipe(arguments: Sequence[str]) -> TuneRecipe:
    """Read ``[RECIPE.yaml] [--key value ...]`` as it stands on a command line.

    Raises:
        ConfigError: everything that is wrong with it, together.
    """
    tree = load_tree(arguments, TuneRecipe)
    check_kind(tree, KIND)
    return build(TuneRecipe, tree)


def tune(recipe: TuneRecipe, log: Log, *, count: int = 1) -> Tuned | None:
    """Search as the recipe says, or continue.

    Args:
        log: gets one line about each trial.
        count: how many processes work on trials.

    Returns:
        None in a worker, which only works on trials.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds another search, its file cannot be written, or several trials
            failed one after the other.
    """
    folder = Path(recipe.output)
    if worker_number() is not None:  # the command that started it has done what comes before
        with open_study(recipe, folder) as study:
            _work(recipe, study, log, lambda: None)
        return None
    plan(recipe, log, prepare=True, count=count)
    with open_study(recipe, folder) as study:
        news = _News(recipe, study, folder, log)
        study.retry()
        with workers(
            ["tune", str(folder / "config.yaml")], count, folder / "workers", log, counted_in=False
        ) as others_at_work:
            while others_at_work():
                news.tell()
                time.sleep(POLL_S)
        _work(recipe, study, log, news.tell)  # all of it, or what workers that ended early left
        return _results(recipe, study.outcomes(), folder)


def plan(recipe: TuneRecipe, log: Log, *, prepare: bool = False, count: int = 1) -> None:
    """Find what is wrong with a recipe before the first trial, and say what would be done.

    Args:
        prepare: also fit judges that are fitted on first use, and claim the folder.
        count: how many processes are to work on trials.

    Raises:
        SteerClearError: bad recipe, data or model, or the folder holds another search.
    """
    load_optuna()
    if launched_processes() > 1:
        raise ConfigError(f"tune: a trial trains in one process, and there are {launched_processes()}. Use --workers.")
    folder = Path(recipe.output)
    recipes = [trial_recipe(recipe, values, folder / "trials") for values in recipe.corners()]
    first = recipes[0]
    at_work = Run(first, log)
    prompts = at_work.prompts
    with of_the_recipe():
        for one in recipes:
            training_arguments(one.setup)
            Run(one).check_recovery()
        at_work.check()
        _check_measured(recipe, first, prompts, count)
        different = [one for place, one in enumerate(recipes) if one.data not in [r.data for r in recipes[:place]]]
        rows = [check_training(one.setup, prompts)[0] for one in different]
        load_tokenizer(first.model.path)
    _check_probe(recipe, first)
    for message in rows[0].messages:
        log(message)
    log(f"{recipe.budget} trials by method {recipe.method} of {', '.join(recipe.search)}, in {folder}")
    if prepare:
        _ = at_work.judges  # fitted now, where they are fitted on first use
        RunFolder(folder).claim(_identity(recipe, first, rows), dump_yaml(to_tree(recipe)))


def _check_measured(recipe: TuneRecipe, first: Recipe, prompts: Sequence[Prompt], count: int) -> None:
    evaluation, lacking = first.evaluation, _lacking_kinds(recipe, prompts)
    checks = [
        (bool(evaluation.judge.kinds()), "evaluation.judge: is missing; a judge tells which answers are harmful."),
        (
            "harmful" not in lacking,
            "evaluation.suites: have no two harmful prompts; the rate of harmful answers is what is searched for.",
        ),
        (
            "benign" not in lacking,
            "evaluation.suites: have no two benign prompts for limits.over_refusal. Add some, such as {card: xstest}, or set "
            "it to null.",
        ),
        (
            recipe.limits.benign_loss is None or first.data.heldout_count > 0,
            "data.heldout_count: got 0, but limits.benign_loss is measured on held-out rows. Raise it, or set the limit to null.",
        ),
        (
            recipe.probe is None or evaluation.every_steps is None,
            "evaluation.every_steps: is probe.every_steps here; leave it out.",
        ),
        (
            count == 1 or evaluation.judge_cache is None,
            f"evaluation.judge_cache: got a folder with {count} workers, which must not write to it at the same time. Leave it "
            "out, and each trial has its own; or run without --workers.",
        ),
    ]
    wrong = [message for right, message in checks if not right]
    raise_all(wrong)


def _check_probe(recipe: TuneRecipe, first: Recipe) -> None:
    """Find a probe that has no rate of what is searched for or limited."""
    if recipe.probe is None:
        return
    lacking = _lacking_kinds(recipe, Run(probe_recipe(first, recipe.probe)).prompts)
    if lacking:
        raise ConfigError(
            f"probe.prompts: got {recipe.probe.prompts} of each suite, among which are no two {' and no two '.join(lacking)} "
            "prompts (suites with prefilled openings are left out). Raise it, or set probe to null."
        )


def _lacking_kinds(recipe: TuneRecipe, prompts: Sequence[Prompt]) -> list[str]:
    """Return the kinds of which there are too few prompts for a rate that is needed."""
    kinds = [prompt.tags.get(KIND_OF_PROMPT) for prompt in prompts]
    needed = ["harmful"] if recipe.limits.over_refusal is None else ["harmful", "benign"]
    return [kind for kind in needed if kinds.count(kind) < 2]


def _identity(recipe: TuneRecipe, first: Recipe, rows: Sequence[PreparedData]) -> dict[str, Any]:
    """Return what the trials depend on. Limits and the number of trials may change between two calls."""
    return {
        "algorithm": ALGORITHM,
        "data": [one.manifest["sha256"] for one in rows],
        "recipe": identity_of(first.setup, rows[0]) | {"recovery": first.recovery and to_tree(first.recovery)},
        "evaluation": identity_tree(replace(first.evaluation, judge_cache=None)),
        **Run(first).fingerprint(),
        "search": {key: to_tree(options) for key, options in recipe.space.items()},
        "method": recipe.method,
        "seed": recipe.seed,
        "startup_trials": recipe.startup_trials,
        "probe": recipe.probe and to_tree(recipe.probe),
    }


def _work(recipe: TuneRecipe, study: SharedStudy, log: Log, after_each: Callable[[], None]) -> None:
    """Work on trials until there are none left, here or elsewhere."""
    failures: list[str] = []
    while True:
        taken = study.take()
        if taken is None:
            after_each()
            if not study.others_at_work():
                return
            time.sleep(POLL_S)
            continue
        log(start_line(taken.number, taken.values))
        try:
            failure = run_trial(recipe, taken, study.outcomes(), log)
        finally:
            taken.release()
        after_each()
        failures = [*failures, failure] if failure else []
        if len(failures) == FAILED_IN_A_ROW:
            raise ModelError(
                f"{FAILED_IN_A_ROW} trials failed one after the other, the last one: {failures[-1]}\nMend what is wrong, then "
                "run the same command again: it tries these once more, and keeps what is finished."
            )


class _News:
    """Tells of each trial that was finished since the last look, and keeps the tables up to date."""

    def __init__(self, recipe: TuneRecipe, study: SharedStudy, folder: Path, log: Log) -> None:
        self._recipe, self._study, self._folder, self._log = recipe, study, folder, log
        self._told = {outcome.number for outcome in study.outcomes() if outcome.state in (COMPLETE, PRUNED)}

    def tell(self) -> None:
        outcomes = self._study.outcomes()
        new = [o for o in outcomes if o.state in (COMPLETE, PRUNED, FAILED) and o.number not in self._told]
        for outcome in new:
            self._log(outcome_line(outcome, outcomes, self._recipe))
        self._told |= {outcome.number for outcome in new}
        if new:
            _write_tables(self._recipe, outcomes, self._folder)


def _write_tables(recipe: TuneRecipe, outcomes: Sequence[Outcome], folder: Path) -> None:
    write_text(folder / "trials.csv", trials_csv(recipe, outcomes))
    write_text(folder / "tune.md", tune_markdown(recipe, outcomes))


def _results(recipe: TuneRecipe, outcomes: list[Outcome], folder: Path) -> Tuned:
    _write_tables(recipe, outcomes, folder)
    best, nearest = choose(outcomes, recipe.limits)
    file = folder / "best.yaml"
    if best is None:
        file.unlink(missing_ok=True)  # of other limits
        return Tuned(outcomes, None, nearest, None)
    write_text(file, best_yaml(recipe, best, outcomes))
    return Tuned(outcomes, best, nearest, file)
