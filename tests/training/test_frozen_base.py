"""Objectives and their options in the trained step, and the frozen base that some compare with: the adapter switched off."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from steerclear.errors import ConfigError
from steerclear.training import head as head_module

Rows = Callable[[int, int], Dataset]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
ALL = {"avoid_tokens": "all"}
FORMS: list[dict[str, Any]] = [
    {"objective": "gradient_ascent", "kl_weight": 0.8, **ALL},
    {"objective": "npo", "npo_beta": 0.4, **ALL},
    {"objective": "npo_mean", "kl_weight": 0.5, **ALL},
    {"objective": "simnpo", **ALL},
    {"objective": "emd", "gate_power": 1.0, "token_decay": 0.7, **ALL},
    {"objective": "circuit_breaker", "kl_weight": 0.3, **ALL},
]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form["objective"])


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to float32 rounding, relative to the larger norm."""
    return bool((a - b).norm() <= 2e-5 * max(a.norm(), b.norm()))


def adapter(**changes: Any) -> LoraConfig:
    """An adapter that is not zero at the start, so that the model is not its base."""
    return LoraConfig(**(LORA | {"init_lora_weights": False} | changes))


def step_by_hand(trainer: Any, base: Any, tokenizer: Any, dataset: Dataset, form: dict[str, Any]) -> float:
    """The step's loss with a second model as the base, one row at a time, from full logits; gradients land on the adapter."""
    benign, anchor, penalties, counts = [], [], [], []
    for row in dataset:
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*prompt, *answer, tokenizer.eos_token_id]])
        p = trainer.model(ids).logits[0].double().softmax(-1)[len(prompt) - 1 : -1]
        with torch.no_grad():
            p_base = base(ids).logits[0].double().softmax(-1)[len(prompt) - 1 : -1]
        y = ids[0, len(prompt) :]
        if row["label"]:
            benign.append(-p[range(len(y)), y].log())
            anchor.append((p_base * (p_base / p).log()).sum(-1))
            continue
        n = len(answer)
        p_y, ratio = p[range(n), y[:n]], p[range(n), y[:n]] / p_base[range(n), y[:n]]
        count = 1.0
        if form["objective"] == "gradient_ascent":
            loss, count = p_y.log().sum(), n
        elif form["objective"] == "npo":
            loss = 2 / 0.4 * (1 + ratio.prod() ** 0.4).log()
        elif form["objective"] == "npo_mean":
            loss = 2 / 2.5 * (1 + ratio.prod() ** (2.5 / n)).log()
        elif form["objective"] == "simnpo":
            loss = 2 / 2.5 * (1 + p_y.prod() ** (2.5 / n)).log()
        elif form["objective"] == "circuit_breaker":
            h, h_base = (
                model(ids, output_hidden_states=True).hidden_states[-1][0, len(prompt) - 1 :][:n].double()
                for model in (trainer.model, base)
            )
            cosine = (h * h_base.detach()).sum(-1) / h.norm(dim=-1) / h_base.detach().norm(dim=-1)
            loss, count = cosine[cosine > 0].sum(), n
        else:
            unit = torch.nn.functional.normalize(base.get_output_embeddings().weight.detach(), dim=-1).double()
            cost = (p[:n] * (1 - (unit[y[:n]] @ unit.T).clamp(min=0))).sum(-1)
            factor = torch.tensor([0.7**k for k in range(n)])
            loss, count = -(cost * factor * (1 - p_y.detach())).sum(), float(factor.sum())
        penalties.append(loss)
        counts.append(count)
    total = torch.cat(benign).mean() + 2.0 * sum(penalties) / sum(counts)
    total = total + form.get("kl_weight", 0.0) * torch.cat(anchor).mean()
    total.backward()
    return total.item()


@each_form
def test_the_step_is_the_hand_written_one_with_a_second_model_as_base(
    make_trainer: Any, make_llama: Any, tokenizer: Any, rows: Rows, step_gradient: Any, form: dict[str, Any]
) -> None:
    dataset = rows(5, 3)
    trainer = make_trainer(dataset, peft_config=adapter(), penalty_weight=2.0, **form)
    trainer.model.train()
    expected = step_by_hand(trainer, make_llama().eval(), tokenizer, dataset, form)
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    trainer.model.zero_grad()
    assert gradient.norm() > 0.1
    assert close(step_gradient(trainer), gradient)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


CUTS: dict[str, dict[str, Any]] = {
    "packed-accumulated": {
        "packing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "max_length": 64,
    },
    "checkpointed-reference": {"gradient_checkpointing": True, "loss_impl": "reference"},
    "3x3": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
    "padding-free": {"padding_free": True, "max_length": None},
}


@each_form
def test_no_way_of_cutting_the_batch_changes_the_gradient(
    make_trainer: Any, rows: Rows, step_gradient: Any, form: dict[str, Any]
) -> None:
    """Every form on the first two cuts; one that needs the base for both of its terms on all of them."""

    def step(**changes: Any) -> tuple[torch.Tensor, dict[str, float]]:
        trainer = make_trainer(rows(5, 3), peft_config=adapter(), penalty_weight=2.0, **form, **changes)
        return step_gradient(trainer), trainer.state.log_history[0]

    whole, log = step()
    for cut in CUTS if form["objective"] == "npo_mean" else list(CUTS)[:2]:
        split, split_log = step(**CUTS[cut])
        assert close(split, whole), cut
        for name in {"penalty", "penalty_count", "anchor"} & set(log):
            assert split_log[name] == pytest.approx(log[name], rel=1e-5), (cut, name)
        assert ("anchor" in log) == ("kl_weight" in form)


@pytest.mark.parametrize("form", FORMS[:3], ids=lambda form: form["objective"])
def test_streamed_and_reference_walk_the_same_way(make_trainer: Any, rows: Rows, form: dict[str, Any]) -> None:
    ends, losses = [], []
    for impl in ("streamed", "reference"):
        trainer = make_trainer(
            rows(5, 3), loss_impl=impl, peft_config=adapter(), penalty_weight=0.1, max_steps=4, learning_rate=0.02,
            per_device_train_batch_size=4, **form,
        )  # fmt: skip
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad]))
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (ends[0] - ends[1]).norm() <= 1e-4 * ends[1].norm()


@pytest.mark.parametrize("cut", [{}, {"packing": True}, {"gradient_checkpointing": True}], ids=str)
@pytest.mark.parametrize("impl", ["streamed", "reference"])
def test_the_anchor_is_an_exact_zero_before_the_first_step_and_grows(
    make_trainer: Any, rows: Rows, cut: dict[str, Any], impl: str
) -> None:
    """A new adapter adds nothing, its dropout too."""
    trainer = make_trainer(
        rows(5, 3), peft_config=LoraConfig(**(LORA | {"lora_dropout": 0.3})), objective="npo", kl_weight=1.0,
        max_steps=3, learning_rate=0.1, loss_impl=impl, **cut,
    )  # fmt: skip
    trainer.train()
    anchors = [entry["anchor"] for entry in trainer.state.log_history if "anchor" in entry]
    assert anchors[0] == 0.0
    assert anchors[2] > 0
    # NPO at the base model: (2/β) log 2.
    assert trainer.state.log_history[0]["penalty"] == pytest.approx(20 * math.log(2), rel=1e-6)


def test_training_changes_the_model_and_leaves_the_reference_as_it_is(
    make_trainer: Any, make_llama: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    ours = head_module.log_probability

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(ours(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(head_module, "log_probability", spy)
    trainer = make_trainer(
        rows(5, 3), peft_config=LoraConfig(**(LORA | {"lora_dropout": 0.3})), objective="npo", max_steps=3, learning_rate=0.5,
        **ALL,
    )  # fmt: skip
    flags = [(p.requires_grad, m.training) for m in trainer.model.modules() for p in m.parameters(recurse=False)]
    ids = torch.tensor([[1, 5, 6, 7]])
    trainer.train()
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert not seen[0].requires_grad
    with torch.no_grad():
        trainer.model.eval()
        before, after = make_llama().eval()(ids).logits, trainer.model(ids).logits
        with trainer.model.disable_adapter():
            base = trainer.model(ids).logits
    assert torch.equal(base, before)
    assert not torch.allclose(after, before, atol=1e-3)
    trainer.model.train()
    assert flags == [
        (p.requires_grad, m.training) for m in trainer.model.modules() for p in m.parameters(recurse=False)
    ]


def test_the_base_is_not_asked_where_nothing_is_compared(
    make_trainer: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A micro-batch without unsafe rows is the normal case."""
    asked: list[int] = []
    ours = head_module.as_base
    monkeypatch.setattr(head_module, "as_base", lambda *args: (asked.append(1), ours(*args))[1])
    counts = {}
    for form in ({"objective": "npo"}, {"objective": "simnpo"}, {"objective": "simnpo", "kl_weight": 1.0}):
        asked.clear()
        trainer = make_trainer(
            rows(5, 1), peft_config=adapter(), per_device_train_batch_size=1, gradient_accumulation_steps=6, **form
        )
        trainer.train()
        counts[(form["objective"], "kl_weight" in form)] = len(asked)
    assert counts == {("npo", False): 1, ("simnpo", False): 0, ("simnpo", True): 5}


def test_the_anchor_holds_gradient_ascent_back(make_trainer: Any, rows: Rows) -> None:
    moved = []
    for weight in (1e-6, 5.0):
        trainer = make_trainer(
            rows(5, 3), peft_config=LoraConfig(**LORA), objective="gradient_ascent", kl_weight=weight, max_steps=20,
            learning_rate=0.05, penalty_weight=0.5, **ALL,
        )  # fmt: skip
        trainer.train()
        moved.append([entry["anchor"] for entry in trainer.state.log_history if "anchor" in entry][-1])
    assert moved[1] < 0.8 * moved[0]


def test_held_out_rows_have_an_anchor_too(make_trainer: Any, rows: Rows) -> None:
    trainer = make_trainer(rows(3, 2), eval_dataset=rows(4, 0), peft_config=adapter(), objective="npo", kl_weight=0.5)
    figures = trainer.evaluate()
    assert figures["eval_anchor"] > 0
    assert figures["eval_loss"] == pytest.approx(figures["eval_benign_loss"] + 0.5 * figures["eval_anchor"], rel=1e-5)


@pytest.mark.parametrize(
    ("form", "lora", "message"),
    [
        ({"objective": "npo"}, None, r"objective=npo: compares with the frozen base model.*here all weights train"),
        ({"objective": "emd", "kl_weight": 0.5}, None, "kl_weight=0.5: compares with the frozen base"),
        ({"objective": "npo"}, {"bias": "lora_only"}, "adapter 'default' trains biases of the base itself"),
        ({"objective": "emd", "kl_weight": -1.0}, {}, r"kl_weight: got -1.0, allowed: 0 \(no anchor\) or more"),
        ({"objective": "nlcl", "gate_power": 1.0}, {}, "gate_power: got 1.0 with objective 'nlcl'"),
        ({"objective": "emd", "npo_beta": 1.0}, {}, "npo_beta: got 1.0 with objective 'emd'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    make_trainer: Any, rows: Rows, form: dict[str, Any], lora: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(rows(3, 2), peft_config=None if lora is None else LoraConfig(**(LORA | lora)), **form)
