"""AlpacaEval: how often a model's outputs are preferred to a reference's, in alpaca_eval's file formats.

The first output of a pair is the reference's and the second the model's, as in alpaca_eval. A figure belongs to its annotator and
template: only alpaca_eval's own give figures that compare with its leaderboards.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steerclear.evaluation.annotator import Annotator, Answer, fill, preference, read_template
from steerclear.evaluation.options import AlpacaEvalOptions
from steerclear.evaluation.outputs import Output, Pair, matched, sample
from steerclear.judges.base import Unscored
from steerclear.records import (
    JsonlAppender,
    Messages,
    cut_unfinished_line,
    read_records,
    sha256_of,
    write_json,
    write_text,
)

ANSWERS, ANNOTATIONS = "annotations.jsonl", "annotations.json"
LEADERBOARD, FIGURES = "leaderboard.csv", "win_rate.json"
"""Files of a comparison: the annotator's answers as they came, and alpaca_eval's annotations and leaderboard; our figures."""

LEADERBOARD_COLUMNS = {
    "win_rate": "win_rate",
    "standard_error": "standard_error",
    "n_wins": "n_wins",
    "n_wins_base": "n_wins_base",
    "n_draws": "n_draws",
    "n_total": "n",
    "discrete_win_rate": "discrete_win_rate",
    "mode": "mode",
    "avg_length": "avg_length",
    "length_controlled_winrate": "length_controlled_win_rate",
    "lc_standard_error": "lc_standard_error",
}
"""alpaca_eval's column -> our figure."""


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How a model fares against a reference. Shares are in percent as in alpaca_eval; what has no value is None."""

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


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line of the file of answers."""

    key: str
    """SHA-256 of annotator, labels and question; the question holds template, outputs and order."""
    instruction: str
    first: str
    """Name of the model whose output was shown first."""
    text: str
    first_token: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class _Question:
    key: str
    pair: Pair
    model_first: bool
    chat: Messages


def win_rate(
    model_outputs: Sequence[Output],
    reference_outputs: Sequence[Output],
    annotator: Annotator,
    folder: Path,
    options: AlpacaEvalOptions,
) -> WinRate:
    """Ask which outputs are better, and return and write how often the model's are.

    Each answer is on disk as it comes. A call that goes on after a kill asks only what is missing; requests that failed are asked
    again, answers that could not be understood are not. Two equal outputs are a draw without a question.

    Raises:
        DataError: an instruction occurs twice, none is common to both, or the outputs of a side are of several models.
        ConfigError: the template cannot be used.
        StorageError: an answer or a result cannot be written.
    """
    matching = matched(model_outputs, reference_outputs)
    pairs = sample(matching, options.limit)
    template = read_template(options.template)
    asked = [_questions(pair, template, annotator.name, options) for pair in pairs]
    answers = _ask([question for questions in asked for question in questions], annotator, folder / ANSWERS)
    scores = [[_for_model(question, answers[question.key], options) for question in questions] for questions in asked]
    preferences = [0.5 if pair.same else _mean(found) for pair, found in zip(pairs, scores, strict=True)]
    figures = WinRate(
        generator=pairs[0].model.generator,
        reference=pairs[0].reference.generator,
        annotator=annotator.name,
        missing=len(reference_outputs) - len(matching),
        extra=len(model_outputs) - len(matching),
        reasons=dict(Counter(score.reason for found in scores for score in found if isinstance(score, Unscored))),
        **_shares(preferences),
        **_biases(asked, scores),
        **_lengths(pairs, preferences),
    )
    annotated = zip(pairs, preferences, strict=True)
    write_json(folder / ANNOTATIONS, [_annotation(pair, score, annotator.name) for pair, score in annotated])
    write_text(folder / LEADERBOARD, leaderboard([figures]))
    write_json(folder / FIGURES, asdict(figures))
    return figures


def _questions(pair: Pair, template: str, name: str, options: AlpacaEvalOptions) -> list[_Question]:
    """Return what is asked of a pair: nothing where its outputs are the same, else one question or one an order."""
    if pair.same:
        return []
    drawn = int(sha256_of([options.seed, pair.instruction]), 16) % 2 == 1
    questions = []
    for model_first in [False, True] if options.both_orders else [drawn]:
        first, second = (pair.model, pair.reference) if model_first else (pair.reference, pair.model)
        chat = fill(template, pair.instruction, first.output, second.output)
        key = sha256_of([name, options.labels, chat])
        questions.append(_Question(key=key, pair=pair, model_first=model_first, chat=chat))
    return questions


def _ask(questions: Sequence[_Question], annotator: Annotator, path: Path) -> dict[str, Answer | Unscored]:
    """Return an answer or its lack by the question's key, after asking those not in the file."""
    cut_unfinished_line(path)
    kept = read_records(path, _Line) if path.is_file() else []
    answers: dict[str, Answer | Unscored] = {a.key: Answer(text=a.text, first_token=a.first_token) for a in kept}
    missing = [question for question in questions if question.key not in answers]
    answers |= {question.key: Unscored("not answered") for question in missing}
    with JsonlAppender(path) as out:
        for place, answer in annotator.ask([question.chat for question in missing]):
            question = missing[place]
            answers[question.key] = answer
            if isinstance(answer, Answer):
                out.append(_line_of(question, answer))
    return answers


def _line_of(question: _Question, answer: Answer) -> _Line:
    first = question.pair.model if question.model_first else question.pair.reference
    return _Line(
        key=question.key,
        instruction=question.pair.instruction,
        first=first.generator,
        text=answer.text,
        first_token=dict(answer.first_token),
    )


def _for_model(question: _Question, answer: Answer | Unscored, options: AlpacaEvalOptions) -> float | Unscored:
    """Return how far the model's output is preferred, between 0 and 1."""
    if isinstance(answer, Unscored):
        return answer
    second = preference(answer, options.labels)
    if second is None:
        return Unscored("answer not understood")
    return 1 - second if question.model_first else second


def _mean(scores: Sequence[float | Unscored]) -> float | None:
    """Return the mean over the orders; one order alone would bring its bias back."""
    known = [score for score in scores if not isinstance(score, Unscored)]
    return statistics.fmean(known) if len(known) == len(scores) else None


def _shares(preferences: Sequence[float | None]) -> dict[str, Any]:
    from steerclear.stats.rates import Mean  # it loads scipy, which recipes do not need

    known = [100 * score for score in preferences if score is not None]
    mean = Mean.of(known)
    wins, draws, n = sum(score > 50 for score in known), sum(score == 50 for score in known), len(known)
    spread = statistics.stdev(known) if n > 1 else None
    return {
        "win_rate": mean.mean,
        "standard_error": None if spread is None else spread / n**0.5,
        "lower": None if mean.lower is None or not spread else max(0.0, mean.lower),
        "upper": None if mean.upper is None or not spread else min(100.0, mean.upper),
        "discrete_win_rate": 100 * (wins + draws / 2) / n if n > 1 else None,
        "n": n,
        "n_wins": wins,
        "n_wins_base": n - wins - draws,
        "n_draws": draws,
        "unscored": len(preferences) - n,
    }


def _biases(asked: Sequence[Sequence[_Question]], scores: Sequence[Sequence[float | Unscored]]) -> dict[str, Any]:
    agreeing, first = [], []
    for questions, found in zip(asked, scores, strict=True):
        known = [score for score in found if not isinstance(score, Unscored)]
        if len(known) == 2:
            agreeing.append((known[0] - 0.5) * (known[1] - 0.5) > 0 or known[0] == known[1] == 0.5)
        for question, score in zip(questions, found, strict=True):
            if not isinstance(score, Unscored):
                first.append(score if question.model_first else 1 - score)
    return {
        "consistency": 100 * statistics.fmean(agreeing) if len(agreeing) > 1 else None,
        "first_position_rate": 100 * statistics.fmean(first) if len(first) > 1 else None,
    }


def _lengths(pairs: Sequence[Pair], preferences: Sequence[float | None]) -> dict[str, Any]:
    from steerclear.stats.length_controlled import length_controlled  # it loads scikit-learn

    model, reference = [len(pair.model.output) for pair in pairs], [len(pair.reference.output) for pair in pairs]
    scored = [row for row in zip(preferences, model, reference, strict=True) if row[0] is not None]
    controlled = length_controlled(*zip(*scored, strict=True)) if scored else None
    return {
        "avg_length": statistics.fmean(model),
        "avg_length_reference": statistics.fmean(reference),
        "length_controlled_win_rate": controlled and controlled.win_rate,
        "lc_standard_error": controlled and controlled.standard_error,
        "lc_lower": controlled and controlled.lower,
        "lc_upper": controlled and controlled.upper,
    }


def _annotation(pair: Pair, preference: float | None, annotator: str) -> dict[str, Any]:
    """Return a row of alpaca_eval's annotations: 1 prefers the reference's output, 2 the model's."""
    return {
        "instruction": pair.instruction,
        "output_1": pair.reference.output,
        "generator_1": pair.reference.generator,
        "dataset": pair.reference.dataset,
        "output_2": pair.model.output,
        "generator_2": pair.model.generator,
        "annotator": annotator,
        "preference": None if preference is None else 1 + preference,
    }


def leaderboard(figures: Iterable[WinRate]) -> str:
    """Return alpaca_eval's leaderboard as CSV, a row for each model. Its length-controlled columns hold our estimate."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *LEADERBOARD_COLUMNS])
    for found in figures:
        values = asdict(found) | {"mode": "community", "avg_length": int(found.avg_length)}
        writer.writerow([found.generator, *(values[name] for name in LEADERBOARD_COLUMNS.values())])
    return text.getvalue()
