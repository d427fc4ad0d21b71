"""The judges of a harvest; none of them rules on a prompt that it is known to have been fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from steerclear.data.near_duplicates import group_near
from steerclear.errors import ConfigError, DataError, Log
from steerclear.harvest.harvest_recipe import HarvestRecipe
from steerclear.harvest.options import HarvestOptions
from steerclear.judges.base import HarmJudge
from steerclear.judges.cache import CachedJudge
from steerclear.judges.opening import harm_judge
from steerclear.judges.options import JudgeOptions

Opener = Callable[[], HarmJudge]
"""Opens a judge: loads or fits it."""


def read_judges(recipe: HarvestRecipe, prompts: Sequence[str], log: Log) -> list[Opener]:
    """Read what the judges need, the deciding one first, so that what is wrong with it shows before anything is asked.

    A classifier with ``fit_on`` is fitted once a fold, without that fold's prompts; any other judge is taken as it is.

    Args:
        prompts: all that are to be judged.

    Raises:
        SteerClearError: rows or a classifier are missing, or no classifier could be fitted without the prompts it rules on.
    """
    folder = Path(recipe.output) / "judges"
    options = (recipe.evaluation.judge, *recipe.evaluation.second_opinions)
    return [_opener(judge, prompts, recipe.harvest, folder / str(n), log) for n, judge in enumerate(options, 1)]


def _opener(options: JudgeOptions, prompts: Sequence[str], harvest: HarvestOptions, folder: Path, log: Log) -> Opener:
    if options.fit_on is not None:
        return _cross_fitted(options.fit_on, prompts, harvest, folder, log)
    if options.classifier is None:
        return lambda: harm_judge(options, log)
    judge = harm_judge(options, log)
    log(
        f"note: whether {options.classifier} was fitted on these prompts is not known. Name its rows in "
        "evaluation.judge.fit_on, and it is fitted again without them."
    )
    return lambda: judge


def _cross_fitted(fit_on: str, prompts: Sequence[str], harvest: HarvestOptions, folder: Path, log: Log) -> Opener:
    from steerclear.judges.cross_fitted import fit_cross
    from steerclear.judges.labelled import read_rows

    rows, similarity = read_rows(Path(fit_on)), harvest.judge_similarity
    groups = group_near([*prompts, *(row.prompt for row in rows)], 1.0 if similarity is None else similarity)
    largest = max(Counter(groups[row.prompt] for row in rows).values(), default=0)
    if 2 * largest > len(rows):
        raise DataError(
            f"harvest.judge_similarity: at {similarity}, {largest} of the {len(rows)} rows of {fit_on} hang together as "
            "one prompt, and no classifier can be fitted without them. Raise it, or set null: equal prompts only."
        )

    def fit() -> HarmJudge:
        log(
            f"judge: fitted {harvest.folds} times on {len(rows)} rows, each time without the prompts that it will rule on ..."
        )
        return fit_cross(rows, groups, folds=harvest.folds, folder=folder)

    return fit


def opened_judges(recipe: HarvestRecipe, openers: Sequence[Opener]) -> list[HarmJudge]:
    """Return the judges in their order, each with its scores kept.

    Raises:
        SteerClearError: a judge's model or key is missing, or two are the same.
    """
    opened = [opener() for opener in openers]
    names = [judge.name for judge in opened]
    if len(set(names)) < len(names):
        raise ConfigError(f"evaluation.second_opinions: two judges are the same ({', '.join(names)}). Leave one out.")
    cache = recipe.evaluation.cache(Path(recipe.output))
    return [CachedJudge(judge, cache) for judge in opened]
