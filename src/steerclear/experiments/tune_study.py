"""The trials of a search in an Optuna study on disk, shared by processes that may die at any moment.

A process holds the lock of the trial that it works on, and the system lets go of a dead process's locks: so a trial that is
under way without a lock is a dead process's, and is queued again, with its number and thus its folder, where it goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear.config import build
from steerclear.errors import StorageError, quiet
from steerclear.experiments.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    WAITING,
    Figures,
    Outcome,
    distributions,
    load_optuna,
    next_values,
    quiet_optuna,
)
from steerclear.recipe.tune import ProbeOptions, TuneRecipe, Values
from steerclear.store.locks import alone, try_lock

STUDY = "study.db"
"""SQLite file of the study, for Optuna's own tools: ``optuna-dashboard sqlite:///study.db``."""

NAME = "tune"
PATIENCE_S = 60
"""Seconds to wait while another process writes."""

TRIES = 3
"""How many processes may die over one trial before it counts as failed."""


@contextmanager
def open_study(recipe: TuneRecipe, folder: Path) -> Iterator[SharedStudy]:
    """Open the study in a folder, made if need be.

    Raises:
        ConfigError: Optuna is not installed.
        StorageError: the file is no study, or cannot be read or written.
    """
    load_optuna()
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    file = folder / STUDY
    storage: Any = None
    with quiet_optuna() as optuna:
        try:
            # A path in a URL could not have every character.
            connection = {"creator": lambda: sqlite3.connect(file, timeout=PATIENCE_S), "poolclass": NullPool}
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connection)
            study = optuna.create_study(
                study_name=NAME, storage=storage, load_if_exists=True, pruner=_pruner(optuna, recipe.probe)
            )
            yield SharedStudy(study, recipe, folder)
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
            raise StorageError(
                f"{file}: cannot be used ({str(error).splitlines()[0]}). Free some space if the disk is full; a file that is no "
                "study must be moved away, and the search then begins anew."
            ) from error
        finally:
            if storage is not None:
                storage.remove_session()
                storage.engine.dispose()


def _pruner(optuna: Any, probe: ProbeOptions | None) -> Any:
    if probe is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=probe.warmup_trials, n_warmup_steps=probe.warmup_steps)


class SharedStudy:
    """The trials. See the module."""

    def __init__(self, study: Any, recipe: TuneRecipe, folder: Path) -> None:
        self._study, self._recipe, self._folder = study, recipe, folder
        self._space = distributions(recipe)

    def outcomes(self) -> list[Outcome]:
        """Return all trials in order, each as its last try left it."""
        return [_outcome(number, trial) for number, trial in sorted(self._latest().items())]

    def retry(self) -> None:
        """Queue the trials that failed before, or whose process died, once more."""
        with self._alone():
            for number, trial in self._latest().items():
                if _state(trial) in (FAILED, RUNNING) and self._is_free(number):
                    if _state(trial) == RUNNING:
                        self._fail(trial)
                    self._enqueue(trial.user_attrs["values"], first=number)

    def take(self) -> TakenTrial | None:
        """Return the next trial to work on, to be ended by `TakenTrial.release`; None where there is none now."""
        with self._alone():
            for number, trial in self._latest().items():
                if _state(trial) == RUNNING and self._is_free(number):
                    self._fail(trial)
                    if trial.user_attrs["tries"] < TRIES:
                        self._enqueue(trial.user_attrs["values"], first=number, tries=trial.user_attrs["tries"] + 1)
            outcomes = self.outcomes()
            if not any(outcome.state == WAITING for outcome in outcomes):
                values = next_values(self._recipe, outcomes)
                if values is None:
                    return None
                self._enqueue(values)
            trial = self._study.ask(self._space)
            number = _number(trial)
            lock = try_lock(self._lock_file(number))
            assert lock is not None, "only a running trial's lock is held"
            return TakenTrial(trial, number, lock.release)

    def others_at_work(self) -> bool:
        """Return whether a trial is under way."""
        return any(outcome.state == RUNNING for outcome in self.outcomes())

    def _latest(self) -> dict[int, Any]:
        return {_number(trial): trial for trial in self._study.get_trials(deepcopy=False)}

    def _enqueue(self, values: Values, first: int | None = None, tries: int = 1) -> None:
        again = {} if first is None else {"first": first}
        self._study.enqueue_trial(values, user_attrs={"values": values, "tries": tries, **again})

    def _is_free(self, number: int) -> bool:
        lock = try_lock(self._lock_file(number))
        if lock is None:
            return False
        lock.release()
        return True

    def _fail(self, trial: Any) -> None:
        self._study.tell(trial.number, state=load_optuna().trial.TrialState.FAIL)

    def _alone(self) -> Any:
        return alone(self._folder / "locks", quiet)

    def _lock_file(self, number: int) -> Path:
        return self._folder / "locks" / f"{number:04d}.lock"


class TakenTrial:
    """A trial that this process works on; it ends as complete, pruned or failed, or is left for another try."""

    def __init__(self, trial: Any, number: int, release: Callable[[], None]) -> None:
        self._trial, self.number, self.release = trial, number, release
        self.values: Values = trial.user_attrs["values"]

    def is_worse_than_median(self, value: float, step: int) -> bool:
        """Report what a probe saw, and return whether this trial's best so far is above the median of the finished ones."""
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def complete(self, figures: Figures, **more: Any) -> None:
        """End it with its figures; ``more`` are other fields of its `Outcome`."""
        self._keep(figures=asdict(figures), **more)
        self._trial.study.tell(self._trial, figures.harmful.rate)

    def prune(self, figures: Figures, **more: Any) -> None:
        """End it with those of its last probe."""
        self._keep(figures=asdict(figures), **more)
        self._trial.study.tell(self._trial, state=load_optuna().trial.TrialState.PRUNED)

    def fail(self, **more: Any) -> None:
        """End it without figures."""
        self._keep(**more)
        self._trial.study.tell(self._trial, state=load_optuna().trial.TrialState.FAIL)

    def _keep(self, **fields: Any) -> None:
        for name, value in fields.items():
            self._trial.set_user_attr(name, value)


def _number(trial: Any) -> int:
    return int(trial.user_attrs.get("first", trial.number))


def _state(trial: Any) -> str:
    names = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": RUNNING, "WAITING": WAITING}
    return names[trial.state.name]


def _outcome(number: int, trial: Any) -> Outcome:
    kept, state = trial.user_attrs, _state(trial)
    died = f"its process died, {kept['tries']} times" if state == FAILED else ""
    return Outcome(
        number=number,
        values=kept["values"],
        state=state,
        # Written before the state is, so a process may have died between the two.
        figures=build(Figures, kept["figures"]) if state in (COMPLETE, PRUNED) else None,
        reason=kept.get("reason", died),
        **{name: kept.get(name) for name in ("seconds", "step", "reported", "same_as")},
    )
