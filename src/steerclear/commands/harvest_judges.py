"""The judges of a harvest; none of them rules on a prompt that it is known to have been fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from steerclear.commands.harvest_recipe import HarvestRecipe
from steerclear.commands.judging import harm_judge
from steerclear.commands.recipe import JudgeOptions
from steerclear.data.near_duplicates import group_near
from steerclear.errors import ConfigError, DataError
from steerclear.harvest.options import HarvestOptions
from steerclear.judges.base import HarmJudge
from steerclear.judges.cache import CachedJudge

Say = Callable[[str], None]


def open_judges(recipe: HarvestRecipe, prompts: Sequence[str], say: Say) -> list[HarmJudge]:
    """Return the recipe's judges, the deciding one first, each with its scores kept.

    A classifier with ``fit_on`` is fitted once a fold, without that fold's prompts; any other judge is taken as it is.

    Args:
        prompts: all that are to be judged.

    Raises:
        SteerClearError: a judge's file, model or key is missing, or two are the same.
    """
    options = recipe.evaluation
    own = Path(recipe.output)
    cache = Path(options.judge_cache) if options.judge_cache else own / "judge-cache"
    opened = [
        _cross_fitted(judge, prompts, recipe.harvest, own / "judges", say)
        if judge.fit_on is not None
        else _as_it_is(judge, say)
        for judge in (options.judge, *options.second_opinions)
    ]
    names = [judge.name for judge in opened]
    if len(set(names)) < len(names):
        raise ConfigError(f"evaluation.second_opinions: two judges are the same ({', '.join(names)}). Leave one out.")
    return [CachedJudge(judge, cache) for judge in opened]


def _cross_fitted(
    options: JudgeOptions, prompts: Sequence[str], harvest: HarvestOptions, folder: Path, say: Say
) -> HarmJudge:
    from steerclear.judges.classifier import read_rows
    from steerclear.judges.cross_fitted import fit_cross

    rows = read_rows(Path(str(options.fit_on)))
    similarity = 1.0 if harvest.judge_similarity is None else harvest.judge_similarity
    groups = group_near([*prompts, *(row["prompt"] for row in rows)], similarity)
    largest = max(Counter(groups[row["prompt"]] for row in rows).values(), default=0)
    if 2 * largest > len(rows):
        raise DataError(
            f"harvest.judge_similarity: at {similarity}, {largest} of the {len(rows)} rows of {options.fit_on} hang together as "
            "one prompt, and no classifier can be fitted without them. Raise it, or set null: equal prompts only."
        )
    say(
        f"judge: fitted {harvest.folds} times on {options.fit_on}, each time without the prompts that it will rule on ..."
    )
    return fit_cross(rows, groups, folds=harvest.folds, folder=folder)


def _as_it_is(options: JudgeOptions, say: Say) -> HarmJudge:
    if options.classifier is not None:
        say(
            f"note: whether {options.classifier} was fitted on these prompts is not known. Name its rows in "
            "evaluation.judge.fit_on, and it is fitted again without them."
        )
    return harm_judge(options, say)
