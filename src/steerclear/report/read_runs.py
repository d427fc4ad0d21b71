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

from steerclear.errors import ConfigError, DataError, SteerClearError
from steerclear.evaluation.results import (
    finished_run,
    has_figures,
    is_evaluated,
    points_of,
    read_answers,
    read_json,
    read_scores,
)
from steerclear.evaluation.scores import Scores, score
from steerclear.experiments.cell_status import DONE, FAILED
from steerclear.recipe.sweep import SEED, SEED_AXIS
from steerclear.records import read_jsonl
from steerclear.report.attacks import attack_rows
from steerclear.report.comparison import extra_columns
from steerclear.report.opinions import opinion_rows
from steerclear.report.quality import quality_rows
from steerclear.report.run_data import RunData, Unfinished
from steerclear.report.run_settings import objective_of, settings_of
from steerclear.sanitize import visible
from steerclear.store.runs import RECORD, RunFolder

DEPTH = 3
"""Folders below a given one in which runs are looked for: NAME/seed-N of `steerclear compare`, and one more."""

_FOLDERS = re.compile(r"(?<![\w/:.<~-])~?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")
"""Folders of a whole path in a text, without the path's last part."""


@dataclass(frozen=True)
class Found:
    """A run's place."""

    name: str
    folder: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of a sweep's cell."""
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
                finished.append((_run_data(run), run.folder))
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


def _found_in(folder: Path) -> Iterator[Found]:
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


def _cells(folder: Path) -> Iterator[Found]:
    """Yield the cells that a sweep lists, in its order, and say which others lie beside them: they are of earlier recipes."""
    sweep, lying = folder / "sweep.json", sorted(file.parent for file in (folder / "cells").glob("*/cell.json"))
    listed = [folder / "cells" / str(name) for name in read_json(sweep)["cells"]] if sweep.is_file() else lying
    for cell in listed:
        if not (cell / "cell.json").is_file():
            yield Found(cell.name, cell, left_out="not begun")
            continue
        about = read_json(cell / "cell.json")
        yield Found(str(about["name"]), cell, {str(k): str(v) for k, v in about["labels"].items()})
    others = [cell.name for cell in lying if cell not in listed]
    if others:
        yield Found("other cells", folder / "cells", left_out=f"not in sweep.json: {', '.join(others)}")


def _run_with_others(folder: Path) -> Iterator[Found]:
    name = folder.resolve().name
    if has_figures(folder / "base"):
        yield Found("base", folder / "base")
    if _is_run(folder):
        yield Found(name, folder)
    for other in sorted(folder.glob("of-*")):
        if has_figures(other):
            yield Found(other.name[3:], other)


def _below(folder: Path, top: Path, depth: int) -> Iterator[Found]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            name = str(path.relative_to(top))
            if (path / "cells").is_dir():
                yield from (replace(cell, name=f"{name}/{cell.name}") for cell in _cells(path))
            elif _is_run(path):
                yield Found(name, path)
            elif depth > 1:
                yield from _below(path, top, depth - 1)


def _is_run(folder: Path) -> bool:
    return has_figures(folder) or (folder / RECORD).is_file()


def _named(found: Sequence[tuple[Path, Sequence[Found]]]) -> list[Found]:
    """Return all runs, with their folder's name before their own where another folder has a configuration of one's name.

    Runs of one configuration are taken for its seeds, and those of two folders are not.
    """
    configurations = [{_configuration(run)[0] for run in runs if run.left_out is None} for _, runs in found]
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
    status = read_json(folder / "status.json") if (folder / "status.json").is_file() else {}
    stage = status.get("stage", DONE)
    if stage == FAILED:
        return f"failed: {status.get('error')}"
    if stage != DONE:
        return f"not done yet: {stage}"
    if has_figures(folder):
        return None
    trained = "train" in RunFolder(folder).record().get("stages", {})
    return "trained, but not evaluated" if trained else "the training is not finished"


def _run_data(run: Found) -> RunData:
    folder = RunFolder(run.folder)
    record, whole = folder.record(), is_evaluated(run.folder)
    scores = read_scores(run.folder) if whole else score([])
    trained = "train" in record.get("stages", {})
    figures = finished_run(visible(run.name), run.folder, scores)
    for told in (extra_columns, quality_rows, opinion_rows, attack_rows):
        told([figures])  # figures of another form are found here, where their folder is known
    configuration, seed = _configuration(run)
    labels = {visible(axis): visible(value) for axis, value in run.labels.items() if axis != SEED_AXIS}
    objective = objective_of(folder) if trained else None
    return RunData(
        figures=figures,
        configuration=visible(configuration),
        seed=seed,
        labels=labels or ({"objective": visible(objective)} if objective else {}),
        points=points_of(folder) if trained else (),
        end=folder.step(),
        picked=_picked(run.folder),
        log=[entry for _, entry in _log(run.folder)],
        answers=read_answers(run.folder) if whole else [],
        correct=_correct(run.folder, scores),
        heldout=_heldout(run.folder),
        settings={visible(name): visible(value) for name, value in settings_of(folder).items()},
    )


def _configuration(run: Found) -> tuple[str, int | None]:
    """Return a run's name without its seed, and the seed."""
    configuration, is_seeded, seed = run.name.rpartition(SEED)
    return (configuration, int(seed)) if is_seeded and seed.isdecimal() else (run.name, None)


def _picked(folder: Path) -> int | None:
    file = folder / "picked.json"
    return read_json(file).get("step") if file.is_file() else None


def _heldout(folder: Path) -> str | None:
    file = folder / "manifest.json"
    return read_json(file)["sha256"].get("heldout") if file.is_file() else None


def _log(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    file = folder / "log.jsonl"
    return read_jsonl(file) if file.is_file() else iter(())


def _correct(folder: Path, scores: Scores) -> dict[str, dict[str, bool]]:
    """Return which documents of the multiple-choice suites were answered rightly, where the files are there."""
    suites = [name for name, figures in scores.quality.items() if figures.metric == "multiple_choice"]
    files = {name: folder / "quality" / f"{name}.json" for name in suites}
    return {name: read_json(file)["acc"]["correct"] for name, file in files.items() if file.is_file()}
