"""Evidence of English word order: classes, the table's sums, and what spelling gives away."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.judges.word_order import (
    CLASSES,
    END,
    HIGHEST,
    LOWEST,
    SPELLING,
    TABLE,
    class_of,
    classes_of,
    evidence,
    neighbours,
)

PROSE = (
    "The best way to clean a window is to wash it with warm water and a soft cloth. After that you should dry it with an old "
    "newspaper, so that no stains are left on the glass. If the window is very dirty, you can add a few drops of soap."
)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("The", "the"),
        ("can't", "would"),
        ("Don’t", "have"),
        ("quickly", "-ly"),
        ("king", "other"),
        ("houses", "-s"),
        ("gas", "other"),
    ],
)
def test_classes(word, name):
    assert class_of(word) == name


def test_will_is_a_noun_after_a_determiner():
    assert classes_of(["the", "will", "is"]) == ["the", "other", "is"]
    assert classes_of(["he", "will", "is"]) == ["he", "would", "is"]


def test_the_table_is_whole_and_cut():
    assert set(TABLE) == {(first, second) for first in CLASSES for second in CLASSES}
    assert LOWEST <= min(TABLE.values()) < 0 < max(TABLE.values()) <= HIGHEST


def test_borders_stand_before_every_clause_and_not_at_the_end():
    assert neighbours([["the", "other"], ["of"]]) == [(END, "the"), ("the", "other"), ("other", END), (END, "of")]
    assert neighbours([]) == []


def test_evidence_by_hand():
    assert evidence("of the") == TABLE[END, "of"] + TABLE["of", "the"]
    assert evidence("an house") == TABLE[END, "the"] + TABLE["the", "other"] + SPELLING
    assert evidence("an hour") == evidence("a house") == TABLE[END, "the"] + TABLE["the", "other"]
    assert evidence("go The") == TABLE[END, "make"] + TABLE["make", "the"] + SPELLING


def test_prose_against_its_words_in_any_order():
    words = PROSE.split()
    assert evidence(PROSE) > 20
    draw = random.Random(0)
    assert max(evidence(" ".join(draw.sample(words, len(words)))) for _ in range(50)) < 0


@given(st.text())
def test_any_text_has_evidence(text):
    assert isinstance(evidence(text), int)
