"""`steerclear report` through the command line: which runs it finds in which folders, and what it says of them."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from steerclear.data import examples_folder
from steerclear.evaluation.results import points_of
from steerclear.report.settings import settings_of
from steerclear.store.runs import RunFolder

Run = Callable[..., tuple[int, str, str]]
"""What the fixture `steerclear` is."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def made_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `steerclear sweep` leaves it, of six cells: three configurations under two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        made: Any = importlib.import_module("report_folders")
    size = made.Size(runs=6, prompts=40, words=5, steps=1)
    return Path(made.make_sweep(tmp_path_factory.mktemp("made") / "grid", size, seeds=(0, 1)))


@pytest.fixture
def sweep(made_sweep: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made_sweep, tmp_path / "grid"))


def runs_of(page: Path) -> list[str]:
    rows = csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text()))
    return list(dict.fromkeys(row["run"] for row in rows))


def cells(sweep: Path) -> list[Path]:
    return [sweep / "cells" / cell for cell in json.loads((sweep / "sweep.json").read_text())["cells"]]


def test_a_sweep_in_its_order_with_what_is_missing(steerclear: Run, sweep: Path, tmp_path: Path) -> None:
    first, second, third, *_ = cells(sweep)
    (first / "status.json").write_text(json.dumps({"stage": "failed", "error": "the disk is full <b>"}))
    (second / "scores.json").unlink()
    (second / "status.json").write_text(json.dumps({"stage": "judge"}))
    (third / "scores.json").unlink()
    page = tmp_path / "out" / "page.html"
    code, _, err = steerclear("report", str(sweep), "--output", str(page))
    assert code == 0, err
    assert "left out: sft/1000/seed-0: failed: the disk is full <b>" in err
    assert "left out: sft/1000/seed-1: not done yet: judge" in err
    assert "left out: sft/500/seed-0: trained, but not evaluated" in err
    assert "other cells" not in err
    assert runs_of(page) == ["sft/500/seed-1", "sft/300/seed-0", "sft/300/seed-1"]
    assert {path.name for path in page.parent.iterdir()} == {"page.html", "page.md", "page.csv", "page.tex"}
    markdown = page.with_suffix(".md").read_text()
    assert markdown.startswith("# data efficiency\n")
    assert "| sft/1000/seed-0 | failed: the disk is full &lt;b> |" in markdown
    assert "Over seeds and prompts at once" in markdown
    before = page.read_bytes()
    assert steerclear("report", str(sweep), "--output", str(page))[0] == 0
    assert page.read_bytes() == before


def test_a_sweep_is_the_cells_that_it_lists(steerclear: Run, sweep: Path, tmp_path: Path) -> None:
    about = json.loads((sweep / "sweep.json").read_text())
    first, second, third, *_ = about["cells"]
    shutil.copy(sweep / "cells" / second / "cell.json", sweep / "cells" / first / "cell.json")  # of the same name
    (sweep / "cells" / third / "cell.json").write_text("of another version")
    (sweep / "sweep.json").write_text(json.dumps(about | {"cells": [*about["cells"][3:], second, "0123456789ab"]}))
    page = tmp_path / "page.html"
    code, _, err = steerclear("report", str(sweep), "--output", str(page))
    assert code == 0, err
    assert runs_of(page) == ["sft/500/seed-1", "sft/300/seed-0", "sft/300/seed-1", "sft/1000/seed-1"]
    assert f"left out: other cells: not in sweep.json: {', '.join(sorted([first, third]))}" in err
    assert "left out: 0123456789ab: not begun" in err
    assert f"other cells | not in sweep.json: {min(first, third)}" in page.with_suffix(".md").read_text()


def test_a_folder_of_sweeps_has_their_cells_names(steerclear: Run, sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "all" / "one")
    shutil.copytree(sweep, tmp_path / "all" / "more" / "two")
    page = tmp_path / "page.html"
    code, _, err = steerclear("report", str(tmp_path / "all"), "--output", str(page))
    assert code == 0, err
    assert runs_of(page)[::6] == ["more/two/sft/1000/seed-0", "one/sft/1000/seed-0"]
    assert "| more/two/sft/1000 | harmful | 2 | " in page.with_suffix(".md").read_text()


def test_folder_names_stay_on_this_machine(steerclear: Run, sweep: Path, tmp_path: Path) -> None:
    first, *_ = cells(sweep)
    reason = "/home/me/data set/x.jsonl:3: not JSON, see '/srv/logs/run.log' or https://host/a/b"
    (first / "status.json").write_text(json.dumps({"stage": "failed", "error": reason}))
    page = tmp_path / "page.html"
    code, _, err = steerclear("report", str(sweep), "--output", str(page))
    assert code == 0, err
    assert "left out: sft/1000/seed-0: failed: data set/x.jsonl:3: not JSON, see 'run.log' or https://host/a/b" in err
    assert "/srv/logs" not in page.with_suffix(".md").read_text() + page.read_text()


def test_settings_are_those_of_the_scores_without_folders(sweep: Path) -> None:
    folder = cells(sweep)[0]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = {"unsafe": ["../one/rows.jsonl", "two/rows.jsonl"], "benign": "owner/name"}
    trained_with = {"evaluation": {"judge": {"classifier": "old.skops"}}, "data": data}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | trained_with))
    manifest = json.loads((folder / "manifest.json").read_text())
    [benign, unsafe] = manifest["sources"]
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"sources": [benign, unsafe, unsafe | {"rows_kept": 7}]})
    )
    without = settings_of(RunFolder(folder))
    assert not any(name.startswith("evaluation.") for name in without)
    assert (without["data.unsafe"], without["data.benign"]) == ("rows.jsonl, rows.jsonl", "owner/name")
    assert without["model.path"] == "base-7b"  # its fingerprint says that it is a folder
    assert without["data.unsafe file unsafe.jsonl"].endswith("21000 of 21000 rows")
    assert without["data.unsafe 2 file unsafe.jsonl"].endswith("7 of 21000 rows")
    suite = {"name": "own", "card": "safety_518", "data": "in/a/folder", "prefill": "Sure / here"}
    judge = {"classifier": "runs/new.skops", "guard": {"model": "Qwen/Qwen3Guard-Gen-0.6B"}}
    (folder / "evaluation.yaml").write_text(yaml.safe_dump({"judge": judge, "suites": [suite]}))
    found = settings_of(RunFolder(folder))
    assert {name: value for name, value in found.items() if name not in without} == {
        "evaluation.judge.classifier": "new.skops", "evaluation.judge.guard.model": "Qwen/Qwen3Guard-Gen-0.6B",
        "evaluation.suites.own.name": "own", "evaluation.suites.own.card": "safety_518",
        "evaluation.suites.own.data": "folder", "evaluation.suites.own.prefill": "Sure / here",
    }  # fmt: skip
    record = json.loads((folder / "record.json").read_text())
    record["identity"]["model"] = "example/base-7b"
    (folder / "record.json").write_text(json.dumps(record))
    assert settings_of(RunFolder(folder))["model.path"] == "example/base-7b"


def test_a_guard_that_stopped_a_training_set_its_end(sweep: Path) -> None:
    folder = cells(sweep)[0]
    shutil.copytree(folder / "along" / "step-300", folder / "along" / "step-500")
    record = json.loads((folder / "record.json").read_text())
    record["stages"]["train"]["guard"] = {"kept_step": 300}
    (folder / "record.json").write_text(json.dumps(record))
    points = points_of(RunFolder(folder))
    assert [point.step for point in points] == [0, 300, 500]
    assert points[1].path == str(folder / "adapter")
    assert RunFolder(folder).step() == 300
    assert RunFolder(folder / "base").step() is None


def test_a_folder_of_runs_and_several_folders(steerclear: Run, sweep: Path, tmp_path: Path) -> None:
    compared = tmp_path / "compared"
    for name, cell in zip(("emd/seed-0", "emd/seed-1", "sft"), cells(sweep), strict=False):
        shutil.copytree(cell, compared / name)
        (compared / name / "cell.json").unlink()
    page = tmp_path / "report.html"
    code, _, err = steerclear("report", str(compared), str(sweep), "--output", str(page), "--baseline", "emd/seed-1")
    assert code == 0, err
    assert runs_of(page)[:3] == ["emd/seed-0", "emd/seed-1", "sft"]
    assert len(runs_of(page)) == 9
    code, _, err = steerclear("report", str(compared), "--output", str(page), "--title", "Mine")
    assert code == 0, err
    assert page.with_suffix(".md").read_text().startswith("# Mine\n")
    # The same folder twice has no names of its own; another copy has.
    assert (
        "two runs are called 'compared/" in steerclear("report", str(compared), str(compared), "--output", str(page))[2]
    )
    other = shutil.copytree(compared, tmp_path / "again")
    assert steerclear("report", str(compared), str(other), "--output", str(page))[0] == 0
    assert runs_of(page)[::3] == ["compared/emd/seed-0", "again/emd/seed-0"]
    # Seeds of two folders are not those of one configuration, whatever the folders' other runs are called.
    (other / "emd" / "seed-0").rename(other / "emd" / "seed-7")
    shutil.rmtree(other / "emd" / "seed-1")
    alone = shutil.copytree(compared / "sft", tmp_path / "emd")
    shutil.rmtree(alone / "base")
    shutil.rmtree(other / "sft")
    assert steerclear("report", str(compared), str(other), str(alone), "--output", str(page))[0] == 0
    assert runs_of(page) == [
        "compared/emd/seed-0", "compared/emd/seed-1", "compared/sft", "again/emd/seed-7", "emd/emd",
    ]  # fmt: skip


def changed(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A function that changes a folder's JSON file, or the lines of a JSONL file, in place."""

    def apply(folder: Path) -> None:
        text = (folder / name).read_text()
        values = [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else [json.loads(text)]
        for value in values:
            change(value)
        (folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))

    return apply


def rejudged(folder: Path) -> None:
    for file in (folder / "verdicts").iterdir():
        changed(f"verdicts/{file.name}", lambda verdict: verdict.update(judge="another judge"))(folder)


def without_first_line(folder: Path) -> None:
    file = folder / "verdicts" / "xstest.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


BREAK: dict[str, Callable[[Path], Any]] = {
    "untrained": lambda folder: (folder / "scores.json").unlink(),
    "demo": lambda folder: (folder / "scores.json").write_text("{}"),
    "mixed": without_first_line,
    "old": changed("record.json", lambda record: record["stages"]["train"].pop("steps")),
    "torn": lambda folder: (folder / "scores.json").write_text('{"judges"'),
    "hollow": changed("scores.json", lambda scores: scores.update(harmful_prompts={})),
    "unlike": changed("scores.json", lambda scores: scores["quality"]["alpaca_heldout"].pop("perplexity")),
    "unsettled": lambda folder: (folder / "config.yaml").write_text("model: {path: ["),
    "stageless": lambda folder: (folder / "status.json").write_text("[]"),
    "recounted": changed("verdicts/xstest.jsonl", lambda verdict: verdict.update(outcome="harmful")),
    "rejudged": rejudged,
    "no-cells": changed("sweep.json", lambda sweep: sweep.pop("cells")),
    "no-name": changed("sweep.json", lambda sweep: sweep.pop("name")),
    "no-cell": lambda folder: [(cell / "cell.json").write_text("{}") for cell in cells(folder)],
}
"""Name of a folder of the next test -> how it is broken."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: is no folder"),
        (["empty"], "empty: has no run"),
        (["grid", "--baseline", "sft/1000/seed-3"], "baseline: got 'sft/1000/seed-3', allowed: sft/1000/seed-0"),
        (["grid", "--output", "page.pdf"], "allowed: a file that ends in .html"),
        (["grid", "--max-degenerate", "2"], "degenerate: got 2.0, allowed: a rate from 0 to 1"),
        (["untrained"], "no run in these folders is evaluated"),
        (["demo"], "not the scores of 'steerclear evaluate'"),
        (["mixed"], "answers and verdicts of 'xstest' are not of the same prompts"),
        (["old"], "old: a file in it is broken, or not of this version (KeyError: 'steps')"),
        (["torn"], "scores.json: not valid JSON"),
        (["hollow"], "the scores of 'steerclear evaluate': harmful_prompts.n: is missing"),
        (["unlike"], "the scores of 'steerclear evaluate': quality.alpaca_heldout.perplexity: is missing"),
        (["unsettled"], "unsettled: a file in it is broken, or not of this version (ParserError"),
        (["stageless"], "stageless: a file in it is broken, or not of this version (AttributeError"),
        (["recounted"], "recounted: the scores of 'xstest' are not those of its verdicts. Evaluate it again."),
        (["rejudged"], "the scores are by classifier-example, the verdicts by another judge. Evaluate it again."),
        (["no-cells"], "no-cells: a file in it is broken, or not of this version (KeyError: 'cells')"),
        (["no-name"], "no-name: a file in it is broken, or not of this version (KeyError: 'name')"),
        (["no-cell"], "no-cell: a file in it is broken, or not of this version (KeyError: 'name')"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_are_errors_not_tracebacks(
    steerclear: Run, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    cell = cells(sweep)[0]
    if arguments[0].startswith("no-"):
        sweep.rename(tmp_path / arguments[0])
    if not arguments[0].startswith(("nowhere", "empty", "grid", "no-")):
        shutil.copytree(cell, tmp_path / arguments[0])
        shutil.rmtree(tmp_path / arguments[0] / "base")
    if arguments[0] in BREAK:
        BREAK[arguments[0]](tmp_path / arguments[0])
    code, _, err = steerclear("report", *arguments)
    assert (code, message in err) == (2, True), err
    assert "Traceback" not in err


def test_a_real_run_has_its_base_its_curve_and_a_model_card(
    steerclear: Run, settings: dict[str, Any], suite: str, judge_rows: Path, tmp_path: Path
) -> None:
    judge = {"evaluation.judge.classifier": str(tmp_path / "judge.skops"), "evaluation.judge.fit_on": str(judge_rows)}
    whole = settings | judge | {"evaluation.suites": suite, "training.max_steps": 4, "evaluation.every_steps": 2}
    assert steerclear("train", **whole)[0] == 0
    assert steerclear("evaluate", "--checkpoint", "base", **whole)[0] == 0
    page, run = tmp_path / "report.html", tmp_path / "run"
    code, _, err = steerclear("report", str(run), "--output", str(page), "--model-card")
    assert code == 0, err
    assert runs_of(page) == ["base", "run"]
    html = page.read_text()
    assert str(tmp_path) not in html
    assert str(examples_folder()) not in html
    data = json.loads(html.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert data["curves"]["runs"][0]["steps"] == [0, 2, 4]
    assert {"loss", "benign_loss", "penalty", "eval_benign_loss"} & set(data["losses"]["terms"]) >= {"loss", "penalty"}
    card = (run / "adapter" / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["base_model"] == "base"
    assert head["library_name"] == "peft"
    assert head["datasets"] == ["benign.jsonl", "unsafe.jsonl"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert f"rows.unsafe | 12 (sha256 {manifest['sha256']['unsafe'][:12]})" in card
    assert str(tmp_path) not in card
    assert "steered away from unsafe answers" in card
    options = yaml.safe_load((run / "evaluation.yaml").read_text())
    assert options["generation"]["max_new_tokens"] == 4
    assert "evaluation.judge.classifier</dt><dd>judge.skops" in html
    scores = json.loads((run / "scores.json").read_text())["harmful_prompts"]
    assert f"| harmful | {scores['harmful']['k']}/6 = " in card
