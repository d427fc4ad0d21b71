"""The judges of a harvest; none of them rules on a prompt that it is known to have been fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.commands.harvest_recipe import HarvestRecipe
from steerclear.commands.judging import harm_judge
from steerclear.commands.recipe import JudgeOptions
from steerclear.data.near_duplicates import group_near
from steerclear.errors import ConfigError, DataError
from steerclear.judges.base import HarmJudge
from steerclear.judges.cache import CachedJudge

Say = Callable[[str], None]


@dataclass(frozen=True)
class CrossFit:
    """A classifier that is to be fitted once a fold."""

    rows: list[dict[str, Any]]
    groups: dict[str, str]
    """Prompt -> name of the group of those that count as one, for the rows' prompts and those that are to be judged."""


def read_judges(recipe: HarvestRecipe, prompts: Sequence[str], say: Say) -> list[JudgeOptions | CrossFit]:
    """Read what the judges need, the deciding one first, so that what is wrong with it shows before anything is asked.

    A classifier with ``fit_on`` is fitted once a fold, without that fold's prompts; any other judge is taken as it is.

    Args:
        prompts: all that are to be judged.

    Raises:
        SteerClearError: rows or a classifier are missing, or no classifier could be fitted without the prompts it rules on.
    """
    read: list[JudgeOptions | CrossFit] = []
    for options in (recipe.evaluation.judge, *recipe.evaluation.second_opinions):
        if options.fit_on is not None:
            read.append(_cross_fit(options, prompts, recipe.harvest.judge_similarity))
            continue
        if options.classifier is not None:
            harm_judge(options, say)
            say(
                f"note: whether {options.classifier} was fitted on these prompts is not known. Name its rows in "
                "evaluation.judge.fit_on, and it is fitted again without them."
            )
        read.append(options)
    return read


def _cross_fit(options: JudgeOptions, prompts: Sequence[str], similarity: float | None) -> CrossFit:
    from steerclear.judges.classifier import read_rows

    rows = read_rows(Path(str(options.fit_on)))
    groups = group_near([*prompts, *(row["prompt"] for row in rows)], 1.0 if similarity is None else similarity)
    largest = max(Counter(groups[row["prompt"]] for row in rows).values(), default=0)
    if 2 * largest > len(rows):
        raise DataError(
            f"harvest.judge_similarity: at {similarity}, {largest} of the {len(rows)} rows of {options.fit_on} hang together as "
            "one prompt, and no classifier can be fitted without them. Raise it, or set null: equal prompts only."
        )
    return CrossFit(rows, groups)


def open_judges(recipe: HarvestRecipe, read: Sequence[JudgeOptions | CrossFit], say: Say) -> list[HarmJudge]:
    """Return the judges in their order, each with its scores kept.

    Raises:
        SteerClearError: a judge's model or key is missing, or two are the same.
    """
    own = Path(recipe.output)
    cache = Path(recipe.evaluation.judge_cache) if recipe.evaluation.judge_cache else own / "judge-cache"
    opened = [_opened(judge, recipe.harvest.folds, own / "judges" / str(n), say) for n, judge in enumerate(read, 1)]
    names = [judge.name for judge in opened]
    if len(set(names)) < len(names):
        raise ConfigError(f"evaluation.second_opinions: two judges are the same ({', '.join(names)}). Leave one out.")
    return [CachedJudge(judge, cache) for judge in opened]


def _opened(judge: JudgeOptions | CrossFit, folds: int, folder: Path, say: Say) -> HarmJudge:
    if isinstance(judge, JudgeOptions):
        return harm_judge(judge, say)
    from steerclear.judges.cross_fitted import fit_cross

    say(
        f"judge: fitted {folds} times on {len(judge.rows)} rows, each time without the prompts that it will rule on ..."
    )
    return fit_cross(judge.rows, judge.groups, folds=folds, folder=folder)
