"""Perplexity of held-out answers, against a hand loop, the trainer's own loss and a uniform model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from steerclear import SteerClearConfig, SteerClearTrainer
from steerclear.data.templates import render_row
from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.perplexity import perplexity
from steerclear.evaluation.suites import load_rows
from steerclear.generation.weights import load_model
from steerclear.records import Row

ANSWERS = [
    " then wait .",
    " mix the flour and the water , then wait .",
    " goodbye .",
    " walk in backwards",
    " x y z",
    " a book",
]


def rows_of(answers=ANSWERS):
    return [
        Row(id=str(i), prompt=f"how do i bake {i} ?", completion=answer, label=True, source=f"r:{i}", input="a loaf" * (i % 2))
        for i, answer in enumerate(answers)
    ]  # fmt: skip


def by_hand(model, tokenizer, rows, template="plain"):
    """Negative log-likelihoods of each row's answer tokens, one row and one token at a time."""
    found = []
    for row in rows:
        shown = render_row(row, template)
        before = len(tokenizer(shown.prompt)["input_ids"])
        ids = [*tokenizer(shown.prompt + shown.completion)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            log_probabilities = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        found.append([-float(log_probabilities[i - 1, ids[i]]) for i in range(before, len(ids))])
    return found


@pytest.mark.parametrize("template", ["plain", "alpaca"])
def test_equals_one_row_at_a_time(make_llama, tokenizer, template, monkeypatch):
    monkeypatch.setattr("steerclear.evaluation.perplexity._CHUNK", 5)
    model, rows = make_llama().eval(), rows_of()
    losses = by_hand(model, tokenizer, rows, template)
    tokens, total = sum(map(len, losses)), sum(map(sum, losses))
    for batch_tokens in (1, 40, 10_000):
        found = perplexity(model, tokenizer, rows, template=template, batch_tokens=batch_tokens)
        assert (found.rows, found.tokens, found.cut, found.left_out) == (6, tokens, 0, 0)
        assert found.nll == pytest.approx(total / tokens, abs=1e-5)
        assert found.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-5)
        assert found.lower < found.perplexity < found.upper


def test_the_interval_is_the_bootstrap_of_the_ratio(make_llama, tokenizer):
    model, rows = make_llama().eval(), rows_of()
    losses = by_hand(model, tokenizer, rows)
    sums, counts = np.array([sum(row) for row in losses]), np.array([len(row) for row in losses])
    draws = np.random.default_rng(123).integers(6, size=(20_000, 6))
    expected = np.exp(np.quantile(sums[draws].sum(1) / counts[draws].sum(1), [0.025, 0.975]))
    found = perplexity(model, tokenizer, rows, template="plain")
    np.testing.assert_allclose([found.lower, found.upper], expected, rtol=0.02)
    assert perplexity(model, tokenizer, rows, template="plain", seed=1).lower != found.lower


def test_equals_the_trainers_benign_loss(make_llama, tokenizer, tmp_path):
    model, rows = make_llama(), rows_of()
    data = Dataset.from_list(
        [
            {"prompt": r.prompt, "completion": r.completion, "label": True}
            for r in (render_row(row, "plain") for row in rows)
        ]
    )
    args = SteerClearConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", penalty_weight=0.0, per_device_eval_batch_size=4, max_length=64
    )  # fmt: skip
    trainer = SteerClearTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)
    trained = trainer.evaluate()["eval_benign_loss"]
    assert perplexity(make_llama(), tokenizer, rows, template="plain").nll == pytest.approx(trained, rel=1e-5)


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large(make_llama, tokenizer):
    model = make_llama()
    torch.nn.init.zeros_(model.lm_head.weight)
    found = perplexity(model, tokenizer, rows_of())
    assert (found.perplexity, found.lower, found.upper) == (pytest.approx(len(tokenizer), rel=1e-5),) * 3


def test_an_unmerged_adapter_counts(make_llama, tokenizer):
    torch.manual_seed(1)
    adapted = get_peft_model(make_llama(), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    assert perplexity(adapted, tokenizer, rows_of()).nll != perplexity(make_llama(), tokenizer, rows_of()).nll


def test_long_rows_are_cut_and_counted(make_llama, tokenizer):
    rows = rows_of([" then wait .", " bread" * 50, " a"])
    whole = perplexity(make_llama(), tokenizer, rows, template="plain")
    short = len(tokenizer("how do i bake 0 ? then wait .")["input_ids"]) + 1
    found = perplexity(make_llama(), tokenizer, rows, template="plain", max_length=short + 3)
    assert (found.rows, found.left_out) == (3, 0)
    assert found.tokens + found.cut == whole.tokens
    assert found.cut > 0
    long = Row(id="long", prompt="bread " * 60, completion=" a", label=True, source="r:9")
    more = perplexity(make_llama(), tokenizer, [*rows, long], template="plain", max_length=short + 3)
    assert (more.rows, more.left_out, more.nll) == (3, 1, found.nll)
    one = perplexity(make_llama(), tokenizer, rows[:1], template="plain")
    assert (one.rows, one.lower, one.upper) == (1, None, None)
    with pytest.raises(DataError, match="none of 3 rows has an answer token within 2 tokens"):
        perplexity(make_llama(), tokenizer, rows, max_length=2)


def test_wrong_arguments_and_weights(make_llama, tokenizer):
    with pytest.raises(ConfigError, match="batch_tokens: got 0, allowed: 1 or more"):
        perplexity(make_llama(), tokenizer, rows_of(), batch_tokens=0)
    model = make_llama()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.raises(ModelError, match="is nan"):
        perplexity(model, tokenizer, rows_of())


def test_the_alpaca_card(shared_data, tiny_base):
    rows = load_rows(SuiteOptions(card="alpaca_heldout", data=str(shared_data), limit=20))
    assert len(rows) == 20
    model, tokenizer = load_model(str(tiny_base), None, dtype="float32")
    found = perplexity(model, tokenizer, rows, max_length=256)
    assert 2 < found.lower < found.perplexity < found.upper < 200
