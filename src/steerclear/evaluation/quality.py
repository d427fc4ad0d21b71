"""What a model still can: multiple-choice accuracy, perplexity, win rate; each result a file that is not made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear.endpoint import Endpoint
from steerclear.errors import Log
from steerclear.evaluation.options import EvaluationOptions, SuiteOptions, WinRateOptions
from steerclear.evaluation.suites import load_rows
from steerclear.generation.model import Model
from steerclear.records import Generation, sha256_of, to_dict, write_json


def measure_quality(
    options: EvaluationOptions,
    model: Model,
    answers: Mapping[str, Sequence[Generation]],
    folder: Path,
    log: Log,
    *,
    template: str,
    max_length: int | None,
) -> dict[str, Any]:
    """Return suite -> figures, each ``{"metric": ..., ...}``, for the suites whose metric is not about single answers.

    Args:
        model: what is evaluated. One without weights leaves out what needs likelihoods, and says so.
        answers: suite -> the model's answers.
        folder: where results are kept.
        template: of the rows of a perplexity suite whose card has none.
        max_length: longest row in tokens, as in training.
    """
    by_metric: dict[str, list[SuiteOptions]] = {"multiple_choice": [], "perplexity": [], "win_rate": []}
    for suite in options.suites:
        if suite.metric in by_metric:
            by_metric[suite.metric].append(suite)
    weights, model_id = model.weights, model.id
    likelihoods = by_metric["multiple_choice"] + by_metric["perplexity"]
    if likelihoods and weights is None:
        log(f"left out, as an endpoint gives no likelihoods: {', '.join(suite.name for suite in likelihoods)}.")
    figures: dict[str, Any] = {}
    if weights is not None:
        figures |= _choices(by_metric["multiple_choice"], weights, model_id, folder)
        for suite in by_metric["perplexity"]:
            figures[suite.name] = _perplexity(
                suite, weights, model_id, folder / f"{suite.name}.json", suite.template or template, max_length
            )
    if by_metric["win_rate"] and options.win_rate is None:
        names = ", ".join(suite.name for suite in by_metric["win_rate"])
        log(f"no win rate for {names}, whose answers are written only: evaluation.win_rate names no annotator.")
    if options.win_rate is not None:
        for suite in by_metric["win_rate"]:
            figures[suite.name] = _win_rate(options.win_rate, answers[suite.name], model_id, folder / suite.name)
    return figures


def _choices(suites: Sequence[SuiteOptions], weights: tuple[Any, Any], model_id: str, folder: Path) -> dict[str, Any]:
    if not suites:
        return {}
    from steerclear.evaluation.multiple_choice import evaluate_tasks, read_result

    files = [folder / f"{suite.name}.json" for suite in suites]
    known = [read_result(found) for found in _read(files)]
    results = evaluate_tasks(
        *weights,
        suites,
        model_id=model_id,
        known=known,
        requests=folder / f"requests-{sha256_of(model_id)[:12]}.sqlite",
        keep=lambda result: write_json(folder / f"{result.suite}.json", asdict(result)),
    )
    shown = ("n", "cut", "task", "task_version", "harness")
    return {
        result.suite: {
            "metric": "multiple_choice",
            "acc": asdict(result.acc.rate),
            "acc_norm": asdict(result.acc_norm.rate) if result.acc_norm else None,
            **{name: getattr(result, name) for name in shown},
        }
        for result in results
    }


def _perplexity(
    suite: SuiteOptions, weights: tuple[Any, Any], model_id: str, file: Path, template: str, max_length: int | None
) -> dict[str, Any]:
    from steerclear.evaluation.perplexity import perplexity

    rows = load_rows(suite)
    identity = sha256_of([model_id, template, max_length, [to_dict(row) for row in rows]])
    known = next(iter(_read([file])), {})
    if known.get("identity") == identity:
        return known["figures"]
    found = perplexity(*weights, rows, template=template, max_length=max_length)
    figures = {"metric": "perplexity", **asdict(found)}
    write_json(file, {"identity": identity, "figures": figures})
    return figures


def _win_rate(options: WinRateOptions, answers: Sequence[Generation], model_id: str, folder: Path) -> dict[str, Any]:
    from steerclear.evaluation.alpaca_eval import win_rate
    from steerclear.evaluation.annotator import EndpointAnnotator
    from steerclear.evaluation.outputs import outputs_of, read_outputs

    asked = options.comparison
    annotator = EndpointAnnotator(
        Endpoint(options.annotator),
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        logprobs=asked.logprobs,
    )
    reference = read_outputs(Path(asked.reference))
    found = win_rate(outputs_of(answers, f"steerclear-{sha256_of(model_id)[:12]}"), reference, annotator, folder, asked)
    return {"metric": "win_rate", **asdict(found)}


def _read(files: Iterable[Path]) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
