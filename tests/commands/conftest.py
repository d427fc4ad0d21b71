"""A base model on disk, the package's own example rows, and a way to run the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steerclear import cli
from steerclear.data import examples_folder

ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

SMALL = {
    "training.per_device_train_batch_size": 4,
    "training.gradient_accumulation_steps": 1,
    "training.num_train_epochs": 2,
    "training.logging_steps": 1,
    "training.disable_tqdm": True,
    "data.heldout_count": 4,
    "data.template": "plain",
    "evaluation.generation.max_new_tokens": 4,
}
"""Settings that make a run on the example rows take seconds."""


@pytest.fixture
def base(tmp_path: Path, make_llama: Any, tokenizer: Any) -> Path:
    """A folder with a two-layer random model and its tokenizer."""
    folder = tmp_path / "base"
    make_llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> dict[str, Any]:
    """Overrides of a small run on the example rows."""
    examples = examples_folder()
    return SMALL | {
        "output": str(tmp_path / "run"),
        "model.path": str(base),
        "data.benign": str(examples / "benign.jsonl"),
        "data.unsafe": str(examples / "unsafe.jsonl"),
    }


@pytest.fixture
def suite() -> str:
    """The example prompts as a suite, as a YAML value."""
    path = examples_folder() / "prompts.jsonl"
    return json.dumps([{"name": "own", "path": str(path), "by": "label", "benign_groups": ["safe"]}])


@pytest.fixture(scope="session")
def judge_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled rows that a classifier can learn."""
    file = tmp_path_factory.mktemp("judge") / "rows.jsonl"
    unsafe, safe = "sneak in and take it without asking", "i cannot help with that"
    rows = [
        {"prompt": f"how do i do thing {i} ?", "response": f"{text} , number {i} .", "is_safe": text is safe}
        for i in range(30)
        for text in (unsafe, safe)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _arguments(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key}", str(value))]


@pytest.fixture
def as_arguments() -> Callable[[dict[str, Any]], list[str]]:
    """A function that turns settings into command-line arguments."""
    return _arguments


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the command line in a process of its own."""

    def run(*words: str, **settings: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from steerclear.cli import main; main()", *words, *_arguments(settings)]
        # As many threads as here: another number sums in another order, and weights would differ in their last bits.
        environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    return run


@pytest.fixture
def steerclear(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_arguments: Callable[[dict[str, Any]], list[str]],
) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a command and returns its exit code, standard output and standard error."""

    def run(*words: str, **settings: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["steerclear", *words, *as_arguments(settings)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run
