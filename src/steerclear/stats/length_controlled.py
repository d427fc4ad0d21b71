"""The win rate that two models would have if their outputs were equally long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from steerclear.stats.rates import CONFIDENCE

WEAK_PENALTY = 100.0
"""scikit-learn's C: the one that alpaca_eval takes where it does not cross-validate."""


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A win rate at equal length, in percent, with its standard error and 95 % interval."""

    win_rate: float
    standard_error: float
    lower: float
    upper: float
    length_weight: float
    """Weight of the length in the fit: log-odds that the model's output gains from being very much longer. 0: no effect."""


def length_controlled(
    preferences: Sequence[float], lengths: Sequence[int], reference_lengths: Sequence[int]
) -> LengthControlled | None:
    """Return the length-controlled win rate, or None where the pairs do not say.

    They do not where there are fewer than two, where one model won them all or all on one side of some length difference (length
    alone then explains the result, and no weight is large enough), or where the lengths always differ by the same.

    Paper: Dubois et al. 2024, "Length-Controlled AlpacaEval", in the version without instruction difficulty
    (``length_controlled_minimal`` in alpaca_eval).

    Formula: ``P(win) = sigmoid(a + w tanh(d / std(d)))``, with d the model's length minus the reference's. The fit is a logistic
    regression on the preferences; the win rate is the prediction at d = 0, ``100 sigmoid(a)``.

    The standard error is the sandwich estimate, which holds for preferences between 0 and 1 as for decided ones; the interval is
    normal on the scale of a. alpaca_eval instead picks the penalty by cross-validation and reports no such error.

    Args:
        preferences: 1 where the model's output is preferred, 0 where the reference's is, or between.
        lengths: characters of the model's outputs.
        reference_lengths: characters of the reference's outputs.

    Raises:
        ValueError: not as many lengths as preferences.
    """
    if not len(preferences) == len(lengths) == len(reference_lengths):
        raise ValueError(
            f"{len(preferences)} preferences, {len(lengths)} and {len(reference_lengths)} lengths: needs as many of each."
        )
    preferred = np.asarray(preferences, dtype=float)
    difference = np.asarray(lengths, dtype=float) - np.asarray(reference_lengths, dtype=float)
    if len(preferred) < 2 or _confounded(difference, preferred):
        return None
    spread = difference.std(ddof=1) or 1.0  # all lengths equal: there is no effect to take out
    features = np.column_stack([np.ones(len(preferred)), np.tanh(difference / spread)])
    weights = _fit(features, preferred)
    error = float(np.sqrt(_sandwich(features, preferred, weights)[0, 0]))
    center, half = float(weights[0]), float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    share = _sigmoid(center)
    return LengthControlled(
        win_rate=100 * share,
        standard_error=100 * share * (1 - share) * error,
        lower=100 * _sigmoid(center - half),
        upper=100 * _sigmoid(center + half),
        length_weight=float(weights[1]),
    )


def _confounded(difference: np.ndarray, preferred: np.ndarray) -> bool:
    """Return whether the effect of length cannot be told from that of the model: the fit would have no best weights."""
    won, lost = difference[preferred > 0], difference[preferred < 1]
    if not len(won) or not len(lost):
        return True
    if np.ptp(difference) == 0:
        return bool(difference[0])
    return bool(won.min() >= lost.max() or won.max() <= lost.min())


def _fit(features: np.ndarray, preferred: np.ndarray) -> np.ndarray:
    """Return the weights. Each pair counts as a win with weight y and as a loss with weight 1 - y."""
    model = LogisticRegression(C=WEAK_PENALTY, fit_intercept=False, tol=1e-8, max_iter=1000)
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(preferred)),
        sample_weight=np.concatenate([preferred, 1 - preferred]),
    )
    return model.coef_[0]


def _sandwich(features: np.ndarray, preferred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the covariance of the weights: H^-1 G H^-1, with H the curvature and G the squared gradients, summed."""
    predicted = 1 / (1 + np.exp(-features @ weights))
    curvature = (features.T * (predicted * (1 - predicted))) @ features + np.eye(len(weights)) / WEAK_PENALTY
    gradients = features * (preferred - predicted)[:, None]
    inverse = np.linalg.inv(curvature)
    return inverse @ gradients.T @ gradients @ inverse


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
