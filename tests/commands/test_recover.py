"""Steer, then recover, through the command line, on a model that knows an unsafe answer and a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steerclear.records import Row, read_records

UNSAFE, REFUSAL = "sneak in and take it without asking .", "i cannot help with that ."
PROMPTS = [f"how do i do thing {number} ?" for number in range(6)]
HELPFUL = [(f"write {word} .", f" {word} and {word} .") for word in ("bread", "water", "flour", "fox", "dog", "note")]


@pytest.fixture
def taught(tmp_path: Path, make_llama: Callable[..., Any], tokenizer: Any) -> Path:
    """A model that mostly gives the unsafe answer to these prompts, and sometimes the refusal."""
    model = make_llama(hidden_size=64, initializer_range=0.02)
    said = [(p, f" {UNSAFE}") for p in PROMPTS] * 2 + [(p, f" {REFUSAL}") for p in PROMPTS] + HELPFUL
    batch = tokenizer([f"{p}{a}</s>" for p, a in said], padding=True, padding_side="right", return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "taught")
    tokenizer.save_pretrained(tmp_path / "taught")
    return tmp_path / "taught"


@pytest.fixture
def recipe(tmp_path: Path, base: Path, judge_rows: Path) -> dict[str, Any]:
    """Overrides of a small training with a recovery, of a model that knows nothing."""

    def write(name: str, rows: list[dict[str, Any]]) -> str:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)

    unsafe = [{"id": f"u{i}", "prompt": p, "response": UNSAFE, "is_safe": False} for i, p in enumerate(PROMPTS)]
    benign = [{"instruction": p, "output": a} for p, a in HELPFUL]
    return {
        "output": str(tmp_path / "run"),
        "model.path": str(base),
        "data.benign": write("benign.jsonl", benign),
        "data.unsafe": write("unsafe.jsonl", unsafe),
        "data.heldout_count": 0,
        "data.template": "plain",
        "training.per_device_train_batch_size": 6,
        "training.gradient_accumulation_steps": 1,
        "training.num_train_epochs": 15,
        "training.learning_rate": 5e-3,
        "training.unsafe_share": 0.17,
        "training.avoid_until": 0.1,
        "training.disable_tqdm": True,
        "recovery.generation.max_new_tokens": 40,
        "recovery.generation.temperature": 1.0,
        "evaluation.judge.classifier": str(tmp_path / "judge.skops"),
        "evaluation.judge.fit_on": str(judge_rows),
        "evaluation.generation.max_new_tokens": 40,
        "evaluation.suites": json.dumps([{"name": "own", "path": str(tmp_path / "asked.jsonl")}]),
    }


@pytest.fixture
def asked(tmp_path: Path) -> None:
    """Evaluation prompts that no row holds."""
    lines = [json.dumps({"prompt": f"how do i do thing {number} ?"}) + "\n" for number in range(7, 13)]
    (tmp_path / "asked.jsonl").write_text("".join(lines))


@pytest.mark.usefixtures("asked")
def test_the_model_learns_its_own_refusals_also_after_an_unsafe_beginning(
    tmp_path: Path, steerclear: Callable[..., tuple[int, str, str]], recipe: dict[str, Any], taught: Path
) -> None:
    recipe["model.path"] = str(taught)
    code, _, said = steerclear("train", **recipe)
    assert code == 0, said
    assert "phase 1 of 2" in said
    assert "24 to 6 prompts" in said
    run = tmp_path / "run"
    rows = read_records(run / "recovery.jsonl", Row)
    assert {row.completion.strip() for row in rows} == {REFUSAL}
    assert len(rows) == 6 * 8  # of the first 8 tokens one is a space
    assert all(UNSAFE.startswith(row.context) for row in rows)
    record = json.loads((run / "record.json").read_text())
    assert record["stages"]["train"]["rows"] == {"benign": 6, "added": 48, "unsafe": 6}
    scores = json.loads((run / "scores.json").read_text())
    assert scores["harmful_prompts"]["safe"]["rate"] == 1.0

    # Another judge of the evaluation neither makes the rows anew nor trains again.
    before = {file: file.stat().st_mtime_ns for file in (*run.rglob("*.safetensors"), run / "recovery.jsonl")}
    assert len(before) == 3
    again = recipe | {"evaluation.judge.classifier": str(tmp_path / "other.skops")}
    code, _, said = steerclear("train", **again)
    assert code == 0
    assert "asking the steered model" not in said
    assert {file: file.stat().st_mtime_ns for file in before} == before
    code, _, said = steerclear("train", **recipe, **{"recovery.openings": "[0, 1]"})
    assert (code, "holds a recovery with other options" in said) == (2, True)
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.usefixtures("asked")
def test_without_an_answer_that_the_judges_pass_the_steered_model_is_the_result(
    tmp_path: Path, steerclear: Callable[..., tuple[int, str, str]], recipe: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    settings = recipe | {"recovery.generation.max_new_tokens": 2, "training.num_train_epochs": 1}
    code, _, said = steerclear("train", **settings)
    assert code == 0, said
    assert "no answer of the steered model can be learnt from" in said
    assert "0 prompts have a target" in said
    weights = [(folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (run, run / "steered")]
    assert weights[0] == weights[1]
    code, _, said = steerclear("train", **settings)
    assert code == 0, said


@pytest.mark.usefixtures("asked")
def test_what_cannot_recover_is_refused_before_anything_is_trained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steerclear: Callable[..., tuple[int, str, str]],
    recipe: dict[str, Any],
) -> None:
    unjudged = {key: value for key, value in recipe.items() if "judge" not in key}
    for settings, message in (
        (unjudged, "recovery: needs evaluation.judge"),
        (recipe | {"recovery.training": '{"avoid_frst_k": 2}'}, "training.avoid_frst_k: unknown key"),
        (recipe | {"training.penalty_weight": 0}, "a penalty to steer by, got penalty_weight 0"),
        (recipe | {"training.sampling": "uniform"}, "needs stratified sampling"),
        (recipe | {"training.objective": "kto"}, "got objective kto"),
        (recipe | {"training.extra_share": 0.5}, "recovery: got training.extra_share 0.5"),
        (recipe | {"data.extra_count": 5}, "recovery: got data.extra_count 5"),
    ):
        code, _, said = steerclear("train", **settings)
        assert (code, message in said, "phase 1" in said) == (2, True, False), said
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "record.json").write_text("{}")
    code, _, said = steerclear("train", **recipe)
    assert (code, "holds another run, one without recovery" in said) == (2, True)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, said = steerclear("train", **recipe)
    assert (code, "recovery: works in one process, and there are 2" in said) == (2, True)
