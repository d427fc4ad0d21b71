"""Figures of what a model still can, made up for tests."""

from __future__ import annotations

from steerclear.evaluation.figures import ChoiceAccuracy, Perplexity, WinRate
from steerclear.stats.rates import Rate


def accuracy(k: int, n: int) -> ChoiceAccuracy:
    """So many documents right of so many."""
    return ChoiceAccuracy(acc=Rate.of(k, n), n=n, cut=0, task="boolq", task_version="2.0", harness="0")


def perplexity(value: float, lower: float | None = None, upper: float | None = None, rows: int = 9) -> Perplexity:
    """A perplexity with its interval."""
    return Perplexity(
        rows=rows, tokens=rows, nll=0.0, perplexity=value, lower=lower, upper=upper, cut=0, left_out=0
    )  # fmt: skip


def win_rate(value: float | None, lower: float | None = None, upper: float | None = None) -> WinRate:
    """A win rate with its interval, over ten pairs."""
    return WinRate(
        generator="model", reference="reference", annotator="annotator", win_rate=value, standard_error=None, lower=lower,
        upper=upper, discrete_win_rate=value, n=10, n_wins=5, n_wins_base=5, n_draws=0, unscored=0, reasons={}, missing=0,
        extra=0, consistency=None, first_position_rate=None, avg_length=1.0, avg_length_reference=1.0,
        length_controlled_win_rate=None, lc_standard_error=None, lc_lower=None, lc_upper=None,
    )  # fmt: skip
