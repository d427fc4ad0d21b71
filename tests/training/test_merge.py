"""A merged model is a plain model that computes what base and adapter compute together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from steerclear.errors import ModelError, StorageError
from steerclear.generation.weights import load_model
from steerclear.training.merge import merge_adapter

IDS = torch.tensor([[1, 40, 41, 42, 43, 44]])


@pytest.fixture
def adapter(make_adapter: Callable[..., Path]) -> Path:
    return make_adapter()


def test_the_merged_model_equals_base_and_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "merged"
    merge_adapter(str(base), str(adapter), output)
    merged = AutoModelForCausalLM.from_pretrained(output).eval()
    together, _ = load_model(str(base), str(adapter), device="cpu", merge_adapter=False)
    alone, _ = load_model(str(base), device="cpu")
    expected = together(IDS).logits
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    assert (alone(IDS).logits - expected).abs().max() > 0.1


def test_the_folder_is_complete_and_nothing_else_is_left(base: Path, adapter: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "merged"
    merge_adapter(str(base), str(adapter), output)
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith(".bin") or name.startswith("adapter") for name in names)
    assert [path.name for path in output.parent.iterdir()] == ["merged"]
    assert AutoTokenizer.from_pretrained(output)("how do i wait ?") == AutoTokenizer.from_pretrained(base)(
        "how do i wait ?"
    )


def test_the_bases_data_type_is_kept(make_llama: Any, base: Path, adapter: Path, tmp_path: Path) -> None:
    make_llama().bfloat16().save_pretrained(base)
    merge_adapter(str(base), str(adapter), tmp_path / "merged")
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_a_generation_config_that_saving_would_refuse_is_kept(base: Path, adapter: Path, tmp_path: Path) -> None:
    (base / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [2, 4]}')
    merge_adapter(str(base), str(adapter), tmp_path / "merged")
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").generation_config
    assert (kept.temperature, kept.eos_token_id) == (0.6, [2, 4])


def test_a_folder_with_files_is_not_overwritten(base: Path, adapter: Path, tmp_path: Path) -> None:
    output = tmp_path / "taken"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"taken: exists and is not an empty folder\. Choose another"):
        merge_adapter(str(base), str(adapter), output)
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_used(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    merge_adapter(str(base), str(adapter), tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_an_adapter_of_another_base_leaves_nothing(make_llama: Any, base: Path, adapter: Path, tmp_path: Path) -> None:
    make_llama(hidden_size=64).save_pretrained(base)
    with pytest.raises(ModelError, match="was made for another base model"):
        merge_adapter(str(base), str(adapter), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_output_that_cannot_be_written_is_told(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"merged: cannot be written"):
        merge_adapter(str(base), str(adapter), tmp_path / "file" / "merged")
