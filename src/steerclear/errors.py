"""What the user is told: errors that say what is wrong, what was got, what is allowed and what to do; and lines of progress."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

Log = Callable[[str], None]
"""Takes one line for the user. It holds nothing of a row's text."""


def quiet(_: str) -> None:
    """Take a line and show it to nobody."""


class SteerClearError(ValueError):
    """Base of every error that a user can cause and mend. The command line prints it without a traceback."""


class ConfigError(SteerClearError):
    """A recipe, an override or an argument is wrong."""


class DataError(SteerClearError):
    """A data file or a row in it is wrong."""


class ModelError(SteerClearError):
    """A model folder, an adapter or a tokenizer cannot be used."""


class TrainingError(SteerClearError):
    """A training in other processes did not succeed."""


class StorageError(SteerClearError):
    """Something could not be written; what was there before is untouched."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest allowed name, or an empty string when none is near.

    >>> did_you_mean("emd_bond", ["emd", "emd_bound", "nlcl"])
    " Did you mean 'emd_bound'?"
    >>> did_you_mean("zzz", ["emd"])
    ''
    """
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def one_of(what: str, got: object, allowed: Iterable[str]) -> str:
    """Return the message for a value outside a closed list.

    >>> one_of("objective", "emdd", ["emd", "nlcl"])
    "objective: got 'emdd', allowed: emd, nlcl. Did you mean 'emd'?"
    """
    names = list(allowed)
    return f"{what}: got {got!r}, allowed: {', '.join(names)}.{did_you_mean(str(got), names)}"
