"""The reward model judge against the model called by hand, on small random models."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from steerclear.errors import ConfigError, ModelError
from steerclear.judges.base import HarmScore, Unscored, score_each
from steerclear.judges.options import RewardOptions
from steerclear.judges.reward import RewardJudge, conversation

PROMPTS = ["how do i bake bread ?", "how do i sneak into a cinema ?", "write a note", "wait"] * 3
RESPONSES = ["mix the flour and the water , then wait .", "walk in backwards .", "dear friend , " * 40, ""] * 3

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def saved(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> str:
    """DeBERTa v2, the published model's architecture, with one output."""
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer), relative_attention=True, pos_att_type=["p2c", "c2p"], num_labels=1, **SIZES
    )
    return saved(tmp_path_factory.mktemp("reward"), DebertaV2ForSequenceClassification(config), tokenizer)


@pytest.fixture(scope="module")
def labels_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> str:
    torch.manual_seed(0)
    names = {0: "safe", 1: "mild", 2: "harmful"}
    config = BertConfig(
        vocab_size=len(tokenizer), id2label=names, label2id={name: index for index, name in names.items()}, **SIZES
    )
    return saved(tmp_path_factory.mktemp("labels"), BertForSequenceClassification(config), tokenizer)


def options(model: str, **changes: Any) -> RewardOptions:
    return RewardOptions(**({"model": model, "max_length": 64, "device": "cpu"} | changes))


def by_hand(kind: Any, folder: str, tokenizer: PreTrainedTokenizerFast, prompt: str, response: str) -> torch.Tensor:
    """The logits of one text, called directly."""
    ids = tokenizer(f"\n\nHuman: {prompt}\n\nAssistant: {response}")["input_ids"][:64]
    with torch.no_grad():
        return kind.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).logits[0]


def test_scores_are_the_models_own(reward_model: str, tokenizer: PreTrainedTokenizerFast) -> None:
    judge = RewardJudge.load(options(reward_model, batch_size=5))
    scores = judge.score(PROMPTS, RESPONSES)
    for prompt, response, score in zip(PROMPTS[:4], RESPONSES, scores, strict=False):
        expected = by_hand(DebertaV2ForSequenceClassification, reward_model, tokenizer, prompt, response)[0].item()
        assert isinstance(score, HarmScore)
        assert score.score == pytest.approx(expected, abs=1e-5)
        assert score.flagged == (score.score >= 1.0)


def test_batching_changes_nothing(reward_model: str) -> None:
    together = RewardJudge.load(options(reward_model, batch_size=12)).score(PROMPTS, RESPONSES)
    alone = RewardJudge.load(options(reward_model, batch_size=1)).score(PROMPTS, RESPONSES)
    assert [s.score for s in together] == pytest.approx([s.score for s in alone], abs=1e-5)
    assert len({round(s.score, 4) for s in together}) == 4


def test_the_threshold_flags(reward_model: str) -> None:
    judge = RewardJudge.load(options(reward_model))
    middle = sorted(s.score for s in judge.score(PROMPTS[:4], RESPONSES[:4]))[2]
    at_it = RewardJudge.load(options(reward_model, threshold=middle)).score(PROMPTS[:4], RESPONSES[:4])
    assert [s.flagged for s in at_it] == [s.score >= middle for s in at_it]
    assert sum(s.flagged for s in at_it) == 2


@pytest.mark.parametrize("label", ["harmful", 2])
def test_a_label_is_scored_by_its_probability(
    label: str | int, labels_model: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    [score] = RewardJudge.load(options(labels_model, label=label)).score(PROMPTS[:1], RESPONSES[:1])
    logits = by_hand(BertForSequenceClassification, labels_model, tokenizer, PROMPTS[0], RESPONSES[0]).double()
    expected = (logits[2].exp() / logits.exp().sum()).item()
    assert score.score == pytest.approx(expected, abs=1e-6)
    assert score.flagged == (expected >= 0.5)


def test_labels_that_do_not_exclude_each_other(labels_model: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = BertForSequenceClassification.from_pretrained(labels_model)
    model.config.problem_type = "multi_label_classification"
    [score] = RewardJudge(model.eval(), tokenizer, options(labels_model, label="mild")).score(
        PROMPTS[:1], RESPONSES[:1]
    )
    logits = by_hand(BertForSequenceClassification, labels_model, tokenizer, PROMPTS[0], RESPONSES[0]).double()
    assert score.score == pytest.approx(1 / (1 + (-logits[1]).exp().item()), abs=1e-6)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            None,
            r"label: is missing; the model has several\. Name the harmful one of safe \(0\), mild \(1\), harmful \(2\)",
        ),
        ("harmfull", r"label: got 'harmfull', allowed: safe \(0\).* Did you mean 'harmful \(2\)'"),
        (3, "label: got 3, allowed"),
    ],
)
def test_a_wrong_label_is_named(label: str | int | None, message: str, labels_model: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardJudge.load(options(labels_model, label=label))


def test_a_reward_model_has_no_labels(reward_model: str) -> None:
    with pytest.raises(ConfigError, match="one output only"):
        RewardJudge.load(options(reward_model, label="harmful"))


def test_a_broken_model_leaves_answers_unscored(reward_model: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = DebertaV2ForSequenceClassification.from_pretrained(reward_model).eval()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    judge = RewardJudge(model, tokenizer, options(reward_model))
    assert score_each(judge, PROMPTS[:2], RESPONSES[:2]) == [Unscored("judge's score is nan")] * 2


def test_no_answers(reward_model: str) -> None:
    assert RewardJudge.load(options(reward_model)).score([], []) == []


def test_the_name_follows_what_changes_scores(reward_model: str, tmp_path: Path) -> None:
    base = options(reward_model)
    name = RewardJudge.load(base).name
    assert name.startswith(f"reward:{Path(reward_model).name}@")
    assert RewardJudge.load(replace(base, batch_size=2)).name == name
    assert RewardJudge.load(replace(base, threshold=2.0)).name != name
    assert RewardJudge.load(replace(base, max_length=32)).name != name

    moved = tmp_path / Path(reward_model).name
    shutil.copytree(reward_model, moved)
    assert RewardJudge.load(options(str(moved))).name == name
    weights = load_file(moved / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert RewardJudge.load(options(str(moved))).name != name


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    folder = saved(tmp_path, BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SIZES)), tokenizer)
    with pytest.raises(ModelError, match=r"weights are missing from its files, such as .*would be random"):
        RewardJudge.load(options(folder))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded.*Give a folder with config\.json"):
        RewardJudge.load(options(str(tmp_path)))


def test_pickled_weights_are_refused(reward_model: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = DebertaV2ForSequenceClassification.from_pretrained(reward_model)
    folder = saved(tmp_path, model, tokenizer)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        RewardJudge.load(options(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float61"}, "dtype: got 'float61'"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_length": 1}, "max_length"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardOptions(model="m", **changes)


def test_the_conversation_is_the_authors() -> None:
    assert conversation("a {b}", "c") == "\n\nHuman: a {b}\n\nAssistant: c"
