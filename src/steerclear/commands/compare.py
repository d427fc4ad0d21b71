"""`steerclear compare`: train and evaluate the variants of one recipe, and lay their figures side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steerclear.commands.evaluate import evaluate, evaluation_prompts
from steerclear.commands.recipe import Recipe
from steerclear.commands.runs import RunFolder
from steerclear.commands.train import train
from steerclear.errors import SteerClearError
from steerclear.evaluation.differences import differences
from steerclear.records import Generation, Verdict, read_records, write_text
from steerclear.report.comparison import (
    RunScores,
    comparison_csv,
    comparison_markdown,
    differences_csv,
    differences_markdown,
)
from steerclear.report.page import comparison_page

Say = Callable[[str], None]


def compare(recipes: dict[str, Recipe], output: Path, say: Say) -> tuple[list[RunScores], dict[str, str]]:
    """Run every variant that is not finished, and write ``table.md``, ``table.csv``, ``differences.csv`` and ``index.html``.

    One variant that fails does not stop the others. Differences are paired tests against the first variant that finished.

    Returns the finished variants, and for each failed one its error's text.
    """
    finished: list[RunScores] = []
    answers: dict[str, list[tuple[Generation, Verdict]]] = {}
    failed: dict[str, str] = {}
    for number, (name, recipe) in enumerate(recipes.items(), start=1):
        say(f"[{number}/{len(recipes)}] {name}")
        try:
            run = train(recipe, evaluation_prompts(recipe), say)
            scores = evaluate(recipe, say)
        except SteerClearError as error:
            say(f"{name} failed: {error}")
            failed[name] = str(error)
            continue
        trained = run.record()["stages"]["train"]
        finished.append(
            RunScores(
                name=name,
                scores=scores,
                benign_loss=trained["heldout_benign_loss"],
                unsafe_rows=trained["rows"]["unsafe"],
                seconds=trained["seconds"],
            )
        )
        answers[name] = _answers(run, recipe)
    if finished:
        found = differences({name: [verdict for _, verdict in pairs] for name, pairs in answers.items()})
        write_text(output / "table.md", comparison_markdown(finished) + differences_markdown(found))
        write_text(output / "table.csv", comparison_csv(finished))
        write_text(output / "differences.csv", differences_csv(found))
        write_text(output / "index.html", comparison_page(finished, answers, title=output.name))
        say(f"page: {output / 'index.html'}")
    return finished, failed


def _answers(run: RunFolder, recipe: Recipe) -> list[tuple[Generation, Verdict]]:
    pairs = []
    for suite in recipe.evaluation.suites:
        given = read_records(run.path / "generations" / f"{suite.name}.jsonl", Generation)
        judged = read_records(run.path / "verdicts" / f"{suite.name}.jsonl", Verdict)
        pairs += list(zip(given, judged, strict=True))
    return pairs
