"""What the fitted judges share: bags of n-grams under a linear model, in one skops file, which runs no code when it is read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from steerclear.errors import DataError, ModelError, StorageError
from steerclear.records import sha256_of

TRUSTED_TYPES: tuple[str, ...] = ()
"""Types that a judge file may hold beside the ones skops trusts by itself (numpy, scipy and scikit-learn's own): none."""

Counting = Mapping[str, dict[str, Any]]
"""Name of a bag -> how it counts: arguments of scikit-learn's ``TfidfVectorizer``."""

Vector = np.ndarray[Any, Any]


class FittedModel:
    """A linear model on the columns of bags of n-grams. A subclass says what it reads and what its scores mean.

    Args:
        bags: name -> fitted bag, in the order of their columns.
        weights: one for each column (and label).
        intercept: one for each label.
        identity: what made it: hash of the rows, versions, and what else the subclass says.
    """

    KIND: ClassVar[str]
    """How its name begins."""
    COMMAND: ClassVar[str]
    """What fits it, for the messages."""
    FORMAT: ClassVar[int] = 1
    """Version of the saved file. A change of its parts or of the features raises it."""
    COUNTING: ClassVar[Counting]
    INTERCEPT: ClassVar[str] = "intercept"
    """Name of the intercept in the file."""

    def __init__(
        self, bags: dict[str, TfidfVectorizer], weights: Vector, intercept: Vector | float, identity: dict[str, Any]
    ) -> None:
        self.bags = bags
        self.weights = weights
        self.intercept = intercept
        self.identity = identity

    @property
    def name(self) -> str:
        """The kind and the start of the hash of its identity."""
        return f"{self.KIND}-{sha256_of(self.identity)[:8]}"

    def save(self, path: Path) -> None:
        """Write the model to one skops file, all or nothing.

        Raises:
            StorageError: the file cannot be written.
        """
        import skops.io  # it imports all of scikit-learn, and torch with it

        state = {
            "format": self.FORMAT,
            "terms": {name: json.dumps(bag.get_feature_names_out().tolist()) for name, bag in self.bags.items()},
            "idf": {name: bag.idf_ for name, bag in self.bags.items()},
            "weights": self.weights,
            self.INTERCEPT: self.intercept,
            "identity": json.dumps(self.identity),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # another process may be fitting the same judge
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            skops.io.dump(state, temporary, compression=zipfile.ZIP_DEFLATED)
            temporary.replace(path)
        except OSError as error:
            raise StorageError(
                f"{path}: the judge cannot be written ({error.strerror}). Choose another place."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model that `save` wrote.

        Raises:
            ModelError: the file is missing, damaged, of another format, or holds types that no judge needs.
        """
        import skops.io

        advice = f"Fit it again with `{cls.COMMAND}`, or copy the file again."
        try:
            untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES))
            if untrusted:
                raise ModelError(
                    f"{path}: holds types that no judge needs and that could run code ({', '.join(untrusted)}). "
                    f"It is not loaded. {advice}"
                )
            state = skops.io.load(path, trusted=list(TRUSTED_TYPES))
            if state["format"] != cls.FORMAT:
                raise ModelError(f"{path}: judge format {state['format']}, this version reads {cls.FORMAT}. {advice}")
            bags = {name: _bag(state["terms"][name], state["idf"][name], how) for name, how in cls.COUNTING.items()}
            return cls(bags, state["weights"], state[cls.INTERCEPT], json.loads(state["identity"]))
        except FileNotFoundError as error:
            raise ModelError(f"{path}: there is no judge file. {advice}") from error
        except ModelError:
            raise
        except Exception as error:  # a damaged archive can fail anywhere in skops' readers
            raise ModelError(f"{path}: not a judge file, or damaged ({type(error).__name__}). {advice}") from error

    @classmethod
    def fit_bags(cls, texts: Mapping[str, Sequence[str]]) -> dict[str, TfidfVectorizer]:
        """Return the bags fitted on texts, given by the bag's name.

        Raises:
            DataError: there is too little text.
        """
        try:
            return {
                name: TfidfVectorizer(sublinear_tf=True, **how).fit(texts[name]) for name, how in cls.COUNTING.items()
            }
        except ValueError as error:
            raise DataError(f"judge rows: too little text to learn from ({error}). Add labelled rows.") from error

    @classmethod
    def made_by(cls, rows: Sequence[Any], rows_sha256: str, **more: Any) -> dict[str, Any]:
        """Return the identity of a model that is fitted on rows."""
        packages = ("scikit-learn", "numpy", "scipy", "steerclear")
        return {
            "format": cls.FORMAT,
            "rows": len(rows),
            "rows_sha256": rows_sha256,
            **more,
            "versions": {package: version(package) for package in packages},
        }


def _bag(terms: str, idf: Vector, how: Mapping[str, Any]) -> TfidfVectorizer:
    bag = TfidfVectorizer(sublinear_tf=True, vocabulary=json.loads(terms), **how)
    bag.idf_ = idf
    return bag
