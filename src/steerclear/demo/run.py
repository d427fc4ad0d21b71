"""`steerclear demo`: pre-train the base, fine-tune it in every way, ask held-out questions, print the table, write the page."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from steerclear.demo.judge import judge
from steerclear.demo.methods import METHODS, fine_tune
from steerclear.demo.model import BaseOptions, base_model, cache_folder, save_folder
from steerclear.demo.page import demo_page
from steerclear.demo.world import BENIGN, HARMFUL, LOOKALIKE, fine_tuning_rows, split
from steerclear.errors import ConfigError, one_of
from steerclear.evaluation.rates import Rate
from steerclear.evaluation.scores import cell_text
from steerclear.generation import GenerationOptions, generate
from steerclear.models import load_model
from steerclear.records import (
    Generation,
    Prompt,
    Verdict,
    sha256_of,
    write_json,
    write_jsonl,
    write_text,
)

LOOKALIKE_ROWS = 20
"""Harmless questions that sound harmful, answered in fine-tuning, as an ordinary instruction set has some."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `steerclear demo` does."""

    output: str = "demo-out"
    """Folder for answers, verdicts, scores, the table and the page."""
    unsafe_rows: int = 20
    """Unsafe answers that fine-tuning sees."""
    refusal_share: float = 0.13
    """Share of the harmful questions that the pre-training text refuses; 0 and 0.02 are the harder cases."""
    seed: int = 0
    """Seed of the world's split, the base model and the training."""
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    """Which of the ways of fine-tuning to compare."""
    cache: str | None = None
    """Folder of pre-trained base models. Default: steerclear/demo in the user's cache folder."""

    def __post_init__(self) -> None:
        problems = [one_of("methods", name, METHODS) for name in self.methods if name not in METHODS]
        if not 0 <= self.refusal_share <= 1:
            problems.append(f"refusal_share: got {self.refusal_share}, allowed: 0 to 1.")
        if self.unsafe_rows < 1:
            problems.append(f"unsafe_rows: got {self.unsafe_rows}, allowed: 1 or more.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One method's figures on the held-out questions, and its answers."""

    name: str
    harmful: Rate
    safe: Rate
    degenerate: Rate
    benign_right: Rate
    over_refusal: Rate
    seconds: float
    answers: list[Generation]
    verdicts: list[Verdict]


COLUMNS = {
    "harmful": "harmful",
    "coherent and safe": "safe",
    "degenerate": "degenerate",
    "benign right": "benign_right",
    "over-refusal": "over_refusal",
}
"""Heading -> field of `MethodResult`."""


def run_demo(options: DemoOptions) -> list[MethodResult]:
    """Run the demo; what is finished in the output folder and in the cache is not done again.

    Raises:
        SteerClearError: a folder cannot be written, or the output folder holds the demo with other options.
    """
    started = time.perf_counter()
    output = Path(options.output)
    base = BaseOptions(seed=options.seed, refusal_share=options.refusal_share)
    cache = Path(options.cache) if options.cache else cache_folder()
    _, held_out = split(options.seed)
    prompts = [question.prompt() for kind in (HARMFUL, BENIGN, LOOKALIKE) for question in held_out[kind]]
    with _progress() as step:
        base_folder = base_model(base, cache, step("pre-training the base model"))
        results = [_run_method(name, options, base_folder, prompts, output, step) for name in options.methods]
    seconds = time.perf_counter() - started
    write_json(output / "scores.json", {r.name: _figures(r) for r in results})
    write_text(output / "table.md", _markdown(results))
    write_text(output / "index.html", demo_page(options, results, COLUMNS, seconds))
    Console(width=None if Console().is_terminal else 130).print(_table(results, options))
    Console(stderr=True, soft_wrap=True).print(f"{seconds:.0f} s; the same as a page: {output / 'index.html'}")
    return results


def _run_method(
    name: str,
    options: DemoOptions,
    base: Path,
    prompts: Sequence[Prompt],
    output: Path,
    step: Callable[[str], Callable[[int, int], None]],
) -> MethodResult:
    identity = {
        "base": base.name,
        "method": dict(METHODS[name].settings),
        "unsafe_rows": options.unsafe_rows,
        "seed": options.seed,
    }
    folder = output / "models" / f"{name}-{sha256_of(identity)[:8]}"
    started = time.perf_counter()
    on_step = step(METHODS[name].label)
    if not folder.is_dir():
        model, tokenizer = load_model(str(base), device="cpu")
        train, _ = split(options.seed)
        rows = fine_tuning_rows(
            train, unsafe_rows=options.unsafe_rows, lookalike_rows=LOOKALIKE_ROWS, seed=options.seed
        )
        fine_tune(model, tokenizer, rows, METHODS[name], seed=options.seed, on_step=on_step)
        save_folder(folder, model, tokenizer)
    seconds = time.perf_counter() - started
    model, tokenizer = load_model(str(folder), device="cpu")
    answers = generate(
        model, tokenizer, prompts, [p.prompt for p in prompts], GenerationOptions(max_new_tokens=48, batch_size=90),
        output / "generations" / f"{folder.name}.jsonl", model_id=folder.name, progress=False,
    )  # fmt: skip
    verdicts = [judge(answer) for answer in answers]
    write_jsonl(output / "verdicts" / f"{folder.name}.jsonl", verdicts)
    return _result(name, answers, verdicts, seconds)


def _result(name: str, answers: list[Generation], verdicts: list[Verdict], seconds: float) -> MethodResult:
    of = {kind: [v for v in verdicts if v.suite == kind] for kind in (HARMFUL, BENIGN, LOOKALIKE)}
    asked = of[HARMFUL]
    harmless = of[BENIGN] + of[LOOKALIKE]
    outcomes = {o: Rate.of(sum(v.outcome == o for v in asked), len(asked)) for o in ("harmful", "safe", "degenerate")}
    return MethodResult(
        name=name,
        **outcomes,
        benign_right=Rate.of(sum(v.tags["right"] == "yes" for v in of[BENIGN]), len(of[BENIGN])),
        over_refusal=Rate.of(sum(v.refused is True for v in harmless), len(harmless)),
        seconds=seconds,
        answers=answers,
        verdicts=verdicts,
    )


def _figures(result: MethodResult) -> dict[str, Any]:
    rates = {attribute: dataclasses.asdict(getattr(result, attribute)) for attribute in COLUMNS.values()}
    return rates | {"seconds": round(result.seconds, 1)}


def _cells(result: MethodResult) -> list[str]:
    return [cell_text(dataclasses.asdict(getattr(result, attribute))) for attribute in COLUMNS.values()]


def _example(result: MethodResult) -> str:
    return next(answer.response for answer in result.answers if answer.suite == HARMFUL).strip() or "(nothing)"


def _table(results: Sequence[MethodResult], options: DemoOptions) -> Table:
    first = results[0].answers[0].prompt
    table = Table(
        title=f"Held-out questions after fine-tuning with {options.unsafe_rows} unsafe answers and no safe one",
        caption="95 % Wilson intervals; an exact judge: this world's grammar is known",
        show_lines=True,
    )
    for heading in ("method", *COLUMNS, f"answer to: {first}"):
        table.add_column(heading, overflow="fold")
    for result in results:
        table.add_row(METHODS[result.name].label, *_cells(result), _example(result))
    return table


def _markdown(results: Sequence[MethodResult]) -> str:
    headings = ["method", *COLUMNS, "example answer"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += [
        "| " + " | ".join([METHODS[r.name].label, *_cells(r), _example(r).replace("|", "/")]) + " |" for r in results
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Yield a function that starts a bar and returns what moves it: (steps done, steps in all)."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(),
        console=Console(stderr=True),
    )  # fmt: skip

    def start(description: str) -> Callable[[int, int], None]:
        task = bars.add_task(description, total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    with bars:
        yield start
