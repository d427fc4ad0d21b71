"""Opening models: what loads, and what each wrong folder is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steerclear.errors import ModelError
from steerclear.generation.weights import load_model

IDS = torch.tensor([[1, 40, 41, 42, 43, 44]])


def test_a_merged_adapter_computes_what_an_unmerged_one_does(base: Path, make_adapter: Any) -> None:
    adapter = str(make_adapter())
    merged, _ = load_model(str(base), adapter, device="cpu")
    beside, _ = load_model(str(base), adapter, device="cpu", merge_adapter=False)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert any("lora" in name for name, _ in beside.named_parameters())
    torch.testing.assert_close(merged(IDS).logits, beside(IDS).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "loaded"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_data_type_on_a_cpu(base: Path, dtype: str, loaded: torch.dtype) -> None:
    model, _ = load_model(str(base), dtype=dtype, device="cpu")
    assert model.dtype == loaded
    assert not model.training


def test_the_end_token_pads_where_there_is_no_padding_token(base: Path) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    _, tokenizer = load_model(str(base), device="cpu")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model folder '.*/none' does not exist\. Check the path"):
        load_model(str(tmp_path / "none"))


def test_a_name_that_is_neither_folder_nor_cached() -> None:
    with pytest.raises(ModelError, match=r"'no-one/no-model' cannot be loaded.*No local folder has this name"):
        load_model("no-one/no-model")


def test_a_file_instead_of_a_folder(base: Path) -> None:
    with pytest.raises(ModelError, match="is a file, expected a folder"):
        load_model(str(base / "model.safetensors"))


def test_a_folder_without_config(base: Path) -> None:
    (base / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json, so not a model\. Check the path"):
        load_model(str(base))


def test_an_adapter_given_as_a_model(base: Path, make_adapter: Any) -> None:
    adapter = make_adapter()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).rename(adapter / name)
    with pytest.raises(ModelError, match=r"It is an adapter: give its base as the model"):
        load_model(str(adapter))


def test_a_folder_without_tokenizer(base: Path) -> None:
    for path in base.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"no tokenizer files, expected one of tokenizer\.json"):
        load_model(str(base))


def test_pickled_weights_are_refused(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors weights, only pickled \*\.bin files"):
        load_model(str(base))


def test_a_broken_weight_file(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be loaded: Error while deserializing header"):
        load_model(str(base))


def test_weights_that_are_missing_are_not_made_up(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"], weights["lm_head.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"2 weights are missing from its files, such as lm_head\.weight"):
        load_model(str(base))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_its_files(base: Path, make_adapter: Any, name: str) -> None:
    adapter = make_adapter()
    (adapter / name).unlink()
    with pytest.raises(ModelError, match=f"no {name}, so not a PEFT adapter"):
        load_model(str(base), str(adapter))


@pytest.mark.parametrize(
    ("shape", "detail"),
    [
        ({"hidden_size": 64}, "size mismatch for .*q_proj"),
        ({"num_hidden_layers": 3}, "4 of its weights have no counterpart"),
        ({"num_hidden_layers": 1}, "4 of its weights have no counterpart"),
    ],
)
def test_an_adapter_of_another_base(base: Path, make_adapter: Any, shape: dict[str, int], detail: str) -> None:
    with pytest.raises(ModelError, match=f"was made for another base model: .*{detail}"):
        load_model(str(base), str(make_adapter(**shape)))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"dtype": "float16"}, "dtype: got 'float16', allowed: auto, float32, bfloat16"),
        ({"device": "gpu"}, "device: got 'gpu'"),
    ],
)
def test_wrong_choices(base: Path, choice: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(str(base), **choice)
