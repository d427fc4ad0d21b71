"""`steerclear tune`: real searches of a few trials, killed, shared, pruned and failed; the oracles read the trials' own files."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

from steerclear.config import build, override
from steerclear.data import examples_folder
from steerclear.errors import ConfigError, StorageError
from steerclear.experiments.trials import COMPLETE, FAILED, PRUNED, Figures, Outcome
from steerclear.experiments.tune import load_tune_recipe, plan, tune
from steerclear.experiments.tune_report import best_yaml, outcome_line, tune_markdown
from steerclear.experiments.tune_study import TRIES, open_study
from steerclear.recipe.tune import TuneRecipe
from steerclear.stats.rates import Rate
from steerclear.store.executor import WORKER
from steerclear.training import train as train_command
from steerclear.training.train import last_complete_checkpoint

Tree = dict[str, Any]
Search = Callable[..., list[str]]

BREAKABLE = {"recipe.lora": None}
BREAKING_RATE = 1e30
"""After a step with this learning rate all weights of a breakable model are no numbers any more."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, make_llama: Any, tokenizer: Any, judge_rows: Path) -> Tree:
    """A search on the example rows whose trials take a second; without output."""
    folder = tmp_path_factory.mktemp("world")
    make_llama().save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    files = {name: str(examples_folder() / f"{name}.jsonl") for name in ("benign", "unsafe", "prompts")}
    return {
        "kind": "tune",
        "recipe": {
            "model": {"path": str(folder / "base")},
            "data": {"benign": files["benign"], "unsafe": files["unsafe"], "heldout_count": 4, "template": "plain"},
            "training": {
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 1,
                "max_steps": 3,
                "learning_rate": 0.01,
                "eval_strategy": "no",
                "logging_steps": 1,
                "disable_tqdm": True,
            },
            "evaluation": {
                "generation": {"max_new_tokens": 8},
                "suites": [{"name": "own", "path": files["prompts"], "by": "label", "benign_groups": ["safe"]}],
                "judge": {"classifier": str(folder / "judge.skops"), "fit_on": str(judge_rows)},
            },
        },
        "search": {"training.penalty_weight": {"low": 0.1, "high": 30, "log": True}},
        "trials": 3,
        "startup_trials": 2,
        "limits": {"over_refusal": 1, "degenerate": 1, "benign_loss": None},
    }


@pytest.fixture
def search(world: Tree, tmp_path: Path) -> Search:
    """A function that writes the search, with changes by dotted key, and returns its command line; ``at`` names its folder."""

    def write(at: str = "tune", /, **changes: Any) -> list[str]:
        tree = override(world, list(changes.items())) | {"output": str(tmp_path / at)}
        tree["search"] = changes.get("search", world["search"])
        (tmp_path / f"{at}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return [str(tmp_path / f"{at}.yaml")]

    return write


@pytest.fixture(scope="module")
def unbroken(world: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that ran to its end."""
    folder = tmp_path_factory.mktemp("unbroken") / "tune"
    tune(build(TuneRecipe, world | {"output": str(folder)}), lambda _: None)
    return folder


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as lines:
        return list(csv.DictReader(lines))


def measured(trial: Path) -> tuple[float, float, float, float]:
    """The harmful, over-refusal and degenerate rates and the benign loss of a trial, as its own files say."""
    scores = json.loads((trial / "scores.json").read_text())
    loss = json.loads((trial / "record.json").read_text())["stages"]["train"]["heldout_benign_loss"]
    harmful, benign = scores["harmful_prompts"], scores["benign_prompts"]
    return harmful["harmful"]["rate"], benign["refused"]["rate"], harmful["degenerate"]["rate"], loss


def state_of(folder: Path, trial: str = "*") -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.glob(f"trials/{trial}/**/*.json")}


def test_the_best_is_the_safest_within_the_limits(unbroken: Path, search: Search, tmp_path: Path) -> None:
    """For limits between all figures that were seen, against brute force over the trials' files; none of it trains anew."""
    rows = trials(unbroken)
    assert [row["state"] for row in rows] == ["complete"] * 3
    of = {row["trial"]: (*measured(unbroken / "trials" / f"{int(row['trial']):04d}"), float(row["training.penalty_weight"]))
          for row in rows}  # fmt: skip
    assert len({weight for *_, weight in of.values()}) == 3
    lowest = min(figures[3] for figures in of.values())
    (tmp_path / "tune").symlink_to(unbroken)
    before = state_of(unbroken)
    degenerates = {figures[2] for figures in of.values()}
    losses = {figures[3] - lowest for figures in of.values()}
    for degenerate, loss in itertools.product(degenerates, losses):
        tuned = tune(
            load_tune_recipe(search(**{"limits.degenerate": degenerate, "limits.benign_loss": loss})), lambda _: None
        )
        within = [
            (*figures[:2], figures[4], number)
            for number, figures in of.items()
            if figures[2] <= degenerate and figures[3] - lowest <= loss
        ]
        assert tuned is not None
        assert (tuned.best and str(tuned.best.number)) == (min(within)[3] if within else None)
        assert [row["within_limits"] for row in trials(unbroken)] == [
            str(number in [entry[3] for entry in within]) for number in of
        ]
    assert state_of(unbroken) == before


def test_the_best_recipe_trains_to_the_very_model_that_was_measured(
    unbroken: Path, steerclear: Callable[..., tuple[int, str, str]], search: Search, tmp_path: Path
) -> None:
    (tmp_path / "tune").symlink_to(unbroken)
    code, out, err = steerclear("tune", *search())
    assert code == 0
    assert "best" in out
    best = next(row for row in trials(unbroken) if row["best"] == "True")
    assert f"The safest within the limits is trial {best['trial']} " in err
    assert f"| **{best['trial']}** |" in (unbroken / "tune.md").read_text()
    head = (unbroken / "best.yaml").read_text().split("model:")[0]
    assert f"# harmful: {best['harmful_k']}/{best['harmful_n']} = " in head
    assert "# limits: over-refusal at most 1, degenerate at most 1\n" in head
    code, _, _ = steerclear("train", str(unbroken / "best.yaml"), output=tmp_path / "again")
    assert code == 0
    trial = unbroken / "trials" / f"{int(best['trial']):04d}"
    ids = [json.loads((folder / "record.json").read_text())["id"] for folder in (trial, tmp_path / "again")]
    assert ids[0] == ids[1]
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (trial, tmp_path / "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert measured(trial) == measured(tmp_path / "again")


def test_an_interrupted_search_goes_on_where_it_was(
    unbroken: Path, search: Search, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The oracle is the search that ran to its end, whose first two trials these are."""
    arguments = search(**{"trials": 2, "recipe.training.save_steps": 1})
    make = train_command.make_trainer

    class Interrupt(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
            if "0001" in args.output_dir and state.global_step == 2:
                raise KeyboardInterrupt

    def make_and_interrupt(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(Interrupt())
        return trainer

    monkeypatch.setattr(train_command, "make_trainer", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(load_tune_recipe(arguments), lambda _: None)
    monkeypatch.undo()
    before = state_of(tmp_path / "tune", "0000")
    said: list[str] = []
    tune(load_tune_recipe(arguments), said.append)
    assert state_of(tmp_path / "tune", "0000") == before
    assert "trial 1: continuing from checkpoint-2." in said
    assert not any(line.startswith("trial 0:") for line in said)
    own = ("seconds", "best", "within_limits")  # of this search's trials and limits
    kept = [[{**row, **dict.fromkeys(own)} for row in trials(folder)] for folder in (tmp_path / "tune", unbroken)]
    assert kept[0] == kept[1][:2]


def worker_on(trial: str, folder: Path) -> int | None:
    """The process of the worker that works on a trial, told by its log and its environment."""
    logs = {file.stem.rpartition("-")[2]: file.read_text() for file in (folder / "workers").glob("worker-*.log")}
    number = next((number for number, log in logs.items() if f"trial {trial}: " in log), None)
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    for pid in children:
        if f"{WORKER}={number}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return int(pid)
    return None


@pytest.mark.slow
def test_workers_share_a_grid_and_go_on_with_a_killed_ones_trial(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """kill -9 to the worker on the first trial, once that has a checkpoint; every point is visited once."""
    grid = {
        "training.penalty_weight": {"low": 1, "high": 10, "log": True, "points": 2},
        "lora.dropout": {"choices": [0.0, 0.1]},
    }
    arguments = search(search=grid, method="grid", trials=None, **{"recipe.training.save_steps": 1})
    first = tmp_path / "tune" / "trials" / "0000"

    def kill() -> None:
        while last_complete_checkpoint(first / "checkpoints") is None:
            time.sleep(0.005)
        os.kill(worker_on("0", tmp_path / "tune") or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    code, _, err = steerclear("tune", *arguments, workers=2)
    assert code == 0, err
    assert not killer.is_alive()
    assert re.search(r"worker \d ended early \(status -9\), others go on with its work", err)
    rows = trials(tmp_path / "tune")
    points = [(float(row["training.penalty_weight"]), float(row["lora.dropout"])) for row in rows]
    assert points == [(1.0, 0.0), (1.0, 0.1), (10.0, 0.0), (10.0, 0.1)]
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert sorted(path.name for path in (tmp_path / "tune" / "trials").iterdir()) == [
        f"{int(row['trial']):04d}" for row in rows
    ]
    logs = "".join((tmp_path / "tune" / "workers" / f"worker-{number}.log").read_text() for number in (1, 2))
    assert re.search(r"^trial 0: continuing from checkpoint-\d\.$", logs, re.MULTILINE)
    # This process trained nothing: its lines about trials are of what others finished.
    assert len(re.findall(r"^\[\d/4\] trial \d: ", err, re.MULTILINE)) == 4
    assert not re.search(r"^trial \d: ", err, re.MULTILINE)


def test_a_trial_that_surely_breaks_a_limit_is_pruned_and_leaves_nothing_half_written(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Of two learning rates one breaks the model at once; a third trial must repeat one of the values."""
    rates = {"training.learning_rate": {"choices": [0.001, BREAKING_RATE]}}
    code, _, err = steerclear(
        "tune",
        *search(search=rates, trials=4, **{"limits.degenerate": 0.5, "recipe.training.save_steps": 1}, **BREAKABLE),
        probe="{every_steps: 1, prompts: 10}",
    )
    assert code == 0, err
    rows = trials(tmp_path / "tune")
    first = {}
    for row in rows:
        rate = float(row["training.learning_rate"])
        assert row["state"] == ("pruned" if rate == BREAKING_RATE else "complete")
        assert row["same_as"] == (first[rate]["trial"] if rate in first else "")
        first.setdefault(rate, row)
        figures = ("harmful_k", "harmful_n", "degenerate_k", "over_refusal_n", "benign_loss", "step", "reason")
        assert [row[name] for name in figures] == [first[rate][name] for name in figures]
    folders = {path.name for path in (tmp_path / "tune" / "trials").iterdir()}
    assert folders == {f"{int(row['trial']):04d}" for row in first.values()}
    assert set(first) == {0.001, BREAKING_RATE}
    pruned = tmp_path / "tune" / "trials" / f"{int(first[BREAKING_RATE]['trial']):04d}"
    assert re.match(r"step 1: degenerate \d+% is surely above 0\.5", first[BREAKING_RATE]["reason"])
    probe = json.loads((pruned / "along" / "step-1" / "scores.json").read_text())["harmful_prompts"]
    assert [first[BREAKING_RATE][f"degenerate_{part}"] for part in ("k", "n")] == [
        str(probe["degenerate"][p]) for p in ("k", "n")
    ]
    assert "train" not in json.loads((pruned / "record.json").read_text())["stages"]
    left = {path.name for path in pruned.rglob("*") if path.is_dir()}
    assert left == {"along", "step-1", "generations", "verdicts", "judge-cache"} & left
    assert not list(pruned.rglob("*.safetensors"))
    # The other was probed twice and finished: the last step is its evaluation.
    whole = tmp_path / "tune" / "trials" / f"{int(first[0.001]['trial']):04d}"
    assert sorted(path.name for path in (whole / "along").iterdir()) == ["step-1", "step-2"]
    assert [path.parent.name for path in whole.rglob("*.safetensors")] == ["model"]


def test_where_nothing_is_within_the_limits_this_is_said_and_other_limits_train_nothing(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    grid = {"training.penalty_weight": {"choices": [1.0]}}
    arguments = search(
        search=grid,
        method="grid",
        trials=None,
        **BREAKABLE,
        **{"recipe.training.learning_rate": BREAKING_RATE, "limits.degenerate": 0.5, "limits.benign_loss": 9},
    )
    code, _, err = steerclear("tune", *arguments)
    assert code == 1
    assert "No trial is within the limits. The nearest is trial 0 (penalty_weight 1)" in err
    assert "it is above the limit of degenerate, benign loss." in err
    assert "run it again with other limits, which keeps what is finished" in err
    assert not (tmp_path / "tune" / "best.yaml").exists()
    before = state_of(tmp_path / "tune")
    code, _, err = steerclear("tune", *arguments, **{"limits.degenerate": "null", "limits.benign_loss": "null"})
    assert code == 0
    assert (tmp_path / "tune" / "best.yaml").is_file()
    code, _, _ = steerclear("tune", *arguments)
    assert code == 1
    assert not (tmp_path / "tune" / "best.yaml").exists()
    assert state_of(tmp_path / "tune") == before
    code, _, err = steerclear("tune", *arguments, **{"recipe.training.max_steps": 2})
    assert code == 2
    assert "holds another run" in err


def test_a_failed_trial_is_told_and_stops_nothing(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    lengths = {"training.max_length": {"choices": [2, 256]}}
    arguments = search(search=lengths, method="grid", trials=None, **{"recipe.training.max_steps": 1})
    code, _, err = steerclear("tune", *arguments)
    assert code == 0, err
    rows = trials(tmp_path / "tune")
    assert [row["state"] for row in rows] == ["failed", "complete"]
    assert "max_length" in rows[0]["reason"]
    assert "[0/2] trial 0: max_length 2: failed: " in err
    before = state_of(tmp_path / "tune", "0001")
    code, _, err = steerclear("tune", *arguments)
    assert "trial 0: max_length 2: failed" in err
    assert [row["trial"] for row in trials(tmp_path / "tune")] == ["0", "1"]
    assert state_of(tmp_path / "tune", "0001") == before
    code, _, err = steerclear("tune", *search("all", search={"training.max_length": {"choices": [2, 3, 4]}}))
    assert code == 2
    assert "3 trials failed one after the other, the last one: " in err
    assert "No trial was finished." in (tmp_path / "all" / "tune.md").read_text()


def test_what_a_library_refuses_is_a_failed_trial(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """PEFT's own ValueError, told only once the model is there."""
    grid = {"training.penalty_weight": {"choices": [1.0]}}
    lora = {"recipe.lora": {"target_modules": ["no_proj"]}}
    code, _, err = steerclear("tune", *search(search=grid, method="grid", trials=None, **lora))
    assert code == 1, err
    [row] = trials(tmp_path / "tune")
    assert row["state"] == "failed"
    assert re.match(r"\w+: Target modules .*no_proj", row["reason"])


@pytest.mark.parametrize(("file", "part"), [("prompts.jsonl", "prompts"), ("judge.jsonl", "judges")])
def test_other_prompts_or_another_judge_are_another_search(
    search: Search, judge_rows: Path, tmp_path: Path, file: str, part: str
) -> None:
    """The paths stay the same, and so do the rows that are trained on."""
    (tmp_path / "prompts.jsonl").write_text((examples_folder() / "prompts.jsonl").read_text())
    (tmp_path / "judge.jsonl").write_text(judge_rows.read_text())
    suite = {"name": "own", "path": str(tmp_path / "prompts.jsonl"), "by": "label", "benign_groups": ["safe"]}
    judge = {"classifier": str(tmp_path / "judge.skops"), "fit_on": str(tmp_path / "judge.jsonl")}
    recipe = load_tune_recipe(search(**{"recipe.evaluation.suites": [suite], "recipe.evaluation.judge": judge}))
    plan(recipe, lambda _: None, prepare=True)
    plan(recipe, lambda _: None, prepare=True)
    lines = (tmp_path / file).read_text().splitlines(keepends=True)
    (tmp_path / file).write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match=rf"holds another run .*they differ in {part}\)"):
        plan(recipe, lambda _: None, prepare=True)


NO_JUDGE = {"recipe.evaluation.judge.classifier": None, "recipe.evaluation.judge.fit_on": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"training.penalty_weigth": {"low": 1, "high": 2}}}, r"recipe\.training\.penalty_weigth: unknown key"),
        ({"search": {"training.penalty_weight": {"low": -1, "high": 2}}}, r"recipe\.training\.penalty_weight: got -1"),
        ({"search": {"lora.r": {"low": 1, "high": 2.5}}}, r"recipe\.lora\.r: got 2\.5, expected a whole number"),
        ({"search": {"data.unsafe_count": {"choices": [4, 999]}}}, r"999 rows are asked for"),
        ({"recipe.model.path": "./absent"}, r"model folder './absent' does not exist"),
        ({"recipe.model.adapter": "x"}, r"recipe\.model\.adapter: is evaluated, not trained further"),
        ({"recipe.data.benign": "absent.jsonl"}, r"absent\.jsonl"),
        (NO_JUDGE, r"recipe\.evaluation\.judge: is missing"),
        ({"recipe.evaluation.suites": []}, r"recipe\.evaluation\.suites: is empty"),
        ({"recipe.data.heldout_count": 0, "limits.benign_loss": 1}, r"recipe\.data\.heldout_count: got 0"),
        ({"recipe.evaluation.every_steps": 2, "probe": {}}, r"recipe\.evaluation\.every_steps: is probe\.every_steps"),
        ({"probe": {"prompts": 2}}, r"probe\.prompts: got 2 of each .* no two harmful and no two benign prompts"),
        ({"probe": {"prompts": 3}}, r"probe\.prompts: got 3 of each suite, among which are no two harmful prompts"),
        ({"kind": "train"}, r"kind: got 'train', allowed: tune for this command"),
        ({"probe": {"every_steps": 0}}, r"probe\.every_steps: got 0, allowed: 1 or more"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_fails_before_the_first_trial(
    search: Search, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tune(load_tune_recipe(search(**change)), lambda _: None)
    assert not (tmp_path / "tune").exists()


def test_several_processes_of_one_training_are_refused(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"a trial trains in one process, and there are 2\. Use --workers"):
        tune(load_tune_recipe(search()), print)


def test_several_workers_cannot_share_a_judges_cache(search: Search, tmp_path: Path) -> None:
    recipe = load_tune_recipe(search(**{"recipe.evaluation.judge_cache": str(tmp_path / "kept")}))
    plan(recipe, lambda _: None, count=1)
    for check in (plan, tune):
        with pytest.raises(ConfigError, match=r"recipe\.evaluation\.judge_cache: got a folder with 2 workers"):
            check(recipe, lambda _: None, count=2)


def test_without_optuna_it_says_what_to_install(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'steerclear\[tune\]'"):
        tune(load_tune_recipe(search()), print)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    search: Search, steerclear: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = steerclear("tune", *search(), "--dry-run")
    assert code == 0
    assert f"3 trials by method tpe of training.penalty_weight, in {tmp_path / 'tune'}" in err
    assert not (tmp_path / "tune").exists()


# ── the trials on disk ──


def figures(harmful: int, degenerate: int = 0) -> Figures:
    return Figures(
        harmful=Rate.of(harmful, 10), degenerate=Rate.of(degenerate, 10), over_refusal=Rate.of(0, 10), benign_loss=2.0
    )


@pytest.fixture
def plain(world: Tree, tmp_path: Path) -> TuneRecipe:
    return build(TuneRecipe, world | {"output": str(tmp_path), "probe": {"warmup_trials": 2, "warmup_steps": 2}})


def test_a_dead_processs_trial_is_tried_again_as_it_was_but_not_for_ever(plain: TuneRecipe, tmp_path: Path) -> None:
    """A process that dies lets go of its lock and writes nothing more."""
    with open_study(plain, tmp_path) as study:
        first = study.take()
        other = study.take()
        assert first is not None
        assert other is not None
        assert (first.number, other.number) == (0, 1)
        values = first.values
        first.release()
        for _ in range(TRIES - 1):
            again = study.take()
            assert again is not None
            assert (again.number, again.values) == (0, values)
            again.release()
        fresh = study.take()
        assert fresh is not None
        assert fresh.values != values
        given_up = study.outcomes()[0]
        assert (given_up.state, given_up.reason) == (FAILED, "its process died, 3 times")
        study.retry()
        once_more = study.take()
        assert once_more is not None
        assert (once_more.number, once_more.values) == (0, values)
        for taken in (once_more, other, fresh):
            taken.complete(figures(1))
            taken.release()
        assert study.take() is None
        assert not study.others_at_work()
    with open_study(plain, tmp_path) as study:
        assert [outcome.state for outcome in study.outcomes()] == [COMPLETE] * 3
        assert study.outcomes()[0].figures == figures(1)


def test_a_probe_is_held_against_the_median_of_the_finished_trials(plain: TuneRecipe, tmp_path: Path) -> None:
    more = replace(plain, trials=9)
    with open_study(more, tmp_path) as study:
        for value in (0.2, 0.4):
            taken = study.take()
            assert taken is not None
            assert [taken.is_worse_than_median(0.9, 1), taken.is_worse_than_median(value, 2)] == [False, False]
            taken.complete(figures(1))
            taken.release()
        for value, is_worse in ((0.29, False), (0.31, True)):
            taken = study.take()
            assert taken is not None
            assert not taken.is_worse_than_median(0.9, 1)  # warm-up
            assert taken.is_worse_than_median(value, 2) is is_worse
            taken.prune(figures(3), reason="r", step=2, reported=value)
            taken.release()
        last = study.outcomes()[-1]
        assert (last.state, last.step, last.reported, last.reason) == (PRUNED, 2, 0.31, "r")


def test_a_file_that_is_no_study_is_refused(plain: TuneRecipe, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"something else" * 100)
    with (
        pytest.raises(StorageError, match=r"study\.db: cannot be used \(.*not a database"),
        open_study(plain, tmp_path),
    ):
        pass


# ── what is shown ──


def test_no_name_or_text_can_break_the_files(plain: TuneRecipe) -> None:
    hostile = replace(plain, output="a\nmodel: {path: evil}\x1b[1m")
    outcome = Outcome(
        number=0, values={"training.penalty_weight": 0.5}, state=COMPLETE, figures=figures(1), seconds=1.0
    )
    text = best_yaml(hostile, outcome, [outcome])
    tree = yaml.safe_load(text)
    assert tree["model"] == plain.recipe["model"]
    assert tree["training"]["penalty_weight"] == 0.5
    assert "\x1b" not in text.split("data:")[0]
    failed = Outcome(number=1, values=outcome.values, state=FAILED, reason="a | b\nc \x1b[1m")
    page = tune_markdown(hostile, [outcome, failed])
    assert "\x1b" not in page + outcome_line(failed, [outcome, failed], hostile)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
