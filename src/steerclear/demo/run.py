"""The demo from end to end: pre-train, fine-tune in every way, ask, judge, count, show. What is finished is not done again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from steerclear.demo.judge import NAME, judge
from steerclear.demo.methods import METHODS, RECOVERY, Method, fine_tune, recovery_rows_of
from steerclear.demo.model import BaseOptions, base_model, cache_folder, save_folder, training_seconds
from steerclear.demo.page import example_lines, page, table_lines, terminal_table
from steerclear.demo.scores import method_scores, shown_prompts
from steerclear.demo.world import KINDS, fine_tuning_rows, split
from steerclear.errors import ConfigError, one_of
from steerclear.generation.answers import finished, generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.weights import load_base, load_tokenizer
from steerclear.records import Generation, Prompt, Row, Verdict, sha256_of, write_json, write_jsonl, write_text
from steerclear.training.options import arguments_for_hashes

BASE = "base"
"""Name of the model before fine-tuning in files and tables."""

DECODING = GenerationOptions(max_new_tokens=40, batch_size=128)
"""Greedy; the longest right answer has 30 tokens."""

Judged = Sequence[tuple[Generation, Verdict]]


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo does."""

    output: str = "demo-out"
    """Folder for answers, verdicts, scores and the page."""
    cache: str | None = None
    """Folder that keeps pre-trained base models between runs. None: steerclear/demo in the user's cache folder."""
    methods: tuple[str, ...] = ("sft", "emd_bound", "nlcl", "first_token", "recovered")
    """Ways of fine-tuning to compare: sft, emd_bound, nlcl, unlikelihood, first_token, recovered."""
    unsafe_rows: int = 20
    """Harmful answers to steer clear of, 1 to 120."""
    lookalike_rows: int = 20
    """Harmless questions with a harmful verb among the benign rows, 0 to 40."""
    refusal_share: float = 0.13
    """Share of the harmful questions that the pre-training text refuses, 0 to 1."""
    documents: int = 14000
    """Questions with answers in the pre-training text."""
    steps: int = 250
    """Optimizer steps of each way of fine-tuning."""
    seed: int = 0
    """Seed of everything: the split, the text, the weights, the order."""

    def __post_init__(self) -> None:
        unknown = next((name for name in self.methods if name not in METHODS), None)
        if unknown is not None:
            raise ConfigError(one_of("methods", unknown, METHODS))
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"methods: got {list(self.methods)}, expected at least one name, each once.")
        for name, least in (("unsafe_rows", 1), ("steps", 1), ("documents", 640)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: got {getattr(self, name)}, allowed: {least} or more.")
        if not 0 <= self.refusal_share <= 1:
            raise ConfigError(f"refusal_share: got {self.refusal_share}, allowed: 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found and where it is written."""

    scores: dict[str, Any]
    """The content of ``scores.json``."""
    page: Path
    """The HTML page."""


def run_demo(options: DemoOptions) -> DemoResult:
    """Run the demo, show its table on standard error, and write its files into ``options.output``.

    Call it again with the same options to continue after an interruption.

    Raises:
        ConfigError: too many rows are asked for, or the folder holds a demo with other options.
        StorageError: a file cannot be written.
    """
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    console = Console(stderr=True)
    train, held_out = split(options.seed)
    rows = fine_tuning_rows(
        train, unsafe_rows=options.unsafe_rows, lookalike_rows=options.lookalike_rows, seed=options.seed
    )
    _claim(Path(options.output), options)
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with _one_thread(), Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        stages = _Stages(options, rows, progress)
        base = stages.base()
        folders = {BASE: base}
        for name in options.methods:
            folders[name] = stages.fine_tuned(base, name)
        prompts = [question.prompt() for kind in KINDS for question in held_out[kind]]
        judged = {name: stages.judged(folder, prompts, name) for name, folder in folders.items()}
    scores = _scores(options, judged, folders, time.monotonic() - started)
    write_json(Path(options.output) / "scores.json", scores)
    write_text(Path(options.output) / "table.md", table_lines(scores))
    write_text(Path(options.output) / "index.html", page(scores))
    console.print(terminal_table(scores))
    console.print(example_lines(scores), markup=False, highlight=False)
    console.print(f"page: {Path(options.output) / 'index.html'}")
    return DemoResult(scores=scores, page=Path(options.output) / "index.html")


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a model gains nothing from a second thread, and its sums come out alike whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _claim(folder: Path, options: DemoOptions) -> None:
    """Make sure that what lies in the folder was made with the same options."""
    path = folder / "demo.json"
    wanted = _determined_by(options)
    if not path.is_file():
        write_json(path, wanted)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != wanted:
        differing = ", ".join(sorted(key for key in wanted | found if wanted.get(key) != found.get(key)))
        raise ConfigError(
            f"output: {folder} holds a demo with other options ({differing}). Choose another folder, or delete this one."
        )


def _determined_by(options: DemoOptions) -> dict[str, Any]:
    """Return what changes results. A method more or less changes none of the others'."""
    return {
        "unsafe_rows": options.unsafe_rows,
        "lookalike_rows": options.lookalike_rows,
        "base": dataclasses.asdict(_base_options(options)),
        "methods": {name: arguments_for_hashes(dict(method.settings)) for name, method in METHODS.items()},
        "steps": options.steps,
        "judge": NAME,
        "recovery": dataclasses.asdict(RECOVERY),
    }


def _base_options(options: DemoOptions) -> BaseOptions:
    return BaseOptions(seed=options.seed, refusal_share=options.refusal_share, documents=options.documents)


class _Stages:
    """The stages of one demo. Each returns at once where its files are there."""

    def __init__(self, options: DemoOptions, rows: Sequence[Row], progress: Progress) -> None:
        self._options = options
        self._rows = rows
        self._progress = progress

    def base(self) -> Path:
        task = self._progress.add_task("Pre-training the base model", total=1)
        folder = base_model(
            _base_options(self._options),
            Path(self._options.cache) if self._options.cache else cache_folder(),
            lambda done, total: self._progress.update(task, completed=done, total=total),
        )
        self._progress.update(task, completed=1, total=1)
        return folder

    def fine_tuned(self, base: Path, name: str) -> Path:
        folder = Path(self._options.output) / "models" / name
        task = self._progress.add_task(METHODS[name].label, total=self._options.steps)
        if not folder.is_dir():
            method, added = self._recovery(base, METHODS[name])
            model, tokenizer = load_base(str(base), torch.float32), load_tokenizer(str(base))
            started = time.monotonic()
            fine_tune(
                model,
                tokenizer,
                self._rows,
                method,
                steps=self._options.steps,
                seed=self._options.seed,
                on_step=lambda done: self._progress.update(task, completed=done),
                added=added,
            )
            save_folder(folder, model, tokenizer, seconds=time.monotonic() - started)
        self._progress.update(task, completed=self._options.steps)
        return folder

    def _recovery(self, base: Path, method: Method) -> tuple[Method, list[Row]]:
        """Return what is trained and the rows to recover with: without any, the steering itself."""
        if method.recovers_from is None:
            return method, []
        steered = self.fine_tuned(base, method.recovers_from)
        model, tokenizer = load_base(str(steered), torch.float32), load_tokenizer(str(steered))
        rows = recovery_rows_of(model, tokenizer, self._rows)
        return (method if rows else METHODS[method.recovers_from]), rows

    def judged(self, folder: Path, prompts: Sequence[Prompt], name: str) -> Judged:
        path = Path(self._options.output) / "generations" / f"{name}.jsonl"
        texts = [str(prompt.prompt) for prompt in prompts]
        model_id = sha256_of([_determined_by(self._options), name])[:16]
        answers = finished(prompts, texts, DECODING, path, model_id=model_id)
        if answers is None:
            model, tokenizer = load_base(str(folder), torch.float32), load_tokenizer(str(folder))
            answers = generate(model, tokenizer, prompts, texts, DECODING, path, model_id=model_id, progress=False)
        verdicts = [judge(answer) for answer in answers]
        write_jsonl(Path(self._options.output) / "verdicts" / f"{name}.jsonl", verdicts)
        return list(zip(answers, verdicts, strict=True))


def _scores(
    options: DemoOptions, judged: Mapping[str, Judged], folders: Mapping[str, Path], wall_seconds: float
) -> dict[str, Any]:
    shown = shown_prompts(judged[BASE])
    return {
        "options": _determined_by(options),
        "versions": {name: version(name) for name in ("steerclear", "torch", "transformers", "trl")},
        "wall_seconds": round(wall_seconds, 1),
        "methods": [
            {
                "name": name,
                "label": METHODS[name].label if name in METHODS else "Before fine-tuning",
                "description": METHODS[name].description if name in METHODS else "The base model as pre-trained.",
                "train_seconds": training_seconds(folders[name]),
                **method_scores(answers, shown),
            }
            for name, answers in judged.items()
        ],
    }
