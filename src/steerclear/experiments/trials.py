"""What came of trials: their figures against limits, which is best, and what is tried next. Optuna is the only library here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.scores import Scores
from steerclear.recipe.tune import TuneLimits, TuneRecipe, Values
from steerclear.stats.rates import Rate

COMPLETE, PRUNED, FAILED, RUNNING, WAITING = "complete", "pruned", "failed", "running", "waiting"

PENALTY_WEIGHT = "training.penalty_weight"
"""λ, which is the smaller the better among equally good trials."""

MOST_UNSCORED = 0.05
"""Share of unscored answers above which a trial has no figures: its rates would be those of other prompts than the others'."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a trial is judged by: of a finished one its evaluation, of a pruned one its last probe."""

    harmful: Rate
    """Harmful answers to harmful prompts."""
    degenerate: Rate
    """Degenerate answers to harmful prompts."""
    over_refusal: Rate | None
    """Refused benign prompts. None: there are no benign prompts."""
    benign_loss: float | None
    """On the held-out benign rows, in nats a token. None: not measured, or not a finite number."""

    @classmethod
    def of(cls, scores: Scores, benign_loss: float | None) -> Figures:
        """Return the figures of an evaluation.

        Raises:
            DataError: there is no rate, as fewer than two answers are scored, or more than `MOST_UNSCORED` are not.
        """
        harmful, benign = scores.harmful_prompts, scores.benign_prompts
        if harmful is None:
            raise DataError("a trial has no rate of harmful answers: no harmful prompt was asked.")
        for kind, pool in (("harmful", harmful), ("benign", benign)):
            if pool is not None and pool.unscored.k > MOST_UNSCORED * pool.n:
                raise DataError(
                    f"the judge left {pool.unscored.k} of {pool.n} answers to {kind} prompts unscored, allowed: "
                    f"{MOST_UNSCORED:.0%}. See the reasons in the verdicts; the trial's next try judges them again."
                )
        refused = None if benign is None else benign.refused
        if harmful.harmful.rate is None or (refused is not None and refused.rate is None):
            raise DataError(
                f"a trial has no rate of harmful answers or of refusals: the judge scored {harmful.harmful.n} of {harmful.n} "
                "answers to harmful prompts. See the reasons in its verdicts."
            )
        return cls(
            harmful=harmful.harmful, degenerate=harmful.degenerate, over_refusal=refused, benign_loss=benign_loss
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trial."""

    number: int
    """Its folder's name."""
    values: Values
    state: str
    figures: Figures | None = None
    """None: it is not finished, or it failed."""
    reason: str = ""
    """Why it was pruned or failed."""
    seconds: float | None = None
    """Wall time of the process that finished it."""
    step: int | None = None
    """Of a pruned one: the step of its last probe."""
    reported: float | None = None
    """Of a pruned one: what `probe_value` made of that probe."""
    same_as: int | None = None
    """The trial of the same values that these figures come from."""


def lowest_loss(outcomes: Sequence[Outcome]) -> float | None:
    """Return the lowest held-out benign loss of the finished trials."""
    losses = [o.figures.benign_loss for o in outcomes if o.state == COMPLETE and o.figures is not None]
    return min((loss for loss in losses if loss is not None), default=None)


def excesses(outcome: Outcome, limits: TuneLimits, lowest: float | None) -> dict[str, float]:
    """Return, for each limit that the trial can be held against, how far it is above; at most 0 is within.

    Args:
        lowest: what `lowest_loss` returned for all trials.
    """
    figures = outcome.figures
    if figures is None:
        return {}
    over = _rate_excesses(figures, limits)
    if limits.benign_loss is not None and outcome.state == COMPLETE:
        loss = figures.benign_loss
        # A loss that is no finite number is above any limit.
        over["benign_loss"] = float("inf") if loss is None or lowest is None else loss - lowest - limits.benign_loss
    return over


def _limited_rates(figures: Figures, limits: TuneLimits) -> dict[str, tuple[Rate, float]]:
    pairs = {
        "over_refusal": (figures.over_refusal, limits.over_refusal),
        "degenerate": (figures.degenerate, limits.degenerate),
    }
    return {name: (rate, limit) for name, (rate, limit) in pairs.items() if rate is not None and limit is not None}


def _rate_excesses(figures: Figures, limits: TuneLimits) -> dict[str, float]:
    return {name: float(rate.rate or 0) - limit for name, (rate, limit) in _limited_rates(figures, limits).items()}


def total_excess(outcome: Outcome, limits: TuneLimits, lowest: float | None) -> float:
    """Return how far a trial is above all limits together."""
    return sum(max(0.0, over) for over in excesses(outcome, limits, lowest).values())


def is_within(outcome: Outcome, limits: TuneLimits, lowest: float | None) -> bool:
    """Return whether a trial is finished and above no limit."""
    return outcome.state == COMPLETE and total_excess(outcome, limits, lowest) == 0


def choose(outcomes: Sequence[Outcome], limits: TuneLimits) -> tuple[Outcome | None, Outcome | None]:
    """Return the best trial and the nearest one.

    The best is the safest within the limits: the lowest rate of harmful answers, among equals the one that refuses less, then
    that of the smaller λ, then the earlier. Where none is within them it is None, and the nearest is the finished trial that is
    the least above all limits together; otherwise the two are one. Both are None where no trial is finished.
    """
    lowest = lowest_loss(outcomes)
    finished = [o for o in outcomes if o.state == COMPLETE]
    nearest = min(finished, key=lambda o: (total_excess(o, limits, lowest), *_rank(o)), default=None)
    if nearest is None or total_excess(nearest, limits, lowest) > 0:
        return None, nearest
    return nearest, nearest


def _rank(outcome: Outcome) -> tuple[float, float, float, int]:
    assert outcome.figures is not None
    harmful, refused = outcome.figures.harmful, outcome.figures.over_refusal
    return (
        float(harmful.rate or 0),
        0.0 if refused is None else float(refused.rate or 0),
        float(outcome.values.get(PENALTY_WEIGHT) or 0),
        outcome.number,
    )


# ── probes ──


def probe_value(figures: Figures, limits: TuneLimits) -> float:
    """Return what a probe is compared by, the lower the better: the harmful rate, or above 1 where a limit is exceeded.

    By the harmful rate alone a model that answers gibberish would be ahead of all others.
    """
    over = sum(max(0.0, value) for value in _rate_excesses(figures, limits).values())
    return 1 + over if over else float(figures.harmful.rate or 0)


def surely_broken(figures: Figures, limits: TuneLimits) -> list[str]:
    """Return the limits that a probe exceeds by more than its interval allows, in words."""
    return [
        f"{name.replace('_', '-')} {rate.rate:.0%} is surely above {limit:g} (95 % interval from {rate.lower:.0%})"
        for name, (rate, limit) in _limited_rates(figures, limits).items()
        if rate.lower is not None and rate.lower > limit
    ]


# ── what is tried next ──


def load_optuna() -> Any:
    """Return the library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("tune needs Optuna, which is not installed: pip install 'steerclear[tune]'.") from error
    return optuna


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Let the library say nothing for a while: it would tell every trial in its own way."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def distributions(recipe: TuneRecipe) -> dict[str, Any]:
    """Return what Optuna draws each setting from."""
    kinds = load_optuna().distributions
    found = {}
    for key, options in recipe.space.items():
        if options.choices is not None:
            found[key] = kinds.CategoricalDistribution(options.choices)
        else:
            kind = kinds.IntDistribution if options.whole else kinds.FloatDistribution
            low, high = options.ends()
            found[key] = kind(low, high, log=options.log)
    return found


def next_values(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> Values | None:
    """Return the values of the next trial, None where there is none. The same trials have the same next one.

    Args:
        outcomes: all trials in order, unfinished and failed ones too; failed ones are replaced by new values in tpe.
    """
    if recipe.method == "grid":
        tried = [outcome.values for outcome in outcomes]
        return next((values for values in recipe.grid() if values not in tried), None)
    if sum(outcome.state != FAILED for outcome in outcomes) >= recipe.budget:
        return None
    return _draw(recipe, outcomes)


def _draw(recipe: TuneRecipe, outcomes: Sequence[Outcome]) -> Values:
    optuna = load_optuna()
    # A draw of its own for each trial: a search that is killed and goes on, or is shared by processes, draws no number twice.
    seed = random.Random(f"{recipe.seed}/{len(outcomes)}").getrandbits(32)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=recipe.startup_trials)
    # Made anew from the figures, so that constraints are those of the limits and the lowest loss of now.
    space, lowest = distributions(recipe), lowest_loss(outcomes)
    with quiet_optuna():
        study = optuna.create_study(sampler=sampler)
        study.add_trials([_as_seen(o, recipe.limits, lowest, space) for o in outcomes if o.state != FAILED])
        return study.ask(space).params


def _as_seen(outcome: Outcome, limits: TuneLimits, lowest: float | None, space: dict[str, Any]) -> Any:
    optuna = load_optuna()
    state, seen = optuna.trial.TrialState, {"params": outcome.values, "distributions": space}
    if outcome.figures is None:
        return optuna.trial.create_trial(state=state.RUNNING, **seen)
    seen["constraints"] = excesses(outcome, limits, lowest)
    if outcome.state == PRUNED:
        return optuna.trial.create_trial(
            state=state.PRUNED, intermediate_values={outcome.step: outcome.reported}, **seen
        )
    return optuna.trial.create_trial(state=state.COMPLETE, value=outcome.figures.harmful.rate, **seen)
