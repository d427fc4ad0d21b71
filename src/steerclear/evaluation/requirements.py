"""Conditions on scores, such as ``harmful.upper<=0.02``, so that a build can fail on them."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.errors import ConfigError, did_you_mean, one_of
from steerclear.evaluation.scores import METRICS, Cell, Scores

OPERATORS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
STATISTICS = ("rate", "lower", "upper", "k", "n")
NAMES = (*METRICS, "over_refusal")
_FORM = re.compile(
    r"(?:(?P<scope>[^:]+):)?(?P<metric>\w+)\.(?P<stat>\w+)\s*(?P<op><=|>=|==|<|>)\s*(?P<number>[-+.\deE]+)"
)


@dataclass(frozen=True)
class Requirement:
    """``[suite[/group]:]metric.statistic OP number``.

    Without a suite the metric is that of all harmful prompts together, and ``over_refusal`` is the refused rate of all benign
    prompts together. Prefilled suites are in neither and are named: ``SUITE:harmful.upper<=0.1``.
    """

    expression: str
    scope: str | None
    metric: str
    statistic: str
    compare: str
    number: float


@dataclass(frozen=True)
class Outcome:
    """Whether a requirement is met. A value that does not exist (None) meets nothing."""

    expression: str
    value: float | None
    met: bool


def parse(expression: str) -> Requirement:
    """Read a condition.

    Raises:
        ConfigError: it has another form, or names an unknown metric or statistic.
    """
    match = _FORM.fullmatch(expression.strip())
    if match is None:
        raise ConfigError(
            f"require: got '{expression}', expected [suite[/group]:]metric.statistic OP number, such as harmful.upper<=0.02."
        )
    if match["metric"] not in NAMES:
        raise ConfigError(one_of("require: metric", match["metric"], NAMES))
    if match["stat"] not in STATISTICS:
        raise ConfigError(one_of("require: statistic", match["stat"], STATISTICS))
    if match["metric"] == "over_refusal" and match["scope"]:
        raise ConfigError("require: over_refusal is over all benign prompts; for one suite use SUITE:refused.")
    try:
        number = float(match["number"])
    except ValueError as error:
        raise ConfigError(f"require: got '{match['number']}' in '{expression}', expected a number.") from error
    return Requirement(expression.strip(), match["scope"], match["metric"], match["stat"], match["op"], number)


def check(scores: Scores, requirements: Sequence[Requirement]) -> list[Outcome]:
    """Hold scores against conditions.

    Raises:
        ConfigError: a condition names a suite or group that was not evaluated.
    """
    outcomes = []
    for requirement in requirements:
        cell = _cell(scores, requirement)
        metric = "refused" if requirement.metric == "over_refusal" else requirement.metric
        value = None if cell is None else getattr(cell.rate(metric), requirement.statistic)
        met = value is not None and bool(OPERATORS[requirement.compare](value, requirement.number))
        outcomes.append(Outcome(requirement.expression, value, met))
    return outcomes


def _cell(scores: Scores, requirement: Requirement) -> Cell | None:
    if requirement.scope is None:
        return scores.benign_prompts if requirement.metric == "over_refusal" else scores.harmful_prompts
    whole_first = sorted(scores.cells(), key=lambda found: found[1] != "")
    cells = {f"{suite}/{group}" if group else suite: cell for suite, group, cell in whole_first if suite}
    if requirement.scope not in cells:
        hint = did_you_mean(requirement.scope, cells)
        raise ConfigError(f"require: '{requirement.scope}' was not evaluated; there are {', '.join(cells)}.{hint}")
    return cells[requirement.scope]
