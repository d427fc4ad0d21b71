"""AlpacaEval: how often a model's outputs are preferred to a reference's, in alpaca_eval's file formats.

The first output of a pair is the reference's and the second the model's, as in alpaca_eval. A figure belongs to its annotator and
template: only alpaca_eval's own give figures that compare with its leaderboards.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steerclear.evaluation.annotator import Annotator, Answer, fill, preference, read_template
from steerclear.evaluation.figures import WinRate
from steerclear.evaluation.options import AlpacaEvalOptions
from steerclear.evaluation.outputs import Output, Pair, matched
from steerclear.evaluation.suites import sample_ids
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
from steerclear.stats.length_controlled import length_controlled
from steerclear.stats.rates import Mean

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
"""alpaca_eval's column -> our figure. Its length-controlled columns hold our estimate."""


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

    Each answer is on disk as it comes. After a kill the next call asks only what is missing; requests that failed are asked
    again, answers that could not be understood are not. Two equal outputs are a draw without a question.

    Raises:
        DataError: an instruction occurs twice, none is common to both, or the outputs of a side are of several models.
        ConfigError: the template cannot be used.
        StorageError: an answer or a result cannot be written.
    """
    matching = matched(model_outputs, reference_outputs)
    chosen = sample_ids((pair.instruction for pair in matching), options.limit)
    pairs = [pair for pair in matching if pair.instruction in chosen]
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
    own = {name: value for name, value in asdict(figures).items() if name != "metric"}
    write_text(folder / LEADERBOARD, _leaderboard(own))
    write_json(folder / FIGURES, own)
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
            key, pair, model_first = missing[place].key, missing[place].pair, missing[place].model_first
            answers[key] = answer
            if isinstance(answer, Answer):
                first = (pair.model if model_first else pair.reference).generator
                out.append(_Line(key=key, instruction=pair.instruction, first=first, **asdict(answer)))
    return answers


def _for_model(question: _Question, answer: Answer | Unscored, options: AlpacaEvalOptions) -> float | Unscored:
    """Return how far the model's output is preferred, between 0 and 1."""
    if isinstance(answer, Unscored):
        return answer
    second = preference(answer, options.labels)
    if second is None:
        return Unscored("answer not understood")
    return 1 - second if question.model_first else second


def _known(scores: Sequence[float | Unscored]) -> list[float]:
    return [score for score in scores if not isinstance(score, Unscored)]


def _mean(scores: Sequence[float | Unscored]) -> float | None:
    """Return the mean over the orders; one order alone would bring its bias back."""
    known = _known(scores)
    return statistics.fmean(known) if len(known) == len(scores) else None


def _percent(shares: Sequence[float]) -> float | None:
    return 100 * statistics.fmean(shares) if len(shares) > 1 else None


def _shares(preferences: Sequence[float | None]) -> dict[str, Any]:
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
    both = [known for found in scores if len(known := _known(found)) == 2]
    together = [
        pair for questions, found in zip(asked, scores, strict=True) for pair in zip(questions, found, strict=True)
    ]
    first = [score if q.model_first else 1 - score for q, score in together if not isinstance(score, Unscored)]
    return {
        "consistency": _percent([(a - 0.5) * (b - 0.5) > 0 or a == b == 0.5 for a, b in both]),
        "first_position_rate": _percent(first),
    }


def _lengths(pairs: Sequence[Pair], preferences: Sequence[float | None]) -> dict[str, Any]:
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


def _leaderboard(figures: Mapping[str, Any]) -> str:
    """Return alpaca_eval's leaderboard of one model as CSV."""
    values = {**figures, "mode": "community", "avg_length": int(figures["avg_length"])}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *LEADERBOARD_COLUMNS])
    writer.writerow([figures["generator"], *(values[name] for name in LEADERBOARD_COLUMNS.values())])
    return text.getvalue()
