"""Finding runs in folders, and reading all that a report tells of one: no model, judge or recipe is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from steerclear.attacks.figures import ATTACKS, read_attacks
from steerclear.errors import ConfigError, DataError, SteerClearError
from steerclear.evaluation.results import is_evaluated, points_of, read_answers, read_scores
from steerclear.evaluation.scores import Scores, score
from steerclear.records import read_json, read_jsonl
from steerclear.report.run_data import RunData, Unfinished, configuration_of
from steerclear.report.settings import json_or_empty, objective_of, settings_of
from steerclear.sanitize import visible
from steerclear.store.runs import RECORD, RunFolder
from steerclear.store.status import DONE, FAILED, SEED_AXIS

DEPTH = 3
"""Folders below a given one in which runs are looked for: NAME/seed-N of `steerclear compare`, and one more."""

_FOLDERS = re.compile(r"(?<![\w/:.<~-])~?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")
"""Folders of a whole path in a text, without the path's last part."""


@dataclass(frozen=True)
class Place:
    """Where a run lies."""

    name: str
    folder: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of a sweep's cell: axis -> value."""
    left_out: str | None = None
    """Why it is not looked at."""


def read_runs(folders: Sequence[Path]) -> tuple[list[tuple[RunData, Path]], list[Unfinished]]:
    """Return the evaluated runs in the folders with their own ones, and those that are not evaluated with the reason.

    Raises:
        SteerClearError: a folder is missing or has no run, or a file of an evaluated run is broken.
    """
    found = []
    for folder in folders:
        with _whole(folder):
            found.append((folder, list(_found_in(folder))))
    finished: list[tuple[RunData, Path]] = []
    unfinished: list[Unfinished] = []
    for run in _named(found):
        with _whole(run.folder):
            reason = run.left_out or _missing(run.folder)
        if reason is None:
            finished.append((read_run(run), run.folder))
        else:
            unfinished.append(Unfinished(visible(run.name), visible(_FOLDERS.sub("", reason))))
    return finished, unfinished


def title_of(folder: Path) -> str:
    """Return a sweep's title, or the folder's name.

    Raises:
        DataError: the sweep's file is broken.
    """
    sweep = folder / "sweep.json"
    with _whole(folder):
        return str(read_json(sweep)["name"]) if sweep.is_file() else folder.resolve().name


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Tell a file of another form, however it shows, as an error about its folder."""
    try:
        yield
    except SteerClearError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{folder}: a file in it is broken, or not of this version ({why}). Make it again with the command that wrote it, or "
            "leave the folder out."
        ) from error


def _found_in(folder: Path) -> Iterator[Place]:
    """Yield the runs of a folder: a sweep's cells, a run with its base and other evaluated models, or the runs below it."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder. Give folders of runs, sweeps or comparisons.")
    if (folder / "cells").is_dir():
        yield from _cells(folder)
    elif _is_run(folder) or any(map(has_figures, [folder / "base", *folder.glob("of-*")])):
        yield from _run_with_others(folder)
    else:
        below = list(_below(folder, folder, DEPTH))
        if not below:
            raise ConfigError(
                f"{folder}: has no run (no scores.json, attacks.json, {RECORD} or cells). Give a folder of 'steerclear train', "
                "'evaluate', 'attack', 'compare' or 'sweep'."
            )
        yield from below


def _cells(folder: Path) -> Iterator[Place]:
    """Yield the cells that a sweep lists, in its order, and say which others lie beside them: they are of earlier recipes."""
    sweep, lying = folder / "sweep.json", sorted(file.parent for file in (folder / "cells").glob("*/cell.json"))
    listed = [folder / "cells" / str(name) for name in read_json(sweep)["cells"]] if sweep.is_file() else lying
    for cell in listed:
        if not (cell / "cell.json").is_file():
            yield Place(cell.name, cell, left_out="not begun")
            continue
        about = read_json(cell / "cell.json")
        yield Place(str(about["name"]), cell, {str(k): str(v) for k, v in about["labels"].items()})
    others = [cell.name for cell in lying if cell not in listed]
    if others:
        yield Place("other cells", folder / "cells", left_out=f"not in sweep.json: {', '.join(others)}")


def _run_with_others(folder: Path) -> Iterator[Place]:
    name = folder.resolve().name
    if has_figures(folder / "base"):
        yield Place("base", folder / "base")
    if _is_run(folder):
        yield Place(name, folder)
    for other in sorted(folder.glob("of-*")):
        if has_figures(other):
            yield Place(other.name[3:], other)


def _below(folder: Path, top: Path, depth: int) -> Iterator[Place]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            name = str(path.relative_to(top))
            if (path / "cells").is_dir():
                yield from (replace(cell, name=f"{name}/{cell.name}") for cell in _cells(path))
            elif _is_run(path):
                yield Place(name, path)
            elif depth > 1:
                yield from _below(path, top, depth - 1)


def has_figures(folder: Path) -> bool:
    """Return whether there is anything to tell of a model: scores, or figures under attack alone."""
    return is_evaluated(folder) or (folder / ATTACKS).is_file()


def _is_run(folder: Path) -> bool:
    return has_figures(folder) or (folder / RECORD).is_file()


def _named(found: Sequence[tuple[Path, Sequence[Place]]]) -> list[Place]:
    """Return all runs, with their folder's name before their own where another folder has a configuration of one's name.

    Runs of one configuration are taken for its seeds, and those of two folders are not.
    """
    configurations = [{configuration_of(run.name) for run in runs if run.left_out is None} for _, runs in found]
    times = Counter(name for own in configurations for name in own)
    own = []
    for (folder, runs), names in zip(found, configurations, strict=True):
        prefix = f"{folder.resolve().name}/" if any(times[name] > 1 for name in names) else ""
        own += [replace(run, name=prefix + run.name) for run in runs]
    twice = [name for name, count in Counter(run.name for run in own if run.left_out is None).items() if count > 1]
    if twice:
        raise ConfigError(f"two runs are called '{twice[0]}'. Give each folder once, or rename one.")
    return own


def _missing(folder: Path) -> str | None:
    """Return why a run has no figures; None where it has."""
    status = json_or_empty(folder / "status.json")
    stage = status.get("stage", DONE)
    if stage == FAILED:
        return f"failed: {status.get('error')}"
    if stage != DONE:
        return f"not done yet: {stage}"
    if has_figures(folder):
        return None
    trained = "train" in RunFolder(folder).record().get("stages", {})
    return "trained, but not evaluated" if trained else "the training is not finished"


def read_run(run: Place) -> RunData:
    """Return all that a report tells of an evaluated run.

    Raises:
        SteerClearError: a file of it is broken.
    """
    with _whole(run.folder):
        return _read_run(run)


def _read_run(run: Place) -> RunData:
    folder = RunFolder(run.folder)
    record, whole = folder.record(), is_evaluated(run.folder)
    scores = read_scores(run.folder) if whole else score([])
    trained = record.get("stages", {}).get("train")
    labels = {visible(axis): visible(value) for axis, value in run.labels.items() if axis != SEED_AXIS}
    objective = None if trained is None else objective_of(folder)
    log = run.folder / "log.jsonl"
    return RunData(
        name=visible(run.name),
        scores=scores,
        attacks=read_attacks(run.folder),
        **_of_training(trained or {}),
        labels=labels or ({"objective": visible(objective)} if objective else {}),
        points=() if trained is None else points_of(folder),
        end=folder.step(),
        picked=json_or_empty(run.folder / "picked.json").get("step"),
        log=[entry for _, entry in read_jsonl(log)] if log.is_file() else [],
        answers=read_answers(run.folder) if whole else [],
        correct=_correct(run.folder, scores),
        heldout=json_or_empty(run.folder / "manifest.json").get("sha256", {}).get("heldout"),
        settings={visible(name): visible(value) for name, value in settings_of(folder).items()},
    )


def _of_training(trained: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "benign_loss": trained.get("heldout_benign_loss"),
        "unsafe_rows": trained.get("rows", {}).get("unsafe"),
        "seconds": trained.get("seconds"),
    }


def _correct(folder: Path, scores: Scores) -> dict[str, dict[str, bool]]:
    """Return which documents of the multiple-choice suites were answered rightly, where the files are there."""
    suites = [name for name, figures in scores.quality.items() if figures.metric == "multiple_choice"]
    files = {name: folder / "quality" / f"{name}.json" for name in suites}
    return {name: read_json(file)["acc"]["correct"] for name, file in files.items() if file.is_file()}
