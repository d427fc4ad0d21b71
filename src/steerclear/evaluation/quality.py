"""What a model still can: multiple-choice accuracy, perplexity, win rate; each result a file that is not made again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear.config import build
from steerclear.endpoint import Endpoint
from steerclear.errors import Log
from steerclear.evaluation.figures import ChoiceAccuracy, Perplexity, Quality, WinRate
from steerclear.evaluation.options import EvaluationOptions, SuiteOptions, WinRateOptions
from steerclear.evaluation.suites import load_rows
from steerclear.generation.model import Model
from steerclear.records import Generation, sha256_of, to_dict, write_json

LIKELIHOODS = ("multiple_choice", "perplexity")
"""Metrics that need the model's weights."""


def measure_quality(
    options: EvaluationOptions,
    model: Model,
    answers: Mapping[str, Sequence[Generation]],
    folder: Path,
    log: Log,
    *,
    template: str,
    max_length: int | None,
) -> dict[str, Quality]:
    """Return suite -> figures for the suites whose metric is not about single answers, in the order of the metrics.

    Args:
        model: what is evaluated. One without weights leaves out what needs likelihoods, and says so.
        answers: suite -> the model's answers.
        folder: where results are kept.
        template: of the rows of a perplexity suite whose card has none.
        max_length: longest row in tokens, as in training.
    """
    choices, texts, compared = (
        [suite for suite in options.suites if suite.metric == metric] for metric in (*LIKELIHOODS, "win_rate")
    )
    figures: dict[str, Quality] = {}
    if model.weights is not None:
        figures |= {suite.name: _choices(suite, model, folder) for suite in choices}
        figures |= {suite.name: _perplexity(suite, model, folder, template, max_length) for suite in texts}
    elif choices or texts:
        left_out = ", ".join(suite.name for suite in choices + texts)
        log(f"left out, as an endpoint gives no likelihoods: {left_out}.")
    if options.win_rate is not None:
        asked = options.win_rate
        figures |= {s.name: _win_rate(asked, answers[s.name], model.id, folder / s.name) for s in compared}
    elif compared:
        names = ", ".join(suite.name for suite in compared)
        log(f"no win rate for {names}, whose answers are written only: evaluation.win_rate names no annotator.")
    return figures


def _choices(suite: SuiteOptions, model: Model, folder: Path) -> ChoiceAccuracy:
    from steerclear.evaluation.multiple_choice import TaskResult, evaluate_task

    file = folder / f"{suite.name}.json"
    known = build(TaskResult, _read(file)) if file.is_file() else None
    requests = folder / f"requests-{sha256_of(model.id)[:12]}.sqlite"
    assert model.weights is not None
    result = evaluate_task(*model.weights, suite, model_id=model.id, known=known, requests=requests)
    if result is not known:
        write_json(file, asdict(result))
    return result.figures


def _perplexity(suite: SuiteOptions, model: Model, folder: Path, template: str, max_length: int | None) -> Perplexity:
    from steerclear.evaluation.perplexity import perplexity

    rows, template = load_rows(suite), suite.template or template
    file = folder / f"{suite.name}.json"
    identity = sha256_of([model.id, template, max_length, [to_dict(row) for row in rows]])
    known = _read(file) if file.is_file() else {}
    if known.get("identity") == identity:
        return build(Perplexity, known["figures"])
    assert model.weights is not None
    found = perplexity(*model.weights, rows, template=template, max_length=max_length)
    write_json(file, {"identity": identity, "figures": asdict(found)})
    return found


def _win_rate(options: WinRateOptions, answers: Sequence[Generation], model_id: str, folder: Path) -> WinRate:
    from steerclear.evaluation.alpaca_eval import win_rate
    from steerclear.evaluation.annotator import EndpointAnnotator
    from steerclear.evaluation.outputs import outputs_of, read_outputs

    asked = options.comparison
    reference = read_outputs(Path(asked.reference))
    annotator = EndpointAnnotator(Endpoint(options.annotator), asked)
    return win_rate(outputs_of(answers, f"steerclear-{sha256_of(model_id)[:12]}"), reference, annotator, folder, asked)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
