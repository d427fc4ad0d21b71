"""`steerclear train` started by launchers: one folder, one voice, the weights of one process; what is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from steerclear.data.prepare import prepare_data
from steerclear.evaluation.perplexity import perplexity
from steerclear.recipe.train import load_recipe
from steerclear.training.train import last_complete_checkpoint

ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


Start = Callable[..., subprocess.Popen[str]]
TwoRanks = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def start_python() -> Iterator[Start]:
    """A function that starts Python with arguments and variables; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, *words], subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT | environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # a launcher then ends its ranks
            process.communicate()


@pytest.fixture
def two_ranks(start_python: Start) -> TwoRanks:
    """A function that starts what a launcher starts, without the launcher, which would take its time."""

    def start(*words: str) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [start_python(*words, **world, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]

    return start


@pytest.mark.timeout(600)  # five processes that import PyTorch, on two cores that others may share
@pytest.mark.slow
def test_two_killed_ranks_continue_to_the_weights_of_one_process(
    steerclear: Callable[..., tuple[int, str, str]],
    as_arguments: Callable[[dict[str, Any]], list[str]],
    settings: dict[str, Any],
    suite: str,
    start_python: Start,
    two_ranks: TwoRanks,
    tmp_path: Path,
) -> None:
    """Steps of 6 rows either way. The held-out rows do not fill two ranks' batches; the evaluation is rank 0's alone."""
    settings |= {
        "data.heldout_count": 4, "lora.dropout": 0, "training.learning_rate": 1e-2, "training.num_train_epochs": 4,
        "training.save_steps": 2,
    }  # fmt: skip
    settings |= {"evaluation.suites": suite}
    alone = settings | {"output": str(tmp_path / "alone"), "training.per_device_train_batch_size": 6}
    code, _, said = steerclear("train", **alone)
    assert code == 0, said

    together = settings | {"training.per_device_train_batch_size": 3, "training.use_cpu": True}
    words = ("-m", "steerclear", "train", *as_arguments(together))
    ranks = two_ranks(*words)
    checkpoints = tmp_path / "run" / "checkpoints"
    while last_complete_checkpoint(checkpoints, 2) is None:
        assert {rank.poll() for rank in ranks} == {None}
        time.sleep(0.02)
    for rank in ranks:
        rank.kill()
        rank.communicate()
    assert not (tmp_path / "run" / "adapter").exists()
    checkpoint = last_complete_checkpoint(checkpoints, 2)
    assert checkpoint is not None
    process = start_python(*ACCELERATE, *words)
    printed, said = process.communicate()
    assert process.returncode == 0, said
    for line in (f"continuing from {checkpoint.name}.", f"trained: {tmp_path / 'run'}", "no harm judge"):
        assert said.count(line) == 1, said
    assert printed.count("all harmful prompts") == 1

    assert {path.name for path in (tmp_path / "alone").iterdir()} == {
        path.name for path in (tmp_path / "run").iterdir()
    }
    one, two = (json.loads((tmp_path / name / "record.json").read_text()) for name in ("alone", "run"))
    assert two["identity"]["processes"] == 2
    assert "processes" not in one["identity"]
    assert one["stages"]["train"]["steps"] == two["stages"]["train"]["steps"] == 16
    for key in ("heldout_benign_loss", "final_loss"):
        assert one["stages"]["train"][key] == pytest.approx(two["stages"]["train"][key], rel=1e-5), key
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("alone", "run")]
    moved = max(float(weight.abs().max()) for name, weight in weights[0].items() if "lora_B" in name)
    assert all((weights[0][name] - weights[1][name]).abs().max() < 1e-4 * moved for name in weights[0])
    # One process would put half as many rows into a step.
    code, _, said = steerclear("train", **together)
    assert (code, "holds another run" in said, "they differ in processes" in said) == (2, True, True)


@pytest.mark.slow
def test_two_ranks_of_kto_count_every_held_out_row_once(
    as_arguments: Callable[[dict[str, Any]], list[str]],
    two_ranks: TwoRanks,
    settings: dict[str, Any],
    base: Path,
    tmp_path: Path,
) -> None:
    """3 held-out rows do not fill two ranks' batches; the oracle reads them with the weights that were saved."""
    settings |= {
        "training.objective": "kto", "training.learning_rate": 1e-2, "training.max_steps": 2, "data.heldout_count": 3,
        "training.use_cpu": True,
    }  # fmt: skip
    ranks = two_ranks("-m", "steerclear", "train", *as_arguments(settings))
    said = [rank.communicate()[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    done = json.loads((tmp_path / "run" / "record.json").read_text())["stages"]["train"]
    assert done["steps"] == 2
    heldout = prepare_data(load_recipe(as_arguments(settings)).data, []).heldout
    assert len(heldout) == 3
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run" / "adapter")
    read = perplexity(model, AutoTokenizer.from_pretrained(base), heldout, template="plain")
    assert done["heldout_benign_loss"] == pytest.approx(read.nll, rel=1e-5)


def test_rank_0_acts_alone_and_its_failure_is_everyones(two_ranks: TwoRanks, tmp_path: Path) -> None:
    ranks = two_ranks(str(Path(__file__).with_name("by_first.py")), str(tmp_path / "once"))
    printed = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], printed
    # Rank 0 is then one process as any other, to accelerate too.
    assert printed[0][0].splitlines() == ["written by rank 0", "OSError: no room", "True 1 1"]
    assert printed[1][0].splitlines() == ["written by rank 0", "SteerClearError: rank 0 failed: no room", "False 1 1"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate", "evaluate: works in one process, and a launcher started 2"),
        ("compare", "compare: works in one process, and a launcher started 2"),
        ("harvest", "harvest: works in one process, and a launcher started 2"),
    ],
)
def test_what_several_processes_cannot_share_is_refused(
    steerclear: Callable[..., tuple[int, str, str]],
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    message: str,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, said = steerclear(command, **settings)
    assert (code, f"rank 1: error: {message}" in said) == (2, True), said
    assert not Path(settings["output"]).exists()


def test_a_checkpoint_is_complete_when_every_rank_wrote_its_part(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "trainer_state.json").write_text("{}")
    assert last_complete_checkpoint(tmp_path) == folder
    torch.save({"cpu": torch.zeros(999)}, folder / "rng_state_0.pth")
    assert last_complete_checkpoint(tmp_path, 2) is None
    whole = (folder / "rng_state_0.pth").read_bytes()
    (folder / "rng_state_1.pth").write_bytes(whole[:-30])
    assert last_complete_checkpoint(tmp_path, 2) is None
    (folder / "rng_state_1.pth").write_bytes(whole)
    assert last_complete_checkpoint(tmp_path, 2) == folder
