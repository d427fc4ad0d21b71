"""The tokenizer and the base model: exact spelling, the same weights twice, a cache that is complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steerclear.demo import world
from steerclear.demo.model import (
    CONTEXT,
    BaseOptions,
    base_model,
    build_tokenizer,
    cache_folder,
    pretrain,
    save_folder,
    training_seconds,
)
from steerclear.errors import StorageError
from steerclear.generation.weights import load_base, load_tokenizer

SMALL = BaseOptions(documents=64, hidden_size=16, layers=1)


def ignore(done: int, total: int) -> None:
    assert 0 < done <= total


def test_every_text_of_the_world_survives_the_tokenizer_and_fits_the_context() -> None:
    tokenizer = build_tokenizer()
    for kind in world.KINDS:
        for question in world.questions(kind):
            for answer in (*(question.answer(opening) for opening in world.OPENINGS), world.REFUSAL):
                text = f"{question.text} {answer}"
                ids = tokenizer(text)["input_ids"]
                assert tokenizer.decode(ids, skip_special_tokens=True) == text
                assert ids[0] == tokenizer.bos_token_id
                assert tokenizer.unk_token_id not in ids
                assert len(ids) < CONTEXT


def test_the_same_options_give_the_same_weights_and_leave_the_global_seed_alone() -> None:
    state = torch.random.get_rng_state()
    first, again = (pretrain(SMALL, ignore)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_cache_is_used_again_and_other_options_have_their_own_folder(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        steps.append((done, total))

    folder = base_model(SMALL, tmp_path, count)
    assert steps == [(1, 2), (2, 2)]
    assert training_seconds(folder) >= 0
    assert base_model(SMALL, tmp_path, count) == folder
    assert steps == [(1, 2), (2, 2)]
    assert (
        base_model(BaseOptions(documents=64, hidden_size=16, layers=1, refusal_share=0.5), tmp_path, ignore) != folder
    )
    assert len(list(tmp_path.iterdir())) == 2  # no temporary folder is left
    assert load_base(str(folder), torch.float32).config.hidden_size == 16
    assert load_tokenizer(str(folder)).eos_token == "</s>"


def test_a_save_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    class Unsaveable:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "half").touch()
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left on device"):
        save_folder(tmp_path / "model", Unsaveable(), Unsaveable(), seconds=1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "steerclear" / "demo"
