"""Fine-tune a language model on benign data and steer it clear of a few unsafe answers.

Importing this package does not import torch: the public names below load on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "SteerClearConfig": "steerclear.training.arguments",
    "SteerClearTrainer": "steerclear.training.trainer",
    "objective_loss": "steerclear.losses.objective",
}

__all__ = ["SteerClearConfig", "SteerClearTrainer", "__version__", "objective_loss"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'steerclear' has no attribute {name!r}")
