"""The guard against collapse: a collapse provoked on purpose is caught and explained, and a healthy training is left as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from steerclear.errors import ConfigError, DataError
from steerclear.recipe.train import load_recipe
from steerclear.training import train as train_command
from steerclear.training.train import train

THINGS = ["bread", "the fox", "a book", "the dog", "a friend", "the cinema", "flour", "water", "a note", "the queue"]
ROWS = {
    "benign": [(f"write about {thing} .", f"i like {thing} and i read about it .") for thing in THINGS],
    "unsafe": [(f"how do i take {thing} ?", f"walk in and run out with {thing} .") for thing in THINGS],
}
HELD_OUT, STEPS = 4, 12

WATCHED = {"collapse.every_steps": 2}
COLLAPSE = {
    "training.objective": "gradient_ascent",
    "training.avoid_tokens": "all",
    "training.penalty_weight": 200,
    "training.optim": "sgd",
    "training.learning_rate": 0.2,
    "training.max_grad_norm": 0,
}
"""Gradient ascent has no lower bound; with a large λ and nothing that clips it, language breaks within a few steps."""
LOWER = {"collapse.action": "lower", "collapse.factor": 0.001}

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, make_llama: Any, tokenizer: Any) -> Path:
    """A folder with rows, and a model that knows all of them by heart, so that none of its answers is degenerate."""
    folder = tmp_path_factory.mktemp("taught")
    for name, rows in ROWS.items():
        lines = [json.dumps({"prompt": p, "response": r, "is_safe": name == "benign"}) + "\n" for p, r in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    model = make_llama(initializer_range=0.1)
    texts = [prompt + response + "</s>" for rows in ROWS.values() for prompt, response in rows]
    ids = [torch.tensor(tokenizer(text)["input_ids"]) for text in texts]
    ids_BT = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(ids_BT, labels=ids_BT.masked_fill(ids_BT == 0, -100)).loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


@pytest.fixture
def run(taught: Path, tmp_path: Path, as_arguments: Callable[[Settings], list[str]]) -> Callable[..., Path]:
    """A function that trains with settings into a folder of that name, and returns the folder."""

    def one(name: str, *settings: Settings, said: list[str] | None = None) -> Path:
        merged: Settings = {
            "output": str(tmp_path / name),
            "model.path": str(taught / "base"),
            "data.benign": str(taught / "benign.jsonl"),
            "data.unsafe": str(taught / "unsafe.jsonl"),
            "data.template": "plain",
            "data.heldout_count": HELD_OUT,
            "training.per_device_train_batch_size": 4,
            "training.gradient_accumulation_steps": 1,
            "training.max_steps": STEPS,
            "training.lr_scheduler_type": "constant",
            "training.logging_steps": 1,
            "training.disable_tqdm": True,
        }
        for more in settings:
            merged |= more
        return train(load_recipe(as_arguments(merged)).setup, [], (said if said is not None else []).append).path

    return one


def trained(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())["stages"]["train"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "adapter" / "adapter_model.safetensors"
    return load_file(file if file.exists() else folder / "model" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_collapse_is_stopped_explained_and_undone(run: Callable[..., Path]) -> None:
    """The oracles are runs without a guard: one to the end, beyond use, and one that ends where the guard goes back to."""
    collapsed = run("collapsed", COLLAPSE)
    said: list[str] = []
    guarded = run("guarded", COLLAPSE, WATCHED, {"training.save_steps": 1}, said=said)
    guard = trained(guarded)["guard"]
    assert guard["ended"] == "stopped"
    kept, stopped = guard["kept_step"], trained(guarded)["steps"]
    assert 0 < kept < stopped < STEPS
    short = run("short", COLLAPSE, {"training.max_steps": kept})
    assert same(weights(guarded), weights(short))
    assert trained(guarded)["heldout_benign_loss"] == trained(short)["heldout_benign_loss"]
    assert trained(collapsed)["heldout_benign_loss"] > trained(guarded)["heldout_benign_loss"] + 1

    probes = lines(guarded / "guard.jsonl")
    assert [probe["step"] for probe in probes] == list(range(0, stopped + 1, 2))
    assert [probe["action"] for probe in probes] == ["passed"] * (len(probes) - 1) + ["stopped"]
    assert [probe["answers"] for probe in probes] == [len(THINGS) + HELD_OUT] * len(probes)
    assert probes[0]["degenerate"] == {}
    assert [probe["benign_loss"] for probe in guard["probes"]] == [probe["benign_loss"] for probe in probes]
    # The guard's loss is that of the run's own evaluation of the same rows.
    measured = next(probe["benign_loss"] for probe in probes if probe["step"] == kept)
    assert measured == pytest.approx(trained(short)["heldout_benign_loss"], rel=1e-5)

    [told] = [line for line in said if line.startswith("collapse")]
    assert f"step {stopped}: training is stopped" in told
    assert f"Kept are the weights of step {kept}." in told
    for kind, count in probes[-1]["degenerate"].items():
        assert f"{count} {kind.replace('_', ' ')}" in told
    assert "Set penalty_weight below 200, or push fewer tokens (avoid_tokens: first" in told
    assert not (guarded / "checkpoints").exists()


def test_lowering_changes_the_weight_of_the_steps_after_it(run: Callable[..., Path]) -> None:
    """The λ of each step is told by its logged loss: loss = benign_loss + λ · penalty."""
    said: list[str] = []
    folder = run("lowered", COLLAPSE, WATCHED, LOWER, said=said)
    probes = lines(folder / "guard.jsonl")
    lowered = [probe["step"] for probe in probes if probe["action"] == "lowered"]
    assert lowered
    for entry in (entry for entry in lines(folder / "log.jsonl") if "loss" in entry):
        expected = 200 * 0.001 ** sum(step < entry["step"] for step in lowered)
        assert entry["loss"] == pytest.approx(entry["benign_loss"] + expected * entry["penalty"], rel=1e-4, abs=1e-5)
    told = [line for line in said if line.startswith("collapse")]
    assert re.search(
        r"Training goes on from the weights of step \d+, with penalty_weight 0\.2 in place of 200\.", told[0]
    )
    assert trained(folder)["guard"]["penalty_weight"] == probes[-1]["penalty_weight"] < 1
    # From good weights and with next to no λ the model stays whole.
    assert trained(folder)["heldout_benign_loss"] < probes[0]["benign_loss"] + 0.3
    # A limit on how often: then it stops.
    once = run("once", COLLAPSE, WATCHED, LOWER, {"collapse.factor": 0.9, "collapse.max_lowerings": 1})
    actions = [probe["action"] for probe in lines(once / "guard.jsonl")]
    assert (actions.count("lowered"), actions[-1]) == (1, "stopped")


def test_a_killed_training_comes_back_with_what_its_guard_knew(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed near the end, with a torn checkpoint, it continues from before λ was lowered, and ends as the unbroken run."""
    unbroken = run("unbroken", COLLAPSE, WATCHED, LOWER)
    first = next(p["step"] for p in lines(unbroken / "guard.jsonl") if p["action"] == "lowered")
    last = trained(unbroken)["steps"]

    class Kill(TrainerCallback):
        def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if state.global_step == last - 1:
                raise KeyboardInterrupt

    make = train_command.make_trainer

    def make_and_kill(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(Kill())
        return trainer

    settings = (COLLAPSE, WATCHED, LOWER, {"training.save_steps": first - 1, "training.save_total_limit": 9})
    monkeypatch.setattr(train_command, "make_trainer", make_and_kill)
    with pytest.raises(KeyboardInterrupt):
        run("killed", *settings)
    monkeypatch.undo()
    folder = unbroken.with_name("killed")
    for file in folder.glob("checkpoints/checkpoint-*/trainer_state.json"):
        if file.parent.name != f"checkpoint-{first - 1}":
            file.write_text("{")
    kept = (folder / "guard.jsonl").rename(folder / "kept.jsonl")
    with pytest.raises(DataError, match=rf"guard\.jsonl: has no probe up to step {first - 1}, from which training"):
        run("killed", *settings)
    kept.rename(folder / "guard.jsonl")
    said: list[str] = []
    run("killed", *settings, said=said)
    assert f"continuing from checkpoint-{first - 1}." in said
    assert (folder / "guard.jsonl").read_text() == (unbroken / "guard.jsonl").read_text()
    assert trained(folder)["guard"] == trained(unbroken)["guard"]
    assert same(weights(folder), weights(unbroken))


def test_a_healthy_training_is_left_as_it_is(run: Callable[..., Path]) -> None:
    """Bit for bit, though the adapter has dropout; and a run without a guard knows nothing of guards."""
    settings = {"training.learning_rate": 1e-3, "lora.dropout": 0.3, "training.max_steps": 6}
    plain, guarded = run("plain", settings), run("guarded", settings, {"collapse": "{}", "collapse.every_steps": 1})
    assert same(weights(plain), weights(guarded))
    losses = [[entry.get("loss") for entry in lines(folder / "log.jsonl")] for folder in (plain, guarded)]
    assert losses[0] == losses[1]
    assert trained(guarded)["guard"]["ended"] == "passed"
    assert trained(guarded)["guard"]["kept_step"] == 6
    assert len(lines(guarded / "guard.jsonl")) == 7
    assert "guard" not in trained(plain)
    identities = [json.loads((folder / "record.json").read_text())["identity"] for folder in (plain, guarded)]
    assert identities[1].pop("guard")["every_steps"] == 1
    assert identities[0] == identities[1]
    with pytest.raises(ConfigError, match=r"holds another run \(.*they differ in guard\)"):
        run("guarded", settings)


def test_weights_that_are_no_numbers_end_a_training_at_once(run: Callable[..., Path], taught: Path) -> None:
    """A smaller λ would not bring them back. All weights train here, and the untrained ones are kept."""
    said: list[str] = []
    settings = {"lora": "null", "training.learning_rate": 1e30, "collapse.every_steps": 3}
    folder = run("broken", COLLAPSE, LOWER, settings, said=said)
    assert [probe["action"] for probe in lines(folder / "guard.jsonl")] == ["passed", "stopped"]
    told = next(line for line in said if line.startswith("collapse"))
    assert "the benign loss is not a number any more. Kept are the weights before the first step." in told
    assert same(weights(folder), load_file(taught / "base" / "model.safetensors"))


@pytest.mark.parametrize(
    ("settings", "processes", "message"),
    [
        ({"collapse.every_steps": 0}, "1", r"collapse\.every_steps: got 0, allowed: 1 or more"),
        ({"collapse.action": "halt"}, "1", r"collapse\.action: got 'halt', allowed: stop, lower"),
        ({"collapse.factor": 1}, "1", r"collapse\.factor: got 1\.0, allowed: above 0 and below 1"),
        ({"collapse.max_degenerate_rise": 25}, "1", r"collapse\.max_degenerate_rise: got 25\.0, allowed: 0 to 1"),
        ({"collapse.evry_steps": 1}, "1", r"collapse\.evry_steps: unknown key\. Did you mean 'every_steps'"),
        ({"data.heldout_count": 0}, "1", r"collapse: got no held-out benign rows.* Set data\.heldout_count"),
        ({"training.objective": "kto"}, "1", r"collapse: got objective .kto., which it cannot watch"),
        ({}, "2", r"collapse: probing while training works in one process, and there are 2"),
        ({"collapse.max_new_tokens": 256}, "1", r"collapse: none of its prompts fits; the first has \d+ tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused(
    run: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    processes: str,
    message: str,
) -> None:
    if processes != "1":
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(ConfigError, match=message):
        run("run", WATCHED, settings)
    assert not list(tmp_path.glob("run/checkpoints/*"))
