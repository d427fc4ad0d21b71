"""`steerclear train`: what lands in the run's folder, what a kill leaves, what is refused."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from steerclear.attacks.behaviors import all_prompts
from steerclear.errors import SteerClearError, StorageError
from steerclear.experiments.doctor import diagnose
from steerclear.recipe.train import load_recipe
from steerclear.training.train import last_complete_checkpoint, train

Arguments = Callable[[dict[str, Any]], list[str]]


def run(arguments: list[str], said: list[str] | None = None) -> Any:
    recipe = load_recipe(arguments)
    return train(recipe.setup, all_prompts(recipe.evaluation), (said if said is not None else []).append)


def test_a_run_leaves_everything_that_is_needed_to_know_it(
    settings: dict[str, Any], base: Path, as_arguments: Arguments
) -> None:
    said: list[str] = []
    folder = run(as_arguments(settings), said).path
    record = json.loads((folder / "record.json").read_text())
    done = record["stages"]["train"]
    assert done["rows"] == {"benign": 20, "added": 0, "unsafe": 12}
    assert done["steps"] == len([1 for line in (folder / "log.jsonl").read_text().splitlines() if '"loss"' in line])
    assert done["heldout_benign_loss"] > 0
    assert record["versions"]["trl"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["rows"] == {"benign": 20, "added": 0, "unsafe": 12, "heldout": 4}
    assert manifest["sampling"]["sampling"] == "stratified"
    # The effective arguments, inherited defaults included (trap 11).
    assert {"objective", "weight_decay", "max_length"} < set(json.loads((folder / "training.json").read_text()))
    assert not (folder / "checkpoints").exists()
    # The adapter is a plain PEFT adapter that changes the base.
    plain = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        before = plain(ids).logits
        after = PeftModel.from_pretrained(plain, folder / "adapter")(ids).logits
    assert (before - after).abs().max() > 1e-6
    # The same command again does nothing; another recipe in the same folder is refused and says why.
    again: list[str] = []
    run(as_arguments(settings), again)
    assert again[-1].endswith("already trained.")
    with pytest.raises(SteerClearError, match=r"holds another run \(id .*they differ in training\)"):
        run(as_arguments(settings | {"training.penalty_weight": 2}))


def test_a_killed_training_continues_to_the_very_same_end(
    settings: dict[str, Any], start: Callable[..., Any], as_arguments: Arguments, tmp_path: Path
) -> None:
    """kill -9 in the middle; dropout is on; a checkpoint cut off half-way is passed over."""
    settings |= {"training.num_train_epochs": 3, "training.save_steps": 2, "lora.dropout": 0.3}
    unbroken = run(as_arguments(settings | {"output": str(tmp_path / "unbroken")})).path
    process = start("train", **settings)
    checkpoints = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + 120
    while last_complete_checkpoint(checkpoints) is None:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run" / "adapter").exists()
    whole = last_complete_checkpoint(checkpoints)
    assert whole is not None
    torn = checkpoints / "checkpoint-9999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"epoch": 1')
    said: list[str] = []
    continued = run(as_arguments(settings), said).path
    assert f"continuing from {whole.name}." in said

    records = [json.loads((folder / "record.json").read_text()) for folder in (unbroken, continued)]
    assert records[0]["id"] == records[1]["id"]
    for key in ("steps", "final_loss", "heldout_benign_loss"):
        assert records[0]["stages"]["train"][key] == records[1]["stages"]["train"][key], key
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (unbroken, continued)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_full_fine_tuning_saves_a_model(settings: dict[str, Any], as_arguments: Arguments) -> None:
    folder = run(as_arguments(settings | {"lora": "null", "training.max_steps": 1})).path
    assert not (folder / "adapter").exists()
    assert AutoModelForCausalLM.from_pretrained(folder / "model").config.vocab_size > 0


def wrong_line(tmp_path: Path, _: dict[str, Any]) -> dict[str, Any]:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": \n')
    return {"data.benign": tmp_path / "rows.jsonl"}


def unsafe_prompt_is_asked(tmp_path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    first = json.loads(Path(settings["data.unsafe"]).read_text().splitlines()[0])
    (tmp_path / "asked.jsonl").write_text(json.dumps({"prompt": first["prompt"].upper()}) + "\n")
    return {"evaluation.suites": json.dumps([{"name": "asked", "path": str(tmp_path / "asked.jsonl")}])}


def no_tokenizer(_: Path, settings: dict[str, Any]) -> dict[str, Any]:
    for file in Path(settings["model.path"]).glob("*token*"):
        file.unlink()
    return {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.benign": "absent.jsonl"}, r"absent\.jsonl"),
        (wrong_line, r"rows\.jsonl:2: not valid JSON"),
        ({"training.lerning_rate": 1}, r"training\.lerning_rate: unknown key\. Did you mean 'learning_rate'\?"),
        ({"training.output_dir": "x"}, r"training\.output_dir: is set by the recipe's output"),
        ({"training.learning_rate": "fast"}, r"training\.learning_rate: got 'fast', expected a number"),
        ({"dat.seed": 1}, r"dat: unknown key\. Did you mean 'data'\?"),
        ({"training.penalty_weight": -1}, r"training\.penalty_weight: got -1, allowed: 0 or more"),
        ({"data.unsafe": "null"}, r"penalty_weight: got 1\.0 with no unsafe row"),
        (unsafe_prompt_is_asked, r"asked"),
        (no_tokenizer, r"no tokenizer files, expected one of"),
        ({"model.path": "./absent"}, r"model folder './absent' does not exist"),
        ({"evaluation.suites": '[{"name": "x", "path": "absent.jsonl"}]'}, r"absent\.jsonl: cannot be read"),
        ({"lora.r": 0}, r"lora\.r: got 0"),
        ({"model.dtype": "int3"}, r"model\.dtype: got 'int3', allowed: auto, float32, bfloat16"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)  # fmt: skip
def test_wrong_input_is_named(
    settings: dict[str, Any], tmp_path: Path, as_arguments: Arguments, change: Any, message: str
) -> None:
    settings |= change(tmp_path, settings) if callable(change) else change
    with pytest.raises(SteerClearError, match=message):
        run(as_arguments(settings))
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_full_disk_is_explained_and_the_run_continues_after(
    settings: dict[str, Any], as_arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third write of a checkpoint fails as safetensors and torch report a full disk; afterwards there is room again."""
    settings |= {"training.save_steps": 1}
    real, calls = torch.save, []

    def full(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        real(*arguments, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"the disk is full. Earlier checkpoints are kept; free some space"):
        run(as_arguments(settings))
    monkeypatch.undo()
    said: list[str] = []
    run(as_arguments(settings), said)
    assert any(re.fullmatch(r"continuing from checkpoint-\d+\.", line) for line in said)


def test_doctor_measures_and_passes(settings: dict[str, Any], suite: str, as_arguments: Arguments) -> None:
    said: list[str] = []
    assert diagnose(as_arguments(settings | {"evaluation.suites": suite}), said.append)
    text = "\n".join(said)
    for line in (
        "ok    versions",
        "ok    data: 20 benign, 0 added, 12 unsafe",
        "ok    end token: 20 of 20",
        "ok    gradients: all 8",
        "min",
    ):
        assert line in text
    assert not Path(settings["output"]).exists()


def test_doctor_finds_what_is_wrong(settings: dict[str, Any], as_arguments: Arguments) -> None:
    said: list[str] = []
    assert not diagnose(as_arguments(settings | {"training.max_length": 24}), said.append)
    assert any(line.startswith("FAIL  end token") for line in said) or any("no answer token" in line for line in said)
    said.clear()
    assert not diagnose(as_arguments(settings | {"data.benign": "absent.jsonl"}), said.append)
    assert any(line.startswith("FAIL") and "absent.jsonl" in line for line in said)
