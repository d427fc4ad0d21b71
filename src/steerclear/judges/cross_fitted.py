"""A judge that never rules on a prompt that it was fitted on: one classifier a fold, each fitted without that fold's prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.classifier import ClassifierJudge, FitOptions, fit
from steerclear.judges.labelled import LabelledRow, rows_hash
from steerclear.records import sha256_of


class CrossFittedJudge:
    """Classifiers, and which of them rules on which prompt. Make one with `fit_cross`.

    An answer is scored, and flagged by the threshold, of the classifier that was fitted without the prompt's group. A group that
    no classifier was fitted on has one too, chosen by the hash of its name as for all others, so that all answers meet judges of
    the same strength; the mean of all would be a stronger judge for some prompts than for others.

    Args:
        classifiers: one for each fold; each was fitted without the groups of its fold (see `fold_of`).
        groups: prompt -> the name of its group.
    """

    batch_size = ClassifierJudge.batch_size

    def __init__(self, classifiers: Sequence[ClassifierJudge], groups: Mapping[str, str]) -> None:
        self.classifiers = list(classifiers)
        self.groups = dict(groups)
        identity = [[judge.identity for judge in self.classifiers], self.groups]
        self.name = f"cross-fitted-{sha256_of(identity)[:8]}"

    def fold(self, prompt: str) -> int:
        """Return which classifier rules on a prompt.

        Raises:
            DataError: the prompt was not grouped, so nobody knows who was fitted on it.
        """
        if prompt not in self.groups:
            raise DataError(
                "cross-fitted judge: got a prompt that was not among those grouped before the fit. Group all prompts that are to "
                "be judged, together with those of the judge's rows, and fit again."
            )
        return fold_of(self.groups[prompt], len(self.classifiers))

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        """Return one score in (0, 1) for each answer, higher is worse.

        Raises:
            DataError: a prompt was not grouped.
        """
        folds = [self.fold(prompt) for prompt in prompts]
        scores: dict[int, HarmScore | Unscored] = {}
        for fold in sorted(set(folds)):
            places = [place for place, own in enumerate(folds) if own == fold]
            found = self.classifiers[fold].score([prompts[p] for p in places], [responses[p] for p in places])
            scores.update(zip(places, found, strict=True))
        return [scores[place] for place in range(len(prompts))]


def fold_of(group: str, folds: int) -> int:
    """Return a group's fold by the hash of its name: it does not change when other groups come or go."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") % folds


def fit_cross(
    rows: Sequence[LabelledRow],
    groups: Mapping[str, str],
    *,
    folds: int = 5,
    options: FitOptions | None = None,
    folder: Path | None = None,
) -> CrossFittedJudge:
    """Fit one classifier for each fold of prompt groups, on the rows of all other folds.

    Args:
        rows: labelled rows.
        groups: prompt -> name of its group, for the prompts of the rows and for all that are to be judged. Prompts that say the
            same belong to one group, as `steerclear.data.near_duplicates.group_near` puts them.
        folds: number of classifiers, 2 or more.
        options: how each is fitted, and how its own threshold is set.
        folder: where each is kept as soon as it is fitted. A file there is used again if it was fitted on the very same rows with
            the same options; any other is replaced. None: they are not kept.

    Raises:
        ConfigError: fewer than 2 folds.
        DataError: a row's prompt has no group, or the rows without a fold are too few to fit on.
        StorageError: a classifier cannot be written.
    """
    options = options or FitOptions()
    if folds < 2:
        raise ConfigError(f"folds: got {folds}, allowed: 2 or more.")
    missing = sum(row.prompt not in groups for row in rows)
    if missing:
        raise DataError(
            f"judge rows: {missing} of {len(rows)} have a prompt without a group. Group the rows' prompts too."
        )
    own = [fold_of(groups[row.prompt], folds) for row in rows]
    classifiers = []
    for fold in range(folds):
        others = [row for row, left_out in zip(rows, own, strict=True) if left_out != fold]
        path = None if folder is None else folder / f"fold-{fold + 1}-of-{folds}.skops"
        classifiers.append(_fitted(others, options, path))
    return CrossFittedJudge(classifiers, groups)


def _fitted(rows: Sequence[LabelledRow], options: FitOptions, path: Path | None) -> ClassifierJudge:
    if path is None:
        return fit(rows, options)
    try:
        kept = ClassifierJudge.load(path)
        if (kept.identity["rows_sha256"], kept.identity["options"]) == (rows_hash(rows), asdict(options)):
            return kept
    except ModelError:
        pass  # missing, damaged or of another version: it is fitted anew
    judge = fit(rows, options)
    judge.save(path)
    return judge
