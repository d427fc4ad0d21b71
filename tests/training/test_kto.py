"""KTO's trainer: its weights, its loss by hand, and that it sees the tokens of the other objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from steerclear import SteerClearTrainer
from steerclear.errors import ConfigError, DataError
from steerclear.training.arguments import KtoBaselineConfig
from steerclear.training.kto import KtoBaselineTrainer, kto_weights, other_completions

Rows = Callable[[int, int], Dataset]


@pytest.fixture
def make_kto(tmp_path: Any, make_llama: Any, tokenizer: Any) -> Callable[..., KtoBaselineTrainer]:
    """A function that makes a KTO trainer of an adapter on the tiny model; keyword arguments go to KtoBaselineConfig."""

    def make(dataset: Dataset, lora: dict[str, Any] | None = None, **changes: Any) -> KtoBaselineTrainer:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 4,
            "max_length": 128,
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        return KtoBaselineTrainer(
            make_llama(),
            KtoBaselineConfig(**(settings | changes)),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=LoraConfig(**({"task_type": "CAUSAL_LM", "target_modules": ["q_proj"]} | (lora or {}))),
        )

    return make


@pytest.mark.parametrize(
    ("counts", "given", "expected", "ratio"),
    [
        ((20000, 1000), {}, (1.0, 20.0), 1.0),
        ((100, 300), {}, (3.0, 1.0), 1.0),
        ((7, 7), {}, (1.0, 1.0), 1.0),
        ((20000, 1000), {"desirable": 0.5}, (0.5, 10.0), 1.0),
        ((20000, 1000), {"undesirable": 15.0}, (0.75, 15.0), 1.0),
        ((20000, 1000), {"desirable": 1.0, "undesirable": 16.0}, (1.0, 16.0), 1.25),
        ((20000, 1000), {"desirable": 1.0, "undesirable": 1.0}, (1.0, 1.0), 20.0),
    ],
)
def test_weights_worked_by_hand(counts: Any, given: Any, expected: tuple[float, float], ratio: float) -> None:
    weights = kto_weights(*counts, **given)
    assert (weights.desirable, weights.undesirable) == pytest.approx(expected)
    assert weights.ratio == pytest.approx(ratio)
    assert ("within the 1 to 1.33" in str(weights)) == (ratio < 1.4)
    assert ("outside the 1 to 1.33" in str(weights)) == (ratio > 1.4)


def test_a_row_alone_in_the_last_micro_batch_is_not_compared_with_itself() -> None:
    assert other_completions([[1], [2], [3], [4]], 3) == [[3], [1], [2], [3]]
    assert other_completions([[1], [2], [3], [4], [5]], 3) == [[3], [1], [2], [5], [4]]


def answer_log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        log_probs_TV = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs_TV[len(prompt) + i - 1, token]) for i, token in enumerate(answer))


def test_the_loss_is_ktos_by_hand(make_kto: Any, rows: Rows) -> None:
    """1 - σ(β(r - z)) for benign rows, 1 - σ(β(z - r)) for unsafe ones; z is the mean r of prompts with another row's answer."""
    trainer = make_kto(rows(5, 3), kto_beta=0.7)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in trainer.model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    chosen = next(
        part
        for part in (trainer.train_dataset.select(range(4)), trainer.train_dataset.select(range(4, 8)))
        if len(set(part["label"])) == 2
    )
    ratios = []
    for key in ("completion_ids", "KL_completion_ids"):
        pairs = list(zip(chosen["prompt_ids"], chosen[key], strict=True))
        trained = [answer_log_probability(trainer.model, *pair) for pair in pairs]
        with trainer.model.disable_adapter():
            base = [answer_log_probability(trainer.model, *pair) for pair in pairs]
        ratios.append([a - b for a, b in zip(trained, base, strict=True)])
    assert chosen["KL_completion_ids"] == [chosen["completion_ids"][i] for i in (3, 0, 1, 2)]
    z = max(0.0, sum(ratios[1]) / 4)
    # 5 benign rows of weight 1, 3 unsafe ones of weight 5/3.
    expected = [
        1 - 1 / (1 + math.exp(-0.7 * (r - z))) if label else 5 / 3 * (1 - 1 / (1 + math.exp(-0.7 * (z - r))))
        for r, label in zip(ratios[0], chosen["label"], strict=True)
    ]
    trainer.model.train()
    batch = trainer.data_collator(list(chosen))
    loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)
    loss.backward()
    assert all(p.grad is not None for name, p in trainer.model.named_parameters() if "lora_" in name)


def in_messages(dataset: Dataset) -> Dataset:
    def turns(row: dict[str, Any]) -> dict[str, Any]:
        return row | {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }

    return Dataset.from_list([turns(row) for row in dataset])


@pytest.mark.parametrize("as_given", [lambda dataset: dataset, in_messages], ids=["text", "chat"])
def test_rows_are_the_tokens_of_the_other_objectives(
    make_kto: Any, make_trainer: Callable[..., SteerClearTrainer], rows: Rows, as_given: Any
) -> None:
    """The same sequences, ended the same way; benign answers begin where they begin in SFT; every row once, in a new order."""
    data = as_given(rows(5, 3))
    own, others = make_kto(data).train_dataset, make_trainer(data, avoid_tokens="all").train_dataset
    made = [(tuple(row["prompt_ids"] + row["completion_ids"]), row["label"]) for row in own]
    assert sorted(made) == sorted((tuple(row["input_ids"]), row["part"] != "unsafe") for row in others)
    assert [ids for ids, _ in made] != [tuple(row["input_ids"]) for row in others]
    answers = {tuple(row["completion_ids"]) for row in own if row["label"]}
    assert answers == {tuple(y for y in row["labels"] if y >= 0) for row in others if row["part"] != "unsafe"}
    assert make_kto(data).train_dataset["input_ids"] == own["input_ids"]
    assert make_kto(data, seed=7).train_dataset["input_ids"] != own["input_ids"]


def test_what_it_cannot_honour_is_refused(make_kto: Any, rows: Rows) -> None:
    with pytest.raises(ConfigError, match=r"needs desirable and undesirable rows, got 4 benign and 0 unsafe"):
        make_kto(rows(4, 0))
    with pytest.raises(ConfigError, match=r"needs desirable and undesirable rows, got 0 benign and 3 unsafe"):
        make_kto(rows(0, 3))
    with pytest.raises(DataError, match=r"train: has rows with a weight of their own"):
        make_kto(rows(4, 2).add_column("weight", [1.0, 1.0, 2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ConfigError, match=r"target_modules: got lm_head"):
        make_kto(rows(4, 2), {"target_modules": ["q_proj", "lm_head"]})
    # As for the other objectives, no unsafe row may vanish by being too long.
    with pytest.raises(DataError, match=r"unsafe-\d: no answer token is left to avoid"):
        make_kto(rows(4, 2), max_length=6)
