"""The hash that tells two training sets apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from steerclear.data.manifest import hash_rows
from steerclear.records import Row

ROW = Row(id="a", prompt="p", completion="c", label=True, source="f.jsonl:1")
OTHER = dataclasses.replace(ROW, id="b")


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"prompt": "x"}, {"completion": "x"}, {"label": False}, {"input": "x"}, {"weight": 0.5}],
)
def test_whatever_training_sees_changes_the_hash(change: dict[str, Any]) -> None:
    assert hash_rows([dataclasses.replace(ROW, **change), OTHER]) != hash_rows([ROW, OTHER])


def test_the_order_changes_the_hash_and_the_source_does_not() -> None:
    assert hash_rows([OTHER, ROW]) != hash_rows([ROW, OTHER])
    assert hash_rows([dataclasses.replace(ROW, source="g.jsonl:9")]) == hash_rows([ROW])
