"""Multiple-choice benchmarks through lm-evaluation-harness: its own prompts, choices and metrics on local files, no hub.

BoolQ is the harness's ``boolq`` (SuperGLUE's, " no" against " yes"), not the generated forms ``boolq-seq2seq`` and
``super_glue-boolq-t5-prompt``. Documents are converted to the fields of the hub's data sets, which the harness expects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, DataError, did_you_mean
from steerclear.evaluation.cards import Card
from steerclear.evaluation.figures import ChoiceAccuracy
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import sample_ids, suite_objects
from steerclear.records import sha256_of
from steerclear.stats.rates import Rate

Document = dict[str, Any]

_FOLDERS = {"boolq": "super_glue/boolq"}
"""Task -> its folder in the harness where that is not the task's name."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often the choice that the model finds likeliest is the right one."""

    rate: Rate
    """With its Wilson interval."""
    stderr: float | None
    """The harness's standard error."""
    correct: dict[str, bool]
    """Document -> right or not; two runs on the same documents compare by `steerclear.stats.rates.mcnemar`."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """A model on a task, as its file has it."""

    suite: str
    """Name of the suite."""
    card: str
    """Name and version of its card."""
    task: str
    """The harness's task."""
    task_version: str
    """The harness's version of the task."""
    harness: str
    """Version of lm-evaluation-harness."""
    identity: str
    """Hash of what the figures depend on: model, documents, task and versions."""
    n: int
    """Documents."""
    cut: int
    """Documents that are longer than the model's context with one of their choices, and lose their beginning."""
    acc: Accuracy
    """By the log-likelihood of a choice."""
    acc_norm: Accuracy | None
    """By the log-likelihood of a choice over its length in characters. None: the task has no such metric."""

    @property
    def figures(self) -> ChoiceAccuracy:
        """What the scores have of it."""
        return ChoiceAccuracy(
            acc=self.acc.rate,
            acc_norm=None if self.acc_norm is None else self.acc_norm.rate,
            n=self.n,
            cut=self.cut,
            task=self.task,
            task_version=self.task_version,
            harness=self.harness,
        )


def evaluate_task(
    model: Any,
    tokenizer: Any,
    suite: SuiteOptions,
    *,
    model_id: str,
    batch_size: int = 16,
    known: TaskResult | None = None,
    requests: Path | None = None,
) -> TaskResult:
    """Return a model's accuracy on a multiple-choice task, without examples in the prompt (zero-shot).

    A document that is longer than the model's context loses its beginning, as the harness does it. With a ``limit`` a suite
    is a fixed sample of its documents.

    Args:
        model: a causal language model, already loaded, also with an unmerged adapter; it is put into evaluation mode.
        tokenizer: its tokenizer.
        suite: a card of the metric ``multiple_choice``.
        model_id: what names these weights.
        batch_size: sequences in a batch. Changes speed and memory only.
        known: the result of an earlier run; it is returned where it would come out again.
        requests: a file that keeps the likelihoods of an unfinished task, for these weights alone, so that a killed run asks the
            model nothing twice; it is removed when the task is done.

    Raises:
        ConfigError: lm-eval is not installed, the suite is no multiple-choice card, or the harness has no such task.
        DataError: a file is missing or not the card's, or an object lacks a field.
    """
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise ConfigError(
            "multiple_choice suites need lm-evaluation-harness, which is not installed: pip install 'steerclear[quality]'."
        ) from error
    card = _card(suite)
    documents = _documents(suite, card)
    with _quiet():
        config = _task_config(str(card.task))
        about: dict[str, Any] = {
            "suite": suite.name,
            "card": f"{card.name} {card.version}",
            "task": str(card.task),
            "task_version": str(config["metadata"]["version"]),
            "harness": version("lm_eval"),
        }
        identity = sha256_of([model_id, about, documents])
        if known is not None and known.identity == identity:
            return known
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        with _remembering(harness, requests) as remembering:
            figures = _run(remembering, config, documents)
    if requests is not None:
        requests.unlink(missing_ok=True)
    return TaskResult(**about, identity=identity, **figures)


def check_documents(options: SuiteOptions) -> None:
    """Find what is wrong with a suite's documents, without a model.

    Raises:
        ConfigError, DataError: as `evaluate_task`.
    """
    _documents(options, _card(options))


def _card(options: SuiteOptions) -> Card:
    card = options.own_card
    if card is None or card.metric != "multiple_choice":
        found = "a file of prompts" if card is None else f"the metric {card.metric}"
        raise ConfigError(f"{options.name}: got {found}, expected a card of the metric multiple_choice.")
    return card


@contextmanager
def _remembering(harness: Any, requests: Path | None) -> Iterator[Any]:
    """Let the harness look up in a file what it asks the model, and write down what it learns."""
    if requests is None:
        yield harness
        return
    from lm_eval.api.model import CacheHook, CachingLM

    remembering = CachingLM(harness, str(requests))
    try:
        yield remembering
    finally:
        harness.set_cache_hook(CacheHook(None))
        remembering.dbdict.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness from warning of what is meant: a model that is loaded already, a data set of its own."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# ── documents ──


def _boolq(value: Document) -> Document:
    return {"passage": value["passage"], "question": value["question"], "label": int(value["label"])}


def _piqa(value: Document) -> Document:
    return {"goal": value["goal"], "sol1": value["sol1"], "sol2": value["sol2"], "label": int(value["label"])}


def _openbookqa(value: Document) -> Document:
    letters = [chr(ord("A") + place) for place in range(len(value["choices"]))]
    return {
        "question_stem": value["question"],
        "choices": {"text": list(value["choices"]), "label": letters},
        "answerKey": letters[value["label"]],
    }


_CONVERT: dict[str, tuple[str, Callable[[Document], Document]]] = {
    "boolq": ("passage, question, label (true or false)", _boolq),
    "piqa": ("goal, sol1, sol2, label (0 or 1)", _piqa),
    "openbookqa": ("question, choices (a list), label (place of the right one)", _openbookqa),
}
"""Task -> the fields of the local files, and the way from them to those that the harness's task reads. Files for other tasks
have the hub's fields already."""


def _documents(options: SuiteOptions, card: Card) -> list[Document]:
    """Return the suite's documents in the harness's form, each with its id."""
    needs, convert = _CONVERT.get(str(card.task), ("", dict))
    documents = []
    for place, name, value in suite_objects(options, card):
        try:
            converted = convert(value)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(
                f"{place}: got the fields {', '.join(value) or 'none'}; the task {card.task} needs {needs}."
            ) from error
        documents.append({**converted, "id": name})
    if not documents:
        raise DataError(f"{options.card}: has no documents.")
    chosen = sample_ids((document["id"] for document in documents), options.limit)
    return [document for document in documents if document["id"] in chosen]


# ── the harness ──


def _task_config(task: str) -> dict[str, Any]:
    """Return the harness's own configuration of a task.

    Raises:
        ConfigError: it has no such task, or the task is no multiple choice or needs Python code of its own.
    """
    import lm_eval.tasks

    folder = Path(lm_eval.tasks.__file__).parent
    near = folder / _FOLDERS.get(task, task)
    index = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(near)).task_index
    if task not in index:
        index = lm_eval.tasks.TaskManager().task_index  # reads all of its 10,000 files: seconds
    config = index[task].cfg if task in index else None
    if config is None:
        raise ConfigError(
            f"task: got '{task}', which lm-evaluation-harness {version('lm_eval')} does not have.{did_you_mean(task, index)}"
        )
    # Where the YAML says !function, the index has the place of the code as text.
    needs_code = [key for key, value in config.items() if isinstance(value, str) and value.startswith(str(folder))]
    if config.get("output_type") != "multiple_choice" or needs_code:
        reason = f"{', '.join(needs_code)} is Python code" if needs_code else "it is not"
        raise ConfigError(f"task: got '{task}', allowed: a multiple-choice task described by YAML alone; {reason}.")
    return config


def _run(harness: Any, config: Mapping[str, Any], documents: list[Document]) -> dict[str, Any]:
    """Return the figures of a `TaskResult`."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    name = config["task"]
    own = {key: value for key, value in config.items() if key != "tag"}
    local = {
        "custom_dataset": lambda **_: {"test": Dataset.from_list(documents)},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "num_fewshot": 0,
    }
    task = ConfigurableTask(config=own | local)
    task.set_fewshot_seed(0)
    # One document has no standard error, and the harness would divide by zero.
    found = evaluate(harness, {"tasks": {name: task}}, bootstrap_iters=1 if len(documents) > 1 else 0)
    figures, samples = found["results"][name], found["samples"][name]
    return {
        "n": len(samples),
        "cut": sum(any(_is_cut(harness, *asked) for asked in sample["arguments"]) for sample in samples),
        **{metric: _accuracy(metric, figures, samples) for metric in ("acc", "acc_norm")},
    }


def _is_cut(harness: Any, context: str, choice: str) -> bool:
    """Whether the two are longer than what the harness shows the model: its context, and the last token as a target alone."""
    return len(harness.tok_encode(context + choice)) > harness.max_length + 1


def _accuracy(metric: str, figures: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Accuracy | None:
    if f"{metric},none" not in figures:
        return None
    correct = {sample["doc"]["id"]: bool(sample[metric]) for sample in samples}
    stderr = figures.get(f"{metric}_stderr,none")
    return Accuracy(
        rate=Rate.of(sum(correct.values()), len(correct)),
        stderr=float(stderr) if isinstance(stderr, int | float) else None,
        correct=correct,
    )
