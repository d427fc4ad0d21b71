"""Sequences in one row against the same sequences one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM

from steerclear.training.packed_attention import NAME, boundaries, use_packed_attention

LENGTHS = (5, 1, 9, 3)


def small(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    settings = {
        "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "initializer_range": 0.5,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(settings | changes)))


def row() -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and position ids of the sequences in one row."""
    ids = torch.randint(1, 61, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))
    return ids, torch.cat([torch.arange(n) for n in LENGTHS])[None]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("mistral", {"sliding_window": 4}),
        ("mistral", {"sliding_window": None}),
        ("gemma3_text", {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_a_row_is_its_sequences_one_by_one(kind: str, changes: dict[str, Any], checkpointing: bool) -> None:
    """Hidden states and gradients; windows shorter than a sequence, and grouped heads, too."""
    model = small(kind, **changes)
    ids, positions = row()
    alone = torch.cat([model.base_model(part).last_hidden_state for part in ids.split(LENGTHS, dim=1)], dim=1)
    alone.square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.base_model.parameters()])
    model.zero_grad()
    assert use_packed_attention(model)
    if checkpointing:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    packed = model.base_model(ids, position_ids=positions, attention_mask=boundaries(positions)).last_hidden_state
    packed.square().sum().backward()
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
    found = torch.cat([p.grad.flatten() for p in model.base_model.parameters()])
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_without_boundaries_it_is_the_models_own_attention() -> None:
    model = small("llama").eval()
    ids, _ = row()
    mask = torch.ones_like(ids)
    mask[:, :4] = 0
    before = [model(ids).logits, model(ids, attention_mask=mask).logits, model.generate(ids, max_new_tokens=4)]
    assert use_packed_attention(model)
    after = [model(ids).logits, model(ids, attention_mask=mask).logits, model.generate(ids, max_new_tokens=4)]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old)


def test_another_attention_is_left_alone_and_refuses_boundaries() -> None:
    model = small("llama")
    model.set_attn_implementation("eager")
    assert not use_packed_attention(model)
    assert model.config._attn_implementation == "eager"
    plain = small("llama")
    ids, positions = row()
    with pytest.raises(RuntimeError, match="attn_mask"):
        plain.base_model(ids, position_ids=positions, attention_mask=boundaries(positions))


def test_what_makes_or_reads_masks_by_itself_keeps_its_own_attention() -> None:
    for kind, changes in (("doge", {}), ("llama4_text", {"attention_chunk_size": 4})):
        model = small(kind, **changes)
        assert not use_packed_attention(model)
        assert model.config._attn_implementation == "sdpa"


def test_a_model_that_mixes_sequences_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A recurrent layer carries its state over every boundary, whatever the attention does."""
    model = small("jamba", use_mamba_kernels=False)
    with caplog.at_level("WARNING"):
        assert not use_packed_attention(model)
    assert "JambaForCausalLM mixes the sequences of a packed row" in caplog.text
    assert "packing=False" in caplog.text


@pytest.mark.parametrize(
    "cut", [{"packing": True, "max_length": 64}, {"padding_free": True, "max_length": None}], ids=str
)
def test_the_trainer_uses_it_and_saves_no_trace_of_it(make_trainer: Any, rows: Any, tmp_path: Any, cut: Any) -> None:
    trainer = make_trainer(rows(5, 3), peft_config=LoraConfig(r=2, task_type="CAUSAL_LM"), **cut)
    assert trainer.model.config._attn_implementation == NAME
    trainer.train()
    trainer.model.get_base_model().save_pretrained(tmp_path / "model")
    assert NAME not in (tmp_path / "model" / "config.json").read_text()
