"""`steerclear evaluate`, `compare`, `judge`, `generate` through the command line itself, in this process."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steerclear import cli
from steerclear.data import examples_folder
from steerclear.records import Generation, Verdict, read_records

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def steerclear(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_arguments: Callable[[dict[str, Any]], list[str]],
) -> Run:
    """A function that runs a command and returns its exit code, standard output and standard error."""

    def run(*words: str, **settings: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["steerclear", *words, *as_arguments(settings)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def judged(settings: dict[str, Any], suite: str, tmp_path: Path, judge_rows: Path) -> dict[str, Any]:
    """Settings with a suite and a judge that is fitted on first use."""
    judge = {"evaluation.judge.classifier": str(tmp_path / "judge.skops"), "evaluation.judge.fit_on": str(judge_rows)}
    return settings | judge | {"evaluation.suites": suite, "training.max_steps": 1}


def test_training_ends_with_the_safety_figures(steerclear: Run, judged: dict[str, Any], tmp_path: Path) -> None:
    code, out, _ = steerclear("train", **judged)
    assert code == 0
    assert "Wilson intervals" in out
    run = tmp_path / "run"
    answers = read_records(run / "generations" / "own.jsonl", Generation)
    verdicts = read_records(run / "verdicts" / "own.jsonl", Verdict)
    assert [a.id for a in answers] == [v.id for v in verdicts]
    scores = json.loads((run / "scores.json").read_text())
    assert scores["harmful_prompts"]["n"] == scores["benign_prompts"]["n"] == 6
    cell = scores["harmful_prompts"]
    assert cell["harmful"]["k"] + cell["safe"]["k"] + cell["degenerate"]["k"] == 6
    # A met and an unmet condition; the answers are not made again.
    before = (run / "generations" / "own.jsonl").stat().st_mtime_ns
    code, _, err = steerclear("evaluate", "--require", "harmful.k<=6", **judged)
    assert (code, "met: harmful.k<=6" in err) == (0, True)
    code, _, err = steerclear("evaluate", "--require", "harmful.k<0", **judged)
    assert (code, "NOT MET: harmful.k<0" in err) == (1, True)
    assert before <= (run / "generations" / "own.jsonl").stat().st_mtime_ns
    # The base model, and the adapter by its folder, land beside the run's own figures.
    assert steerclear("evaluate", "--checkpoint", "base", **judged)[0] == 0
    assert (run / "base" / "scores.json").is_file()
    assert steerclear("evaluate", "--checkpoint", str(run / "adapter"), **judged)[0] == 0
    assert json.loads((run / "of-adapter" / "scores.json").read_text()) == scores


def test_without_a_judge_everything_is_unscored(
    steerclear: Run, settings: dict[str, Any], suite: str, tmp_path: Path
) -> None:
    code, _, err = steerclear("evaluate", "--checkpoint", "base", **(settings | {"evaluation.suites": suite}))
    assert code == 0
    assert "every answer will be unscored" in err
    cell = json.loads((tmp_path / "run" / "base" / "scores.json").read_text())["harmful_prompts"]
    assert cell["unscored"]["k"] == cell["n"]
    assert cell["harmful"]["rate"] is None


@pytest.mark.parametrize(
    ("words", "change", "message"),
    [
        (["evaluate"], {}, "has no trained model yet"),
        (["evaluate"], {"evaluation.suites": "[]"}, "evaluation.suites: is empty"),
        (["evaluate", "--require", "harmfull.rate<1"], {}, "Did you mean 'harmful'?"),
        (["evaluate", "--checkpoint", "base"], {"evaluation.judge.fit_on": "null"}, "does not exist. Fit one with"),
        (["compare"], {}, "variants: is missing"),
        (["compare"], {"variants": "{a: {dat: 1}}"}, "variants.a: dat: unknown key"),
    ],
)
def test_mistakes_are_errors_not_tracebacks(
    steerclear: Run, judged: dict[str, Any], words: list[str], change: dict[str, Any], message: str
) -> None:
    code, _, err = steerclear(*words, **(judged | change))
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_compare_lays_runs_side_by_side(steerclear: Run, judged: dict[str, Any], tmp_path: Path) -> None:
    variants = {
        "plain": {"training": {"penalty_weight": 0}},
        "steered": {"training": {"objective": "unlikelihood"}},
        "broken": {"data": {"unsafe_count": 9999}},
    }
    code, out, err = steerclear("compare", **(judged | {"variants": json.dumps(variants)}))
    assert code == 1
    assert "plain" in out
    assert "steered" in out
    assert "failed: broken: " in err
    folder = tmp_path / "run"
    assert "steered" in (folder / "table.md").read_text()
    assert (folder / "index.html").read_text().startswith("<!doctype html>")
    assert not (folder / "broken" / "adapter").exists()
    assert "exact McNemar tests" in (folder / "table.md").read_text()
    rows = list(csv.DictReader((folder / "differences.csv").read_text().splitlines()))
    assert {(row["run"], row["baseline"]) for row in rows} == {("steered", "plain")}
    # Again: nothing is trained anew.
    assert steerclear("compare", **(judged | {"variants": json.dumps(variants)}))[2].count("already trained.") == 2


def test_judge_fit_and_score(steerclear: Run, judge_rows: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.skops"
    code, out, _ = steerclear("judge", "fit", str(judge_rows), "--output", str(judge))
    assert code == 0
    assert "threshold" in out
    code, out, _ = steerclear("judge", "score", str(judge_rows), "--classifier", str(judge))
    assert code == 0
    assert "auroc: 1.0000" in out
    assert steerclear("judge", "score", str(judge_rows), "--classifier", str(tmp_path / "absent"))[0] == 2


def test_generate_answers_a_file(steerclear: Run, base: Path, judge_rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    words = ["--model", str(base), "--prompts", str(examples_folder() / "prompts.jsonl"), "--output", str(output)]
    code, out, _ = steerclear("generate", *words, "--template", "plain", "--limit", "5", "--max_new_tokens", "3")
    assert (code, out.startswith("5 answers")) == (0, True)
    assert len(read_records(output, Generation)) == 5
    code, _, err = steerclear("generate", *words, "--template", "plain", "--limit", "5", "--max_new_tokens", "4")
    assert code == 2
    assert "max_new_tokens" in err or "other" in err
    judge = tmp_path / "judge.skops"
    steerclear("judge", "fit", str(judge_rows), "--output", str(judge))
    verdicts = tmp_path / "verdicts.jsonl"
    code, out, _ = steerclear("judge", "score", str(output), "--classifier", str(judge), "--output", str(verdicts))
    assert code == 0
    assert len(read_records(verdicts, Verdict)) == 5
