"""Near duplicates: the similarity is exact, what is found does not depend on the machine, and little is missed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data.near_duplicates import NearDuplicates, group_near, normalise, shingles, similarity_of
from steerclear.errors import ConfigError
from steerclear.records import read_jsonl


def test_the_similarity_is_worked_by_hand() -> None:
    assert shingles("Abcdef!") == {"abcd", "bcde", "cdef"}
    assert shingles("a b") == {"a b"}
    assert shingles("?") == {"?"}
    assert similarity_of("abcdef", "bcdefg") == 2 / 4
    assert similarity_of("ABCDEF!", "abcde f") == 2 / 5  # abcd bcde cdef against abcd bcde cde_ de_f


def test_the_similarity_of_texts_that_share_nothing_is_zero() -> None:
    assert similarity_of("abcdef", "uvwxyz") == 0


def test_the_nearest_is_found_and_at_a_tie_the_first() -> None:
    known = NearDuplicates(0.4)
    for key, text in (("far", "abcdefgh"), ("near", "abcdefghij"), ("again", "Abcdefghij."), ("other", "zyxwvutsrq")):
        known.add(key, text)
    assert known.find("abcdefghij!") == "near"
    found = known.find_all("abcdefghij")
    assert [(near.key, near.similarity) for near in found] == [("near", 1), ("again", 1), ("far", pytest.approx(5 / 7))]
    assert known.find("something else") is None


def test_nothing_is_near_before_anything_is_added() -> None:
    assert NearDuplicates(0.5).find("a text") is None


@pytest.mark.parametrize("similarity", [0, -0.1, 1.01, float("nan")])
def test_a_similarity_out_of_range_is_an_error(similarity: float) -> None:
    with pytest.raises(ConfigError, match=r"similarity: got .*, allowed: above 0 and at most 1"):
        NearDuplicates(similarity)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=20), max_size=6), st.text(max_size=20), st.sampled_from([0.05, 0.5, 0.9, 0.95, 1.0]))
def test_equal_texts_are_always_found_and_nothing_below_the_limit_ever(
    texts: list[str], asked: str, similarity: float
) -> None:
    known = NearDuplicates(similarity)
    for text in texts:
        known.add(text, text)
    found = {near.key: near.similarity for near in known.find_all(asked)}
    assert found == {text: similarity_of(text, asked) for text in found}
    assert all(value >= similarity for value in found.values())
    assert {text for text in texts if normalise(text) == normalise(asked)} <= set(found)


def test_little_is_missed_among_real_prompts(shared_data: Path) -> None:
    prompts = [value["prompt"] for _, value in read_jsonl(shared_data / "beavertails_pairs" / "train.jsonl")][:600]
    own = [shingles(text) for text in prompts]
    pairs = combinations(range(len(prompts)), 2)
    expected = {(a, b) for a, b in pairs if len(own[a] & own[b]) >= 0.5 * len(own[a] | own[b])}
    known, found = NearDuplicates(0.5), set()
    for place, text in enumerate(prompts):
        found |= {(int(near.key), place) for near in known.find_all(text)}
        known.add(str(place), text)
    assert len(expected) > 10
    assert found <= expected
    assert len(found) >= 0.95 * len(expected)


def test_groups_are_chains_and_do_not_depend_on_the_order() -> None:
    chain = ["abcdefghijklmn", "bcdefghijklmno", "cdefghijklmnop", "defghijklmnopq"]
    texts = [*chain, "Abcdefghijklmn!", "something quite different", ""]
    assert similarity_of(chain[0], chain[3]) < 0.7 <= similarity_of(chain[0], chain[1])
    groups = group_near(texts, 0.7)
    assert set(groups) == set(texts)
    assert len({groups[text] for text in texts[:5]}) == 1
    assert len(set(groups.values())) == 3
    random.Random(0).shuffle(texts)
    assert group_near(texts, 0.7) == groups
    assert group_near([], 0.7) == {}


def test_twenty_thousand_texts_take_well_under_a_minute() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(3000)]
    known = NearDuplicates(0.7)
    start = time.process_time()
    for number in range(1000):
        text = " ".join(rng.choices(words, k=60))
        assert known.find(text) is None
        known.add(str(number), text)
    assert time.process_time() - start < 60 / 20  # a twentieth of the texts, and of a minute


def test_importing_it_imports_no_numpy() -> None:
    script = "import sys, steerclear.data.near_duplicates; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
