"""`training.report_to`: what arrives in the trackers, that the training is the same without, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from steerclear.attacks.behaviors import all_prompts
from steerclear.config import load_tree
from steerclear.data import examples_folder
from steerclear.recipe.train import load_recipe, variants_of
from steerclear.training.defaults import training_arguments
from steerclear.training.train import train

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers that keep to this folder."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TENSORBOARD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def left_as_it_was(here: None) -> Iterator[None]:  # noqa: ARG001 (its variables are what is left)
    """The next run of this process finds no tracker's variables of this one."""

    def own() -> dict[str, str]:
        names = ("TENSORBOARD_LOGGING_DIR", "MLFLOW_RUN_ID", "MLFLOW_MAX_LOG_PARAMS")
        return {name: os.environ[name] for name in names if name in os.environ}

    before = own()
    yield
    assert own() == before


@pytest.fixture
def evaluated(settings: dict[str, Any], suite: str, judge_rows: Path, tmp_path: Path) -> dict[str, Any]:
    """A run that is evaluated at steps 2, 4 and 6 and at its end, step 7 (three benign rows a step, 20 in all)."""
    judge = {"classifier": str(tmp_path / "judge.skops"), "fit_on": str(judge_rows)}
    return settings | {
        "training.num_train_epochs": 1, "training.save_steps": 2, "evaluation.every_steps": 2, "evaluation.suites": suite,
        "evaluation.judge": json.dumps(judge),
    }  # fmt: skip


def log_of(run: Path) -> list[dict[str, Any]]:
    """A run's log without what the clock says."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in line.items() if "second" not in name and "runtime" not in name}
        for line in lines
    ]


def rates_of(folder: Path) -> dict[str, float]:
    scores = json.loads((folder / "scores.json").read_text())
    rates = {f"eval/{name}": scores["harmful_prompts"][name]["rate"] for name in ("harmful", "safe", "degenerate")}
    return rates | {"eval/over_refusal": scores["benign_prompts"]["refused"]["rate"]}


def breaks_off(settings: dict[str, Any], as_arguments: Any) -> None:
    """Train until step 4, whose evaluation ends the process in the middle of it; the checkpoint of step 2 is there."""

    def evaluate(_model: Any, _tokenizer: Any, _folder: Path, step: int) -> dict[str, float]:
        if step == 4:
            raise RuntimeError("power cut")
        return {}

    recipe = load_recipe(as_arguments(settings))
    with pytest.raises(RuntimeError, match="power cut"):
        train(
            recipe.setup,
            all_prompts(recipe.evaluation),
            lambda _: None,
            eval_step=evaluate,
            every_steps=recipe.evaluation.every_steps,
        )


def texts_of(run: Path) -> set[bytes]:
    """Everything that was asked, learnt or answered in a run."""
    files = [*examples_folder().glob("*.jsonl"), *run.rglob("generations/*.jsonl")]
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    texts = [
        row[name] for row in rows for name in ("instruction", "output", "prompt", "response", "text") if name in row
    ]
    assert texts
    return {text.encode() for text in texts if len(text) > 12}


@pytest.mark.usefixtures("left_as_it_was")
def test_tensorboard_gets_loss_terms_and_rates_and_the_training_is_as_without(
    steerclear: Command, evaluated: dict[str, Any], tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    code, _, said = steerclear("train", **evaluated)
    assert code == 0, said
    plain = tmp_path / "run"
    assert not list(tmp_path.rglob("*tfevents*"))
    assert not (plain / "trackers.json").exists()
    tracked = tmp_path / "tracked"
    told = evaluated | {"output": str(tracked), "training.report_to": "tensorboard"}
    for _ in range(2):  # the second time there is nothing to do, and nothing to tell
        code, _, said = steerclear("train", **told)
        assert code == 0, said
    assert log_of(plain) == log_of(tracked)
    weights = [(run / "adapter" / "adapter_model.safetensors").read_bytes() for run in (plain, tracked)]
    assert weights[0] == weights[1]
    records = [json.loads((run / "record.json").read_text()) for run in (plain, tracked)]
    assert records[0]["id"] == records[1]["id"]

    events = accumulator.EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    steps = [line for line in log_of(tracked) if "loss" in line]
    for name in ("loss", "benign_loss", "penalty"):
        seen = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert seen == pytest.approx({step: line[name] for step, line in enumerate(steps, start=1)}), name
    last = records[1]["stages"]["train"]["steps"]
    places = {step: tracked / "along" / f"step-{step}" for step in range(2, last, 2)} | {last: tracked}
    for name in rates_of(tracked):
        seen = [(event.step, event.value) for event in events.Scalars(name)]
        assert dict(seen) == pytest.approx({step: rates_of(folder)[name] for step, folder in places.items()}), name
        assert len(seen) == len(places)
    written = b"".join(file.read_bytes() for file in tracked.rglob("*tfevents*"))
    assert not [text for text in texts_of(tracked) if text in written]


@pytest.mark.usefixtures("left_as_it_was")
def test_mlflow_gets_one_run_of_a_training_that_was_broken_off(
    steerclear: Command, evaluated: dict[str, Any], as_arguments: Any, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow")
    settings = evaluated | {"training.report_to": "[mlflow]", "training.run_name": "mine"}
    breaks_off(settings, as_arguments)
    code, _, said = steerclear("train", **settings)
    assert code == 0, said
    client = mlflow.tracking.MlflowClient()
    [run] = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    last = json.loads((tmp_path / "run" / "record.json").read_text())["stages"]["train"]["steps"]
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "eval_harmful")]
    assert sorted(steps) == [4, 6, last]  # the evaluation of step 2 was a stand-in's
    assert {metric.step for metric in client.get_metric_history(run.info.run_id, "penalty")} == set(range(1, last + 1))
    assert run.data.metrics["eval_harmful"] == rates_of(tmp_path / "run")["eval/harmful"]
    written = b"".join(file.read_bytes() for file in (tmp_path / "mlruns").rglob("*") if file.is_file())
    assert not [text for text in texts_of(tmp_path / "run") if text in written]


@pytest.mark.usefixtures("left_as_it_was")
def test_wandb_gets_one_run_of_a_training_that_was_broken_off(
    steerclear: Command, evaluated: dict[str, Any], as_arguments: Any, tmp_path: Path
) -> None:
    pytest.importorskip("wandb")
    settings = evaluated | {"training.report_to": "wandb"}
    breaks_off(settings, as_arguments)
    code, _, said = steerclear("train", **settings)
    assert code == 0, said
    kept = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    # Offline, each beginning is a folder of the one run: before it was broken off, after, and the final scores.
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert {folder.name.rpartition("-")[2] for folder in folders} == {kept}
    written = b"".join(file.read_bytes() for file in (tmp_path / "wandb").rglob("*") if file.is_file())
    for name in (b"train/penalty", b"eval/harmful", b"eval/over_refusal"):
        assert name in written
    other = tmp_path / "other"
    code, _, said = steerclear("train", **(settings | {"output": str(other)}))
    assert (code, json.loads((other / "trackers.json").read_text())["wandb"] == kept) == (0, False), said
    assert not [text for text in texts_of(tmp_path / "run") if text in written]


def test_an_entry_is_named_by_its_run_or_its_variant(settings: dict[str, Any], as_arguments: Any) -> None:
    def name_of(recipe: Any) -> Any:
        return training_arguments(recipe.setup).run_name

    assert name_of(load_recipe(as_arguments(settings))) is None
    told = settings | {"training.report_to": "tensorboard"}
    assert name_of(load_recipe(as_arguments(told))) == "run"
    assert name_of(load_recipe(as_arguments(told | {"training.run_name": "mine"}))) == "mine"
    tree = load_tree(as_arguments(told | {"variants": '{"emd": {}, "sft": {"training": {"run_name": "plain"}}}'}))
    assert [name_of(recipe) for recipe in variants_of(tree).values()] == ["emd", "plain"]


@pytest.mark.parametrize(
    ("report_to", "message"),
    [
        ("tensorbord", "got 'tensorbord', allowed: none, tensorboard, mlflow, wandb. Did you mean 'tensorboard'?"),
        ("[tensorboard, all]", "training.report_to: got 'all', allowed: none, tensorboard, mlflow, wandb."),
        ("mlflow", "training.report_to: got 'mlflow', which is not installed"),
        ("wandb", "training.report_to: got 'wandb', which is not installed"),
    ],
)  # fmt: skip
def test_other_trackers_and_absent_ones_are_refused(
    steerclear: Command, settings: dict[str, Any], report_to: str, message: str
) -> None:
    if "not installed" in message and find_spec(report_to):
        pytest.skip(f"{report_to} is installed")
    code, _, said = steerclear("train", **settings, **{"training.report_to": report_to})
    assert (code, message in said) == (2, True), said
    assert ("pip install" in said) == ("not installed" in message)
    assert not Path(settings["output"]).exists()
