"""The trained step: what it computes, and that no way of cutting a batch changes it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig

from steerclear import SteerClearConfig, SteerClearTrainer
from steerclear.errors import ConfigError, DataError

Rows = Callable[[int, int], Dataset]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}

OBJECTIVES = [
    {"objective": "emd_bound", "cost": "cosine", "avoid_tokens": "all"},
    {"objective": "emd", "cost": "clipped", "avoid_tokens": "first", "avoid_first_k": 2, "avoid_until": 0.0},
    {"objective": "nlcl", "avoid_tokens": "all"},
    {"objective": "unlikelihood", "avoid_tokens": "all"},
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o["objective"])


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to float32 rounding, relative to the larger norm."""
    return bool((a - b).norm() <= 2e-5 * max(a.norm(), b.norm()))


def plain_step(model: Any, tokenizer: Any, dataset: Dataset, objective: dict[str, Any], weight: float) -> float:
    """The loss of Eqs. 6 and 8 written by hand, one row at a time, from full logits; gradients land on the model."""
    model.train()
    benign: list[torch.Tensor] = []
    penalties: list[torch.Tensor] = []
    unit = torch.nn.functional.normalize(model.get_output_embeddings().weight.detach(), dim=-1)
    for row in dataset:
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*prompt, *answer, tokenizer.eos_token_id]])
        probabilities = model(ids).logits[0].double().softmax(-1)[len(prompt) - 1 : -1]
        if row["label"]:
            benign.append(-probabilities.gather(-1, ids[0, len(prompt) :, None]).squeeze(-1).log())
            continue
        n = objective["avoid_first_k"] if objective["avoid_tokens"] == "first" else len(answer)
        p, y = probabilities[:n], torch.tensor(answer[:n])
        p_y = p.gather(-1, y[:, None]).squeeze(-1)
        if objective["objective"] == "emd_bound":
            penalties.append(-0.5 * (p @ unit.double() - unit[y].double()).pow(2).sum(-1))
        elif objective["objective"] == "emd":
            penalties.append(-(p * (1 - (unit[y] @ unit.T).clamp(min=0)).double()).sum(-1))
        elif objective["objective"] == "nlcl":
            penalties.append(-torch.log(1 - p_y.log().mean().exp())[None])
        else:
            penalties.append(-torch.log(1 - p_y))
    zero = torch.zeros(1)
    loss = torch.cat(benign or [zero]).mean() + weight * torch.cat(penalties or [zero]).mean()
    loss.backward()
    return float(loss.detach())


@each_objective
@pytest.mark.parametrize(("benign", "unsafe"), [(5, 0), (19, 1), (4, 4), (5, 1)])
def test_the_step_is_the_hand_written_one(
    make_trainer: Any,
    make_llama: Any,
    tokenizer: Any,
    rows: Rows,
    step_gradient: Any,
    objective: Any,
    benign: int,
    unsafe: int,
) -> None:
    """0, 5 and 50 % unsafe rows, and one unsafe row."""
    dataset = rows(benign, unsafe)
    model = make_llama()
    expected = plain_step(model, tokenizer, dataset, objective, 2.0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    trainer = make_trainer(dataset, penalty_weight=2.0 if unsafe else 0.0, **objective)
    got = step_gradient(trainer)
    assert close(got, gradient)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


CUTS: dict[str, dict[str, Any]] = {
    "3x3": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
    "packed-accumulated": {
        "packing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "max_length": 64,
    },
    "1x8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "packed": {"packing": True},
    "padding-free": {"padding_free": True, "max_length": None},
    "checkpointed": {"gradient_checkpointing": True},
    "reference": {"loss_impl": "reference"},
}


@each_objective
def test_no_way_of_cutting_the_batch_changes_the_gradient(
    make_trainer: Any, rows: Rows, step_gradient: Any, objective: Any
) -> None:
    """Every objective on the first two cuts, which pad, pack and accumulate; one that counts its tokens on all of them."""
    dataset = rows(5, 3)

    def gradient(**changes: Any) -> torch.Tensor:
        trainer = make_trainer(
            dataset, peft_config=LoraConfig(**LORA, init_lora_weights=False), penalty_weight=2.0, **objective, **changes
        )
        return step_gradient(trainer)

    whole = gradient()
    assert whole.norm() > 0.1
    for name in CUTS if objective["objective"] == "emd" else list(CUTS)[:2]:
        assert close(gradient(**CUTS[name]), whole), name


LAYOUTS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"packing": True}, False),
    ({"packing": True}, True),
    ({"padding_free": True, "max_length": None}, False),
    ({"padding_free": True, "max_length": None}, True),
    ({}, False),
]


@pytest.mark.parametrize(
    ("objective", "cut", "lora"),
    [(o, *layout) for o in OBJECTIVES for layout in (LAYOUTS if o["objective"] == "emd_bound" else LAYOUTS[:2])],
    ids=lambda value: value["objective"] if isinstance(value, dict) and "objective" in value else str(value),
)
def test_streamed_and_reference_walk_the_same_way(
    make_trainer: Any, rows: Rows, objective: Any, cut: Any, lora: bool
) -> None:
    """Six optimizer steps, gradient checkpointing on: the weights end at the same place, and every step logs the same loss."""
    ends, losses = [], []
    for impl in ("streamed", "reference"):
        trainer = make_trainer(
            rows(5, 3), loss_impl=impl, peft_config=LoraConfig(**LORA, init_lora_weights=False) if lora else None,
            penalty_weight=0.5, max_steps=6, learning_rate=0.05, gradient_checkpointing=True, per_device_train_batch_size=4,
            **objective, **cut,
        )  # fmt: skip
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad]))
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 6
    assert losses[0][-1] < losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (ends[0] - ends[1]).norm() <= 1e-4 * ends[1].norm()


def test_under_the_papers_normalization_cutting_does_change_it(
    make_trainer: Any, rows: Rows, step_gradient: Any
) -> None:
    dataset, options = rows(5, 3), {"penalty_weight": 2.0, "normalization": "paper", **OBJECTIVES[0]}
    whole = step_gradient(make_trainer(dataset, **options))
    split = step_gradient(
        make_trainer(dataset, per_device_train_batch_size=1, gradient_accumulation_steps=8, **options)
    )
    assert not close(whole, split)


def test_the_papers_bound_has_no_half(
    make_trainer: Any, make_llama: Any, tokenizer: Any, rows: Rows, step_gradient: Any
) -> None:
    """`normalization="paper"` with λ is `global` with 2 λ on one micro-batch, and logs the penalty without the ½."""
    dataset = rows(5, 3)
    model = make_llama()
    plain_step(model, tokenizer, dataset, OBJECTIVES[0], 2 * 0.7)
    trainer = make_trainer(dataset, penalty_weight=0.7, normalization="paper", **OBJECTIVES[0])
    assert close(step_gradient(trainer), torch.cat([p.grad.flatten() for p in model.parameters()]))
    halved = make_trainer(dataset, penalty_weight=0.7, **OBJECTIVES[0])
    halved.train()
    assert trainer.state.log_history[0]["penalty"] == pytest.approx(
        2 * halved.state.log_history[0]["penalty"], rel=1e-6
    )


@each_objective
def test_a_batch_of_unsafe_rows_only(
    make_trainer: Any, make_llama: Any, tokenizer: Any, rows: Rows, step_gradient: Any, objective: Any
) -> None:
    model = make_llama()
    plain_step(model, tokenizer, rows(0, 3), objective, 1.0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert close(step_gradient(make_trainer(rows(0, 3), penalty_weight=1.0, **objective)), gradient)


def test_a_micro_batch_without_unsafe_rows_gives_every_parameter_a_gradient(make_trainer: Any, rows: Rows) -> None:
    trainer = make_trainer(rows(4, 1), penalty_weight=1.0, per_device_train_batch_size=1)
    for row in range(5):
        batch = trainer.data_collator([{k: trainer.train_dataset[row][k] for k in ("input_ids", "labels")}])
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, batch).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trainer.model.parameters())


def test_weights_multiply_a_rows_pull(make_trainer: Any, rows: Rows, step_gradient: Any) -> None:
    """The same row at weight 2 gives twice the gradient; the count stays."""
    plain = rows(0, 1)
    double = plain.add_column("weight", [2.0])
    assert close(
        step_gradient(make_trainer(double, **OBJECTIVES[2])), 2 * step_gradient(make_trainer(plain, **OBJECTIVES[2]))
    )


def test_what_is_logged(make_trainer: Any, rows: Rows) -> None:
    trainer = make_trainer(rows(5, 3), eval_dataset=rows(4, 0), eval_strategy="steps", eval_steps=1, **OBJECTIVES[1])
    trainer.train()
    step, evaluation = trainer.state.log_history[0], trainer.state.log_history[1]
    assert step["unsafe_tokens"] == step["penalty_count"] == 3 * 2
    assert step["penalty"] == pytest.approx(step["penalty_total"] / 6)
    assert step["unsafe_token_share"] == pytest.approx(6 / (6 + step["benign_tokens"]))
    assert 0 < step["unsafe_probability"] <= 1
    assert step["loss"] == pytest.approx(step["benign_loss"] + step["penalty"], rel=1e-6)
    assert step["unsafe_row_repeats"] == 1.0
    # Held-out benign loss; no unsafe row there, so no penalty mean and no NaN.
    assert evaluation["eval_benign_loss"] == pytest.approx(evaluation["eval_loss"], rel=1e-5)
    assert "eval_penalty" not in evaluation
    assert all(math.isfinite(v) for v in (step | evaluation).values() if isinstance(v, float))


def test_held_out_loss_is_per_token_not_per_batch(make_trainer: Any, rows: Rows) -> None:
    figures = [
        make_trainer(rows(2, 1), eval_dataset=rows(5, 0), per_device_eval_batch_size=size).evaluate()
        for size in (1, 2, 5)
    ]
    losses = [figure[name] for figure in figures for name in ("eval_benign_loss", "eval_loss")]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-5)


def test_stratified_sampling_gives_every_step_its_share(make_trainer: Any, rows: Rows) -> None:
    trainer = make_trainer(
        rows(38, 3), sampling="stratified", unsafe_share=0.1, per_device_train_batch_size=5, gradient_accumulation_steps=2,
        max_steps=-1, num_train_epochs=3, **OBJECTIVES[1],
    )  # fmt: skip
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "penalty_count" in entry]
    assert len(steps) == 3 * 5
    assert {entry["penalty_count"] for entry in steps} == {2}
    # 38 benign rows, 9 a step: 5 unsafe draws an epoch over 3 rows.
    assert steps[-1]["unsafe_row_repeats"] == pytest.approx(3 * 5 / 3)


def test_stratified_packs_keep_unsafe_packs_apart(make_trainer: Any, rows: Rows) -> None:
    trainer = make_trainer(
        rows(20, 6), sampling="stratified", packing=True, max_length=64, per_device_train_batch_size=4, unsafe_share=0.25,
        max_steps=-1, num_train_epochs=1, **OBJECTIVES[1],
    )  # fmt: skip
    trainer.train()
    assert all(entry["unsafe_tokens"] > 0 for entry in trainer.state.log_history if "unsafe_tokens" in entry)


@pytest.mark.parametrize("changes", [{}, {"packing": True, "max_length": 64}])
def test_added_rows_have_a_share_of_their_own(make_trainer: Any, rows: Rows, changes: dict[str, Any]) -> None:
    """Also without unsafe rows; without a share they are drawn with the benign rows."""
    both = rows(30, 3)
    added = rows(2, 0).map(lambda row: {**row, "added": True, "id": f"more {row['id']}"})
    dataset = concatenate_datasets([both, added])
    settings = {
        "sampling": "stratified", "unsafe_share": 0.2, "per_device_train_batch_size": 5, "max_steps": -1, **changes,
        **OBJECTIVES[1],
    }  # fmt: skip
    trainer = make_trainer(dataset, extra_share=0.4, **settings)
    parts = trainer.train_dataset["part"]
    order = [parts[i] for i in trainer._get_train_sampler()]
    for start in range(0, len(order) - 4, 5):
        assert Counter(order[start : start + 5]) == {"benign": 2, "unsafe": 1, "added": 2}
    trainer.train()
    plain = make_trainer(dataset, **settings)
    parts = plain.train_dataset["part"]
    assert Counter(parts[i] for i in plain._get_train_sampler())["added"] == parts.count("added")
    alone = make_trainer(dataset, extra_share=0.4, **(settings | {"penalty_weight": 0.0}))
    assert alone.sampling_summary()["sampling"] == "stratified"
    with pytest.raises(ConfigError, match="with no added row"):
        make_trainer(both, extra_share=0.4, **settings)


def test_tokenized_rows_are_taken_as_they_are(make_trainer: Any, rows: Rows, step_gradient: Any) -> None:
    made = make_trainer(rows(5, 3), **OBJECTIVES[0])
    again = make_trainer(made.train_dataset.select_columns(["input_ids", "labels"]), **OBJECTIVES[0])
    assert close(step_gradient(again), step_gradient(made))


def test_full_fine_tuning_of_a_tied_head_moves_no_ground_cost(
    make_trainer: Any, make_llama: Any, rows: Rows, step_gradient: Any, tokenizer: Any
) -> None:
    """Trap 7: the embedding of the cost is detached also where the head trains and is tied to the input embedding."""
    dataset = rows(3, 2)
    model = make_llama(tie_word_embeddings=True)
    plain_step(model, tokenizer, dataset, OBJECTIVES[1], 1.0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert close(
        step_gradient(make_trainer(dataset, model=make_llama(tie_word_embeddings=True), **OBJECTIVES[1])), gradient
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty_weight": -1.0}, "penalty_weight: got -1.0, allowed: 0 or more. A negative λ would train towards"),
        ({"objective": "emdd"}, r"objective: got 'emdd', allowed: .* Did you mean 'emd'\?"),
        ({"objective": "emd_bound", "cost": "clipped"}, "cost: got 'clipped' with objective 'emd_bound'"),
        ({"normalization": "mean"}, "normalization: got 'mean', allowed: global, paper"),
        ({"sampling": "random"}, "sampling: got 'random', allowed: stratified, uniform"),
        ({"unsafe_share": 1.0}, "unsafe_share: got 1.0, allowed: above 0 and below 1"),
        ({"extra_share": 0.0}, "extra_share: got 0.0, allowed: above 0 and below 1, or none"),
        ({"extra_share": 0.1, "sampling": "uniform"}, "extra_share: got 0.1 with sampling 'uniform'"),
        ({"packing": True, "packing_strategy": "wrapped"}, "packing_strategy: got 'wrapped', allowed: bfd"),
        ({"avoid_tokens": "last"}, "avoid_tokens: got 'last', allowed: all, first"),
        ({"avoid_first_k": 0}, "avoid_first_k: got 0, allowed: 1 or more"),
        ({"loss_impl": "fast"}, "loss_impl: got 'fast', allowed: streamed, reference"),
        ({"loss_type": "dft"}, "loss_type: got 'dft', allowed: nll"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: got 0.1, allowed: 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(tmp_path: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SteerClearConfig(output_dir=str(tmp_path), **changes)


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({}, 0.1),
        ({"avoid_tokens": "all"}, 0.0),
        ({"avoid_until": 0.0}, 0.0),
        ({"objective": "unlikelihood"}, 0.1),
        ({"objective": "nlcl"}, 0.0),
    ],
)
def test_the_push_on_first_tokens_stops_by_default(tmp_path: Any, changes: dict[str, Any], until: float) -> None:
    assert SteerClearConfig(output_dir=str(tmp_path), **changes).loss_options.until == until


def test_wrong_arguments_are_refused_together(tmp_path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SteerClearConfig(output_dir=str(tmp_path), penalty_weight=-1.0, sampling="x", unsafe_share=2.0)
    assert len(str(caught.value).splitlines()) == 3


def test_wrong_rows_are_refused(make_trainer: Any, rows: Rows) -> None:
    with pytest.raises(ConfigError, match=r"got 1.0 with no unsafe row"):
        make_trainer(rows(3, 0), penalty_weight=1.0)
    with pytest.raises(DataError, match=r"column label is missing: got prompt, completion, id;"):
        make_trainer(rows(3, 1).remove_columns("label"))
    with pytest.raises(DataError, match="no answer token is left to"):
        make_trainer(rows(3, 1), max_length=4)
    with pytest.raises(DataError, match="has input_ids but no labels"):
        make_trainer(Dataset.from_list([{"input_ids": [1, 2]}]))
    with pytest.raises(DataError, match=r"label: got None, allowed: true"):
        make_trainer(Dataset.from_list([{"prompt": "a", "completion": " b", "label": None}]))


def test_unsupported_arguments_of_the_base_class_are_refused(make_llama: Any, tmp_path: Any, rows: Rows) -> None:
    args = SteerClearConfig(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ConfigError, match="compute_loss_func: not supported"):
        SteerClearTrainer(make_llama(), args, train_dataset=rows(2, 1), compute_loss_func=lambda *_: None)
    with pytest.raises(ConfigError, match="args: got NoneType, expected a SteerClearConfig"):
        SteerClearTrainer(make_llama(), train_dataset=rows(2, 1))
