"""Signed labels say the same after encoding and decoding, and look to TRL like labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steerclear.data.signed_labels import IGNORED, MAX_WEIGHT, decode, encode, is_avoided
from steerclear.errors import DataError


@given(st.integers(0, 300_000), st.booleans(), st.floats(1e-4, MAX_WEIGHT))
def test_decoding_undoes_encoding(token: int, avoid: bool, weight: float) -> None:
    label = encode(token, avoid=avoid, weight=weight)
    decoded = decode(torch.tensor([label]))
    assert int(decoded.targets) == token
    assert (bool(decoded.avoid), bool(decoded.imitate)) == (avoid, not avoid)
    assert is_avoided(label) is avoid
    assert float(decoded.weights) == pytest.approx(weight, abs=1e-5 + 1e-6 * weight)


@given(st.integers(0, 300_000), st.booleans(), st.floats(0, MAX_WEIGHT).filter(lambda w: w == 0 or w > 1e-4))
def test_only_a_weight_of_zero_looks_ignored(token: int, avoid: bool, weight: float) -> None:
    assert (encode(token, avoid=avoid, weight=weight) == IGNORED) is (weight == 0)


def test_the_neutral_weight_leaves_plain_labels() -> None:
    assert [encode(t, avoid=False) for t in (0, 7)] == [0, 7]
    assert [encode(t, avoid=True) for t in (0, 7)] == [-101, -108]


def test_ignored_is_neither_imitated_nor_avoided() -> None:
    decoded = decode(torch.tensor([[IGNORED, 0, -101]]))
    assert decoded.imitate.tolist() == [[False, True, False]]
    assert decoded.avoid.tolist() == [[False, False, True]]
    assert decoded.targets.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), MAX_WEIGHT * 1.01, 1e-9])
def test_weights_that_cannot_be_kept_are_refused(weight: float) -> None:
    with pytest.raises(DataError, match=r"weight: got .*allowed: 0, or"):
        encode(1, avoid=True, weight=weight)
