"""`steerclear sweep`: cells in processes of their own, what fails, what a kill leaves, what a rerun does."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from steerclear.config import build, merge, override
from steerclear.errors import ConfigError, DataError
from steerclear.experiments.cell import _tell_launch_error, explain
from steerclear.experiments.cells import cells_of
from steerclear.experiments.sweep_progress import Progress
from steerclear.recipe.sweep import SweepRecipe
from steerclear.store.status import Status, read_status, settle, write_status

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tree(settings: dict[str, Any], suite: str, tmp_path: Path, judge_rows: Path) -> dict[str, Any]:
    """A sweep over the rank and the number of unsafe rows."""
    pairs = [(key, value) for key, value in settings.items() if key != "output"]
    judge = {"classifier": str(tmp_path / "judge.skops"), "fit_on": str(judge_rows)}
    recipe = override({}, [*pairs, ("evaluation.suites", json.loads(suite)), ("evaluation.judge", judge)])
    rows = {n: {"data": {"unsafe_count": n}} for n in (12, 6)}
    return {"kind": "sweep", "output": str(tmp_path / "sweep"), "recipe": recipe, "axes": {"rows": rows}}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cells in other processes round as this one does."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    return


def write(tree: dict[str, Any], folder: Path) -> str:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return str(file)


def statuses(output: Path) -> dict[str, dict[str, Any]]:
    """Name of each cell -> its status."""
    names = {folder: json.loads((folder / "cell.json").read_text())["name"] for folder in (output / "cells").iterdir()}
    return {name: json.loads((folder / "status.json").read_text()) for folder, name in names.items()}


def test_what_fails_stops_nothing_else_and_a_rerun_does_only_what_is_missing(
    tree: dict[str, Any], tmp_path: Path, steerclear: Command
) -> None:
    """One cell asks for more memory than any machine has, one for more rows than there are."""
    tree["axes"] = {
        "rank": {"small": None, "huge": {"lora": {"r": 10**11, "target_modules": ["q_proj"]}}},
        "rows": {12: {"data": {"unsafe_count": 12}}, 99: {"data": {"unsafe_count": 99}}},
    }
    tree["changes"] = [{"where": {"rank": "huge", "rows": 99}, "skip": True}]
    code, _, said = steerclear("sweep", write(tree, tmp_path), "--workers", "2")
    assert code == 1
    assert "failed: small/99: data.unsafe_count: " in said
    assert "failed: huge/12: out of memory (" in said
    assert "Lower training.per_device_train_batch_size" in said
    output = tmp_path / "sweep"
    found = statuses(output)
    assert {name: status["stage"] for name, status in found.items()} == {
        "small/12": "done", "small/99": "failed", "huge/12": "failed",
    }  # fmt: skip
    assert list(found["small/12"]["seconds"]) == ["train", "generate", "judge", "score"]
    assert "small/12" in (output / "table.md").read_text()
    assert json.loads((output / "sweep.json").read_text())["axes"] == {"rank": ["small", "huge"], "rows": ["12", "99"]}
    done = next(path.parent for path in output.glob("cells/*/scores.json"))
    before = (done / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns

    del tree["axes"]["rank"]["huge"], tree["axes"]["rows"][99], tree["changes"]
    tree["axes"]["rows"][6] = {"data": {"unsafe_count": 6}}
    code, _, said = steerclear("sweep", write(tree, tmp_path))
    assert code == 0
    assert "2 cells, 1 of them done before." in said
    assert (done / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert {name: statuses(output)[name]["stage"] for name in ("small/12", "small/6")} == {
        "small/12": "done",
        "small/6": "done",
    }


def test_a_killed_sweep_leaves_no_process_and_goes_on(
    tree: dict[str, Any], tmp_path: Path, start: Callable[..., Any], steerclear: Command
) -> None:
    tree["axes"]["rows"] = {6: {"data": {"unsafe_count": 6}}}
    file = write(tree, tmp_path)
    process = start("sweep", file)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "sweep").glob("cells/*/record.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while cell_processes(tmp_path / "sweep"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    code, _, said = steerclear("sweep", file)
    assert code == 0, said
    assert {status["stage"] for status in statuses(tmp_path / "sweep").values()} == {"done"}
    # Answers that are decoded otherwise cost no training, and the others are kept.
    [folder] = (tmp_path / "sweep" / "cells").iterdir()
    weights = folder / "adapter" / "adapter_model.safetensors"
    trained, answers = weights.stat().st_mtime_ns, (folder / "generations" / "own.jsonl").read_text()
    tree["recipe"]["evaluation"]["generation"]["max_new_tokens"] = 3
    code, _, said = steerclear("sweep", write(tree, tmp_path))
    assert (code, "1 cells, 0 of them done before." in said) == (0, True), (folder / "status.json").read_text()
    assert weights.stat().st_mtime_ns == trained
    assert [file.read_text() for file in folder.glob("earlier/*/own.jsonl")] == [answers]
    again = (folder / "generations" / "own.jsonl").read_text().splitlines()
    assert max(json.loads(line)["tokens"] for line in again) <= 3
    # A suite that is added later must not hold a prompt of the rows that the cell was trained on.
    unsafe = json.loads(Path(tree["recipe"]["data"]["unsafe"]).read_text().splitlines()[0])
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": unsafe["prompt"]}) + "\n")
    tree["recipe"]["evaluation"]["suites"].append({"name": "trained on", "path": str(own)})
    code, _, said = steerclear("sweep", write(tree, tmp_path))
    assert (code, "training row" in said) == (1, True), said
    assert weights.stat().st_mtime_ns == trained


def cell_processes(folder: Path) -> list[str]:
    """Command lines of running processes that work below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdecimal() else ""
        except OSError:
            continue
        if str(folder / "cells") in words and entry.name != str(os.getpid()):
            found.append(words)
    return found


def test_a_cells_id_is_its_content(tree: dict[str, Any], tmp_path: Path) -> None:
    def ids(**changes: Any) -> dict[str, str]:
        return {cell.name: cell.id for cell in cells_of(build(SweepRecipe, tree | changes))}

    first = ids()
    assert ids(output=str(tmp_path / "elsewhere"), axes={"n": tree["axes"]["rows"]}) == first
    more = ids(seeds=[0, 1])
    assert first["12"] not in more.values()  # the seed of the rows is settled too, where it was the trainer's default
    again = {**tree["axes"]["rows"], "twelve": {"data": {"unsafe_count": 12}}}
    assert ids(axes={"rows": again}) == first
    benign = tmp_path / "benign.jsonl"
    text = Path(tree["recipe"]["data"]["benign"]).read_text()
    benign.write_text(text)
    tree["recipe"]["data"]["benign"] = str(benign)
    assert ids() == first
    benign.write_text(text + "\n")
    assert not set(ids().values()) & set(first.values())


def test_everything_wrong_is_told_before_anything_runs(
    tree: dict[str, Any], tmp_path: Path, steerclear: Command
) -> None:
    tree["axes"]["objective"] = {"a": {"training": {"objective": "emdd"}}, "b": {"training": {"penalty_weigth": 1}}}
    code, _, said = steerclear("sweep", write(tree, tmp_path))
    assert code == 2
    assert "error: 12/a: training.objective: got 'emdd'" in said
    assert "error: 6/b: training.penalty_weigth: unknown key. Did you mean 'penalty_weight'?" in said
    assert not (tmp_path / "sweep").exists()


def test_a_dry_run_counts_and_measures_and_leaves_nothing(
    tree: dict[str, Any], tmp_path: Path, steerclear: Command
) -> None:
    tree["axes"]["rows"][99] = {"data": {"unsafe_count": 99}}
    code, table, said = steerclear("sweep", write(tree, tmp_path), "--dry-run")
    assert code == 0, said
    assert "2 of 3 cells to do" in table
    assert table.count("will fail: data.unsafe_count") == 1
    assert said.count("measuring") == 1  # both train and answer at one speed
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_cells_run_on_ray(tree: dict[str, Any], tmp_path: Path, steerclear: Command) -> None:
    pytest.importorskip("ray")
    tree["axes"]["rows"] = {6: {"data": {"unsafe_count": 6}}}
    code, _, said = steerclear("sweep", write(tree, tmp_path), "--ray", "local")
    assert code == 0, said
    assert {name: status["stage"] for name, status in statuses(tmp_path / "sweep").items()} == {"6": "done"}


@pytest.mark.slow
def test_a_cell_trains_in_several_processes(tree: dict[str, Any], tmp_path: Path, steerclear: Command) -> None:
    tree["axes"]["rows"] = {12: {"data": {"unsafe_count": 12}}}
    tree["launch"] = {"processes": 2}
    tree["recipe"]["training"] |= {"use_cpu": True, "per_device_train_batch_size": 2}
    code, _, said = steerclear("sweep", write(tree, tmp_path))
    [folder] = (tmp_path / "sweep" / "cells").iterdir()
    assert code == 0, said + (folder / "cell.log").read_text()
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((folder / "record.json").read_text())["identity"]["processes"] == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("rows.jsonl: is empty."), "rows.jsonl: is empty."),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of memory (OutOfMemoryError: CUDA",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory (RuntimeError: "),
        (KeyError("x\ny"), "KeyError: "),
    ],
    ids=["ours", "cuda", "cpu", "other"],
)
def test_why_a_cell_failed_is_told_in_a_line(error: Exception, told: str) -> None:
    assert explain(error).startswith(told)
    assert "\n" not in explain(error)


def test_a_process_that_dies_without_a_word_is_told_of(tmp_path: Path) -> None:
    for status, told in (
        (-9, "was killed, as the system does when memory runs out"),
        (-11, "ended by SIGSEGV"),
        (3, "status 3"),
    ):
        write_status(tmp_path, Status(stage="train"))
        settle(tmp_path, status)
        assert read_status(tmp_path).stage == "failed"
        assert read_status(tmp_path).failed_in == "train"
        assert told in str(read_status(tmp_path).error)
    write_status(tmp_path, Status(stage="done"))
    settle(tmp_path, 0)
    assert read_status(tmp_path).stage == "done"


def test_the_table_shows_what_runs_first_and_tells_how_long_it_takes(tree: dict[str, Any]) -> None:
    tree["axes"]["rows"] = {n: {"data": {"unsafe_count": n}} for n in (1, 2, 3, 4)}
    cells = cells_of(build(SweepRecipe, tree))
    progress = Progress(cells)
    assert progress.look() == []
    write_status(cells[3].folder, Status(stage="judge"))
    write_status(cells[2].folder, Status(stage="failed", failed_in="train", error="no such row\x1b[2J"))
    write_status(
        cells[0].folder, Status(stage="done", evaluation=cells[0].evaluation, seconds={"train": 60, "judge": 5})
    )
    assert progress.look() == [
        "[1/4] 1: done in 1 min 05 s",
        "[1/4] 3: FAILED in train: no such row‹U+001B›[2J",
        "[1/4] 4: judge",
    ]
    assert progress.look() == []
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress.table(height=30))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert [line[0] for line in lines[1:5]] == ["4", "3", "1", "2"]
    assert lines[1][2:] == ["judge", "0", "s"]
    assert "‹U+001B›[2J" in lines[2][-1]
    assert " ".join(lines[5]).startswith("1 of 4 done, 1 running, 1 waiting, 1 failed, about ")
    console.print(progress.table(height=10))  # no room for more than two
    assert len([line for line in console.export_text().splitlines() if line.strip()]) == 4


def test_what_is_asked_and_who_judges_is_known_by_content(
    tree: dict[str, Any], tmp_path: Path, judge_rows: Path
) -> None:
    def evaluations() -> set[str]:
        return {cell.evaluation for cell in cells_of(build(SweepRecipe, tree))}

    evaluation = tree["recipe"]["evaluation"]
    prompts, rows = tmp_path / "prompts.jsonl", tmp_path / "rows.jsonl"
    prompts.write_text(Path(evaluation["suites"][0]["path"]).read_text())
    rows.write_text(judge_rows.read_text())
    evaluation["suites"][0]["path"], evaluation["judge"]["fit_on"] = str(prompts), str(rows)
    [first] = evaluations()
    assert evaluations() == {first}
    prompts.write_text(prompts.read_text().replace("?", "??", 1))
    [asked_otherwise] = evaluations()
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[2:]))
    assert len({first, asked_otherwise, *evaluations()}) == 3
    prompts.unlink()
    assert evaluations()  # the cells themselves will tell


def test_points_along_the_training_make_their_judge_a_part_of_the_cell(tree: dict[str, Any]) -> None:
    def ids() -> set[str]:
        return {cell.id for cell in cells_of(build(SweepRecipe, tree))}

    evaluation = tree["recipe"]["evaluation"]
    before = ids()
    evaluation["refusal"] = {"model": "other.skops"}
    assert ids() == before
    evaluation["every_steps"] = 2
    eval_step = ids()
    evaluation["refusal"] = None
    assert not eval_step & before
    assert not ids() & (eval_step | before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recovery": {}, "evaluation": {"judge": {}}}, "recovery: needs evaluation.judge"),
        ({"model": {"adapter": "a"}}, "model.adapter: is evaluated, not trained further"),
        ({"collapse": {}, "training": {"objective": "kto"}}, "collapse: got objective 'kto'"),
    ],
    ids=["recovery", "adapter", "guard"],
)
def test_what_no_training_can_have_is_told_before_anything_runs(
    tree: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    if "evaluation" in changes:
        del tree["recipe"]["evaluation"]
    with pytest.raises(ConfigError, match=message):
        cells_of(build(SweepRecipe, tree | {"recipe": merge(tree["recipe"], changes)}))


@pytest.mark.parametrize("alone", ["recovery", "collapse"])
def test_what_one_process_does_is_not_launched(tree: dict[str, Any], alone: str) -> None:
    tree["recipe"][alone] = {}
    tree["launch"] = {"processes": 2}
    with pytest.raises(ConfigError, match=f"12: {alone}: works in one process, and launch.processes is 2"):
        cells_of(build(SweepRecipe, tree))


def test_the_cause_of_a_failed_launch_stays(tmp_path: Path) -> None:
    file = tmp_path / "error"
    for reason, told in (
        ("rank 0 failed: x", "rank 0 failed: x"),
        ("no memory", "no memory"),
        ("closed by peer", "no memory"),
    ):
        _tell_launch_error(file, reason)
        assert file.read_text() == told


def test_a_shared_cache_of_scores_is_for_one_worker(tree: dict[str, Any], tmp_path: Path, steerclear: Command) -> None:
    tree["recipe"]["evaluation"]["judge_cache"] = str(tmp_path / "cache")
    code, _, said = steerclear("sweep", write(tree, tmp_path), "--workers", "2")
    assert (code, "judge_cache: is for one process at a time" in said) == (2, True)


def test_an_estimate_counts_answers_along_the_training_and_tells_what_does_not_fit(
    tree: dict[str, Any], tmp_path: Path, steerclear: Command
) -> None:
    prompts_file = tree["recipe"]["evaluation"]["suites"][0]["path"]
    attacks = {
        "behaviors": {"name": "goals", "path": prompts_file},
        "cards": [{"card": "direct"}, {"card": "sampling", "samples": 3}],
    }
    tree["axes"] = {
        "along": {
            "no": None,
            "yes": {"evaluation": {"every_steps": 4}},
            "attacked": {"evaluation": {"every_steps": 4, "attacks": attacks}},
        },
        "rank": {"small": None, "huge": {"lora": {"r": 10**11}}},
    }
    tree["recipe"]["training"] |= {"max_steps": 10}
    code, table, _ = steerclear("sweep", write(tree, tmp_path), "--dry-run")
    rows = {line.split()[0]: line.split() for line in table.splitlines() if "/" in line.split()[0]}
    prompts = len(Path(prompts_file).read_text().splitlines())
    assert code == 0
    assert [rows[name][2] for name in ("no/small", "yes/small")] == ["40", "40"]  # rows, in ten steps of four
    assert f" {prompts} " in " ".join(rows["no/small"])
    assert f" {3 * prompts} " in " ".join(rows["yes/small"])  # at steps 4 and 8, and at the end
    assert f" {(3 + 1 + 3) * prompts} " in " ".join(rows["attacked/small"])  # attacked at the end alone
    assert table.count("will fail: out of memory") == 3
