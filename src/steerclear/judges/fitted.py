"""Fitted judges on disk: bags of n-grams, arrays and texts in one skops file, which runs no code when it is read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer

from steerclear.errors import ModelError, StorageError

TRUSTED_TYPES: tuple[str, ...] = ()
"""Types that a judge file may hold beside the ones skops trusts by itself (numpy, scipy and scikit-learn's own): none."""

Judge = TypeVar("Judge")


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a judge's state to one file, all or nothing. It has a field ``format``, the version of its fields.

    Raises:
        StorageError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # another process may be fitting the same judge
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        skops.io.dump(dict(state), temporary, compression=zipfile.ZIP_DEFLATED)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the judge cannot be written ({error.strerror}). Choose another place.") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, file_format: int, command: str, build: Callable[[dict[str, Any]], Judge]) -> Judge:
    """Read a file that `save` wrote and build the judge from its state.

    Args:
        file_format: the only version that is read.
        command: what fits the judge anew, for the messages.

    Raises:
        ModelError: the file is missing, damaged, of another format, or holds types that no judge needs.
    """
    advice = f"Fit it again with `{command}`, or copy the file again."
    try:
        untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES))
        if untrusted:
            raise ModelError(
                f"{path}: holds types that no judge needs and that could run code ({', '.join(untrusted)}). "
                f"It is not loaded. {advice}"
            )
        state = skops.io.load(path, trusted=list(TRUSTED_TYPES))
        if state["format"] != file_format:
            raise ModelError(f"{path}: judge format {state['format']}, this version reads {file_format}. {advice}")
        return build(state)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no judge file. {advice}") from error
    except ModelError:
        raise
    except Exception as error:  # a damaged archive can fail anywhere in skops' readers
        raise ModelError(f"{path}: not a judge file, or damaged ({type(error).__name__}). {advice}") from error


def bags_state(bags: Mapping[str, TfidfVectorizer]) -> dict[str, Any]:
    """Return what `bags_of` needs to make the fitted bags again."""
    return {
        "terms": {name: json.dumps(bag.get_feature_names_out().tolist()) for name, bag in bags.items()},
        "idf": {name: bag.idf_ for name, bag in bags.items()},
    }


def bags_of(state: Mapping[str, Any], counting: Mapping[str, Mapping[str, Any]]) -> dict[str, TfidfVectorizer]:
    """Return the bags of a state, which count as ``counting`` says by name."""
    return {name: _bag(state["terms"][name], state["idf"][name], settings) for name, settings in counting.items()}


def _bag(terms: str, idf: np.ndarray[Any, Any], settings: Mapping[str, Any]) -> TfidfVectorizer:
    bag = TfidfVectorizer(sublinear_tf=True, vocabulary=json.loads(terms), **settings)
    bag.idf_ = idf
    return bag
