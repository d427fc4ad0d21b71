"""`steerclear compare`: train and evaluate the variants of one recipe, and lay their figures side by side."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from steerclear.errors import Log, SteerClearError
from steerclear.evaluation.differences import apart, differences
from steerclear.evaluation.over_seeds import over_seeds
from steerclear.evaluation.results import finished_run, read_answers
from steerclear.experiments.run import Run
from steerclear.recipe.sweep import SEED
from steerclear.recipe.train import Recipe
from steerclear.records import Generation, Verdict, write_text
from steerclear.report.attacks import attacks_markdown
from steerclear.report.comparison import RunScores, comparison_csv, comparison_markdown
from steerclear.report.differences import differences_csv, differences_markdown
from steerclear.report.markdown import markdown_cell
from steerclear.report.opinions import opinions_markdown
from steerclear.report.over_seeds import seeds_csv, seeds_markdown
from steerclear.report.page import comparison_page
from steerclear.report.quality import quality_markdown


def compare(recipes: dict[str, Recipe], output: Path, log: Log) -> tuple[list[RunScores], dict[str, str]]:
    """Train and evaluate every variant that is not finished, and lay them side by side; see `write_comparison`.

    One variant that fails does not stop the others.

    Returns the finished variants, and for each failed one its error's text.
    """
    finished: list[RunScores] = []
    answers: dict[str, list[tuple[Generation, Verdict]]] = {}
    failed: dict[str, str] = {}
    for number, (name, recipe) in enumerate(recipes.items(), start=1):
        log(f"[{number}/{len(recipes)}] {name}")
        try:
            run = Run(recipe, log)
            run.train()
            scores = run.evaluate()
        except SteerClearError as error:
            log(f"{name} failed: {error}")
            failed[name] = str(error)
            continue
        finished.append(finished_run(name, run.output, scores))
        answers[name] = read_answers(run.output)
    if finished:
        write_comparison(finished, answers, output, log)
    return finished, failed


def write_comparison(
    runs: list[RunScores], answers: dict[str, list[tuple[Generation, Verdict]]], output: Path, log: Log
) -> None:
    """Write ``table.md``, ``table.csv``, ``differences.csv`` (paired tests against the first run) and ``index.html``.

    Where the variants ran under several seeds there is ``seeds.csv`` too.
    """
    matched, warnings = apart(answers)
    verdicts = {name: [verdict for _, verdict in pairs] for name, pairs in matched.items()}
    found = differences(verdicts)
    for warning in warnings:
        log(warning)
    told = "".join(f"\n{markdown_cell(warning)}\n" for warning in warnings)
    tables = [
        comparison_markdown(runs) + told, attacks_markdown(runs), quality_markdown(runs), opinions_markdown(runs),
        differences_markdown(found),
    ]  # fmt: skip
    configurations = _configurations(verdicts)
    if configurations:
        figures = over_seeds(configurations)
        tables.insert(1, seeds_markdown(figures))
        write_text(output / "seeds.csv", seeds_csv(figures))
    write_text(output / "table.md", "".join(tables))
    write_text(output / "table.csv", comparison_csv(runs))
    write_text(output / "differences.csv", differences_csv(found))
    write_text(output / "index.html", comparison_page(runs, answers, title=output.name))
    log(f"page: {output / 'index.html'}")


def _configurations(verdicts: dict[str, list[Verdict]]) -> dict[str, dict[int, list[Verdict]]]:
    """Return configuration -> seed -> verdicts, for runs that were made with seeds."""
    configurations: dict[str, dict[int, list[Verdict]]] = defaultdict(dict)
    for name, own in verdicts.items():
        configuration, is_seeded, seed = name.rpartition(SEED)
        if is_seeded and seed.isdecimal():
            configurations[configuration][int(seed)] = own
    return dict(configurations)
