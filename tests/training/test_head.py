"""The output head as the forward of each architecture uses it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertModel

from steerclear.errors import ModelError
from steerclear.training.head import head_of, sequence_index

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("mistral", {}),
        ("qwen3", {}),
        ("gemma2", {"final_logit_softcapping": 0.5}),
        ("cohere", {"logit_scale": 0.3}),
        ("granite", {"logits_scaling": 4.0}),
        ("phi", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_the_head_gives_the_models_own_logits(kind: str, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SMALL | {"initializer_range": 0.5} | changes))
    model = AutoModelForCausalLM.from_config(config).eval()
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        expected = model(ids).logits[0]
        got = head_of(model).logits(model.base_model(ids).last_hidden_state[0])
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected)


def test_a_model_without_a_head_is_refused() -> None:
    bert = BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    )
    with pytest.raises(ModelError, match="BertModel has no output head"):
        head_of(bert)


def test_sequences_begin_where_positions_start_anew() -> None:
    labels = torch.zeros(2, 5)
    assert sequence_index(labels, None).tolist() == [[0] * 5, [1] * 5]
    packed = sequence_index(labels, torch.tensor([[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]]))
    assert packed.tolist() == [[1, 1, 2, 2, 2], [6, 7, 7, 7, 7]]
