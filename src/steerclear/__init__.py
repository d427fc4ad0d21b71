"""Fine-tune a language model on benign data and steer it clear of a few unsafe answers.

Importing this package does not import torch: the public names below load on first use.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "SteerClearConfig": "steerclear.training.arguments",
    "SteerClearTrainer": "steerclear.training.trainer",
    "objective_loss": "steerclear.losses.objective",
    "attack": "steerclear.api",
    "contrast": "steerclear.api",
    "evaluate": "steerclear.api",
    "generate": "steerclear.api",
    "harvest": "steerclear.api",
    "import_rows": "steerclear.api",
    "judge": "steerclear.api",
    "merge": "steerclear.api",
    "report": "steerclear.api",
    "sweep": "steerclear.api",
    "train": "steerclear.api",
    "tune": "steerclear.api",
}
"""Public name -> the module that has it."""

_OWN_NAMES = {"merge": "merge_adapter"}
"""Public name -> what it is called there, where that is something else."""

__all__ = [*_HOME, "__version__"]


class CallablePackage(ModuleType):
    """A package with the name of a function: ``steerclear.report`` is both, whichever was imported first."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return getattr(importlib.import_module("steerclear.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), _OWN_NAMES.get(name, name))
    raise AttributeError(f"module 'steerclear' has no attribute {name!r}")
