"""The traps of a trainer that subclasses TRL's, each with a test of its own. Those that are about data are in tests/data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from steerclear.cli import _quiet_start
from steerclear.data.signed_labels import decode, is_avoided
from steerclear.errors import DataError

CUTS = [{}, {"packing": True, "max_length": 64}, {"padding_free": True, "max_length": None}]


def avoided(dataset: Dataset) -> int:
    return sum(map(is_avoided, (y for labels in dataset["labels"] for y in labels)))


def test_trap_1_the_patched_forward_still_gives_logits(make_trainer: Any, rows: Any) -> None:
    model = make_trainer(rows(2, 1)).model
    assert model(torch.tensor([[1, 5, 6]])).logits.shape[:2] == (1, 3)
    assert model.generate(torch.tensor([[1, 5, 6]]), max_new_tokens=2, do_sample=False).shape == (1, 5)


@pytest.mark.parametrize("cut", CUTS, ids=["padded", "packed", "padding-free"])
def test_traps_2_and_3_no_flag_is_lost_on_the_way_to_the_model(
    make_trainer: Any, rows: Any, cut: dict[str, Any]
) -> None:
    trainer = make_trainer(rows(7, 3), per_device_train_batch_size=2, avoid_tokens="all", **cut)
    expected = avoided(make_trainer(rows(7, 3), avoid_tokens="all").train_dataset)
    reached = sum(int(decode(batch["labels"][:, 1:]).avoid.sum()) for batch in trainer.get_train_dataloader())
    assert reached == expected > 3


def test_trap_4_truncation_loses_no_row_and_counts_what_it_cuts(make_trainer: Any, rows: Any) -> None:
    whole = make_trainer(rows(5, 3), avoid_tokens="all")
    longest = max(map(len, whole.train_dataset["input_ids"]))
    trainer = make_trainer(rows(5, 3), avoid_tokens="all", max_length=longest - 4)
    assert trainer.train_dataset["part"].count("unsafe") == 3
    lost = sum(map(len, whole.train_dataset["input_ids"])) - sum(map(len, trainer.train_dataset["input_ids"]))
    assert trainer.tokens_cut["train"]["tokens"] == lost > 0
    assert trainer.tokens_cut["train"]["rows"] > 0


def test_trap_4_a_row_with_nothing_left_is_counted_if_benign_and_an_error_if_unsafe(
    make_trainer: Any, rows: Any
) -> None:
    longest = {"prompt": "the dog and " * 30, "completion": " walk out .", "id": "long"}
    dataset = Dataset.from_list([*rows(3, 1), longest | {"label": True}])
    trainer = make_trainer(dataset, max_length=40)
    assert len(trainer.train_dataset) == 4
    assert trainer.tokens_cut["train"]["rows_left_out"] == 1
    with pytest.raises(DataError, match="long: no answer token is left to avoid in the first 40"):
        make_trainer(Dataset.from_list([*rows(3, 1), longest | {"label": False}]), max_length=40)


def test_trap_5_the_two_terms_have_their_own_denominators(make_trainer: Any, rows: Any) -> None:
    """Adding benign rows leaves the penalty's mean as it is; with one shared count it would shrink."""
    penalties = []
    for benign in (1, 20):
        trainer = make_trainer(rows(benign, 2), objective="unlikelihood")
        trainer.train()
        penalties.append(trainer.state.log_history[0]["penalty"])
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-5)


def test_trap_6_logged_means_are_not_means_of_means(make_trainer: Any, rows: Any) -> None:
    """Micro-batches of uneven size, some without unsafe rows, log the same figures as one whole batch."""
    logs = []
    for cut in ({}, {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3}):
        trainer = make_trainer(rows(5, 3), avoid_tokens="all", objective="unlikelihood", **cut)
        trainer.train()
        logs.append(trainer.state.log_history[0])
    for key in ("benign_loss", "penalty", "unsafe_probability", "unsafe_token_share", "penalty_count", "num_tokens"):
        assert logs[0][key] == pytest.approx(logs[1][key], rel=1e-5), key


def test_trap_7_an_adapter_on_the_head_is_refused(make_trainer: Any, rows: Any) -> None:
    with pytest.raises(ValueError, match="lm_head"):
        make_trainer(rows(2, 1), peft_config=LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))


@pytest.mark.slow
def test_trap_8_two_ranks_give_the_gradient_of_one(tmp_path: Path, make_llama: Any, tokenizer: Any, rows: Any) -> None:
    """Uneven unsafe rows over the ranks: global denominators, through DDP's wrapper, tokens and sequences counted."""
    make_llama().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "rows.json").write_text(json.dumps(list(rows(5, 3))))
    common = {"avoid_tokens": "all", "sampling": "uniform", "penalty_weight": 2.0}
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    settings: list[dict[str, Any]] = [
        {"objective": "emd"},
        {"objective": "nlcl"},
        {"objective": "unlikelihood", "token_decay": 0.7},
        {"objective": "npo", "kl_weight": 0.5, "lora": lora},
    ]
    runs = json.dumps([common | changes for changes in settings])
    script = str(Path(__file__).with_name("ddp_step.py"))
    logs = {}
    for ranks in (1, 2):
        output = tmp_path / f"ranks-{ranks}"
        output.mkdir()
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", script]
        arguments = [str(tmp_path / "model"), str(tmp_path / "rows.json"), str(8 // ranks), str(output), runs]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command + arguments, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        logs[ranks] = json.loads((output / "logs.json").read_text())
    for number in range(len(settings)):
        one, two = (torch.load(tmp_path / f"ranks-{ranks}" / f"gradient-{number}.pt") for ranks in (1, 2))
        assert (one - two).norm() <= 2e-5 * one.norm()
        for key in ("benign_loss", "penalty", "penalty_count", "unsafe_tokens", "benign_tokens", "anchor"):
            assert (key in logs[1][number]) == (key in logs[2][number]) == (key != "anchor" or number == 3)
            if key not in logs[1][number]:
                continue
            assert logs[1][number][key] == pytest.approx(logs[2][number][key], rel=1e-5), key


def test_trap_9_the_command_line_switches_telemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    _quiet_start()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
