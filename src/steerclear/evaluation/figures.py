"""What a model still can, in figures: accuracy at multiple choice, perplexity, win rate. Each says by ``metric`` what it is."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.stats.rates import Estimate, Rate


@dataclass(frozen=True, kw_only=True)
class ChoiceAccuracy:
    """A model on a multiple-choice task. Which documents it got right is in the suite's own file."""

    metric: str = "multiple_choice"
    acc: Rate
    """By the log-likelihood of a choice."""
    acc_norm: Rate | None = None
    """By the log-likelihood of a choice over its length in characters. None: the task has no such metric."""
    n: int
    """Documents."""
    cut: int
    """Documents that are longer than the model's context with one of their choices, and lose their beginning."""
    task: str
    """lm-evaluation-harness's task."""
    task_version: str
    """Its version of the task."""
    harness: str
    """Version of lm-evaluation-harness."""

    @property
    def interval(self) -> Estimate:
        """The accuracy with the ends of its interval."""
        return Estimate(value=self.acc.rate, lower=self.acc.lower, upper=self.acc.upper)


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """exp of the mean negative log-likelihood of an answer token, given the prompt and the answer's tokens before it."""

    metric: str = "perplexity"
    rows: int
    """Rows that were scored."""
    tokens: int
    """Answer tokens, each answer's end token among them, as in training."""
    nll: float
    """Mean negative log-likelihood of a token, in nats; every token weighs the same."""
    perplexity: float
    lower: float | None
    """Of the perplexity: 95 % percentile bootstrap over rows. None below 2 rows."""
    upper: float | None
    cut: int
    """Tokens beyond the longest length, which are not scored."""
    left_out: int
    """Rows without any answer token within the longest length."""

    @property
    def interval(self) -> Estimate:
        """The perplexity with the ends of its interval."""
        return Estimate(value=self.perplexity, lower=self.lower, upper=self.upper)


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How a model fares against a reference. Shares are in percent as in alpaca_eval; what has no value is None."""

    metric: str = "win_rate"
    generator: str
    reference: str
    annotator: str
    win_rate: float | None
    """Mean preference for the model's outputs."""
    standard_error: float | None
    """Of the mean, over pairs."""
    lower: float | None
    upper: float | None
    """95 % interval, Student's t, over pairs. None where all preferences are the same, which would give a width of 0."""
    discrete_win_rate: float | None
    """Each pair won, drawn (a half) or lost."""
    n: int
    """Scored pairs."""
    n_wins: int
    n_wins_base: int
    n_draws: int
    unscored: int
    """Pairs without an answer, or without one that could be understood, in any order asked."""
    reasons: dict[str, int]
    """Why, with the number of questions."""
    missing: int
    """Instructions of the reference that the model has no output to."""
    extra: int
    """Outputs of the model to other instructions."""
    consistency: float | None
    """Of the pairs answered in both orders, the share in which both prefer the same output."""
    first_position_rate: float | None
    """How far the annotator prefers what is shown first, over all answers. 50: no bias."""
    avg_length: float
    avg_length_reference: float
    """Mean characters of the outputs."""
    length_controlled_win_rate: float | None
    lc_standard_error: float | None
    lc_lower: float | None
    lc_upper: float | None
    """See `steerclear.stats.length_controlled`."""

    @property
    def length_controlled(self) -> Estimate:
        """The length-controlled win rate with the ends of its interval."""
        return Estimate(value=self.length_controlled_win_rate, lower=self.lc_lower, upper=self.lc_upper)

    @property
    def interval(self) -> Estimate:
        """The win rate with the ends of its interval."""
        return Estimate(value=self.win_rate, lower=self.lower, upper=self.upper)


Quality = ChoiceAccuracy | Perplexity | WinRate
