"""`training.objective: kto` on the command line: what it learns, a continued run, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from steerclear.attacks.behaviors import all_prompts
from steerclear.data.prepare import prepare_data
from steerclear.errors import SteerClearError
from steerclear.evaluation.perplexity import perplexity
from steerclear.experiments.doctor import diagnose
from steerclear.recipe.train import load_recipe
from steerclear.training.train import identity_of, train

Arguments = Callable[[dict[str, Any]], list[str]]

KTO = {"training.objective": "kto", "training.learning_rate": 0.01, "training.per_device_train_batch_size": 8}


def run(arguments: list[str], said: list[str] | None = None, eval_step: Any = None) -> Path:
    recipe = load_recipe(arguments)
    prompts = all_prompts(recipe.evaluation)
    say = (said if said is not None else []).append
    every = recipe.evaluation.every_steps
    return train(recipe.setup, prompts, say, eval_step=eval_step, every_steps=every).path


def test_it_learns_benign_answers_and_unlearns_unsafe_ones(
    settings: dict[str, Any], base: Path, as_arguments: Arguments
) -> None:
    said: list[str] = []
    recipe = load_recipe(as_arguments(settings | KTO | {"training.num_train_epochs": 6}))
    folder = run(as_arguments(settings | KTO | {"training.num_train_epochs": 6}), said)
    # 20 benign and 12 unsafe rows: 20 / 12.
    assert (
        "KTO: 20 desirable (benign) rows of weight 1, 12 undesirable (unsafe) rows of weight 1.667; ratio of the totals 1, "
        "within the 1 to 1.33 that KTO's paper advises."
    ) in said
    record, manifest, saved = (
        json.loads((folder / name).read_text()) for name in ("record.json", "manifest.json", "training.json")
    )
    done = record["stages"]["train"]
    assert done["rows"] == {"benign": 20, "added": 0, "unsafe": 12}
    assert done["steps"] == 6 * 4
    assert manifest["sampling"] == {
        "sampling": "uniform",
        "rows_per_step": 8,
        "unsafe_passes_per_epoch": 1.0,
        "desirable_weight": 1.0,
        "undesirable_weight": pytest.approx(20 / 12),
        "weight_ratio": pytest.approx(1.0),
    }
    assert saved["kto_beta"] == 0.1
    assert saved["undesirable_weight"] == pytest.approx(20 / 12)

    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base)
    prepared = prepare_data(recipe.data, [])
    kinds = {"benign": prepared.benign, "unsafe": prepared.unsafe, "heldout": prepared.heldout}

    def losses(model: Any) -> dict[str, float]:
        return {name: perplexity(model, tokenizer, rows, template="plain").nll for name, rows in kinds.items()}

    before, after = losses(plain), losses(PeftModel.from_pretrained(plain, folder / "adapter"))
    assert after["benign"] < before["benign"] - 0.02
    assert after["unsafe"] > before["unsafe"] + 0.02
    # The held-out figure is the plain negative log-likelihood, as for the other objectives, not KTO's loss.
    assert done["heldout_benign_loss"] == pytest.approx(after["heldout"], rel=1e-5)


def test_a_broken_off_training_continues_to_the_very_same_end(
    settings: dict[str, Any], as_arguments: Arguments, tmp_path: Path
) -> None:
    settings |= KTO | {"training.save_steps": 2, "evaluation.every_steps": 3}

    def nothing(*_: Any) -> dict[str, float]:
        return {}

    def fails(*_: Any) -> None:
        raise RuntimeError("power cut")

    unbroken = run(as_arguments(settings | {"output": str(tmp_path / "unbroken")}), eval_step=nothing)
    with pytest.raises(RuntimeError, match="power cut"):
        run(as_arguments(settings), eval_step=fails)
    said: list[str] = []
    continued = run(as_arguments(settings), said, eval_step=nothing)
    assert "continuing from checkpoint-2." in said
    records = [json.loads((folder / "record.json").read_text()) for folder in (unbroken, continued)]
    assert records[0]["id"] == records[1]["id"]
    for key in ("steps", "final_loss", "heldout_benign_loss"):
        assert records[0]["stages"]["train"][key] == records[1]["stages"]["train"][key], key
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (unbroken, continued)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(bool(tensor.any()) for name, tensor in weights[0].items() if "lora_B" in name)


def test_compare_lays_it_beside_another_objective(
    steerclear: Callable[..., tuple[int, str, str]], settings: dict[str, Any], suite: str
) -> None:
    """A variant takes back with null what the recipe sets for all; the live model is evaluated along the way."""
    variants = {
        "emd": {},
        "kto": {"training": {"objective": "kto", "penalty_weight": None}},
    }
    changes = {"training.penalty_weight": 2.0, "training.max_steps": 2, "evaluation.every_steps": 1}
    code, out, err = steerclear(
        "compare", **(settings | changes | {"evaluation.suites": suite, "variants": json.dumps(variants)})
    )
    assert code == 0, out + err
    table = (Path(settings["output"]) / "table.csv").read_text()
    assert all(f"\n{name}," in table for name in variants)
    assert (Path(settings["output"]) / "kto" / "along" / "step-1" / "scores.json").is_file()


def test_all_weights_train_against_a_copy_of_the_base(settings: dict[str, Any], as_arguments: Arguments) -> None:
    folder = run(as_arguments(settings | KTO | {"lora": "null", "training.max_steps": 2, "training.save_steps": 1}))
    assert AutoModelForCausalLM.from_pretrained(folder / "model").config.vocab_size > 0
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rewards = [entry["rewards/margins"] for entry in log if "rewards/margins" in entry]
    # At the first step model and reference are the same; at the second no longer.
    assert rewards[0] == 0 != rewards[1]


def test_an_argument_taken_back_leaves_no_trace_in_the_identity(
    settings: dict[str, Any], as_arguments: Arguments
) -> None:
    recipes = [load_recipe(as_arguments(settings | KTO | more)) for more in ({}, {"training.avoid_tokens": "null"})]
    first, second = (identity_of(recipe.setup, prepare_data(recipe.data, [])) for recipe in recipes)
    assert first == second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"training.penalty_weight": 2},
            r"training\.penalty_weight: got 2 with objective 'kto', which has no such argument\. Leave it out; where a recipe",
        ),
        ({"training.avoid_tokens": "first", "training.gate_power": 1}, r"avoid_tokens: got 'first'.*\n.*gate_power: got 1"),
        ({"training.npo_beta": 0.1}, r"npo_beta: got 0\.1 with objective 'kto'"),
        ({"training.sampling": "stratified"}, r"sampling: got 'stratified' with objective 'kto'"),
        ({"training.packing": True}, r"packing: got True with objective 'kto'"),
        ({"training.objective": "emd", "training.kto_beta": 0.1}, r"kto_beta: got 0\.1 with objective 'emd'"),
        ({"training.beta": 0.1}, r"training\.beta: unknown key\. Did you mean 'kto_beta'\?"),
        ({"training.objective": "ktoo"}, r"training\.objective: got 'ktoo', allowed: .*kto\. Did you mean 'kto'\?"),
        ({"training.kto_beta": 0}, r"training\.kto_beta: got 0, allowed: above 0"),
        ({"training.undesirable_weight": -2}, r"training\.undesirable_weight: got -2, allowed: above 0"),
        ({"training.per_device_train_batch_size": 1}, r"per_device_train_batch_size: got 1, allowed with 'kto': 2 or more"),
        ({"data.unsafe": "null"}, r"needs desirable and undesirable rows, got 20 benign and 0 unsafe"),
    ],
    ids=lambda value: "-".join(key.rpartition(".")[2] for key in value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_wrong_input_is_named(
    settings: dict[str, Any], as_arguments: Arguments, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SteerClearError, match=message):
        run(as_arguments(settings | KTO | change))


def test_doctor_passes(settings: dict[str, Any], as_arguments: Arguments) -> None:
    said: list[str] = []
    assert diagnose(as_arguments(settings | KTO), said.append), said
    text = "\n".join(said)
    assert "ok    end token: 20 of 20 benign answers" in text
    assert "ok    gradients: all 8" in text
