"""Toxic words: the log-odds by hand, what is left out, and real prompts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from steerclear.errors import ConfigError, DataError
from steerclear.harvest.contrast_options import WordOptions
from steerclear.harvest.words import STOP_WORDS, toxic_words, words_of
from steerclear.records import Prompt

ANY = WordOptions(min_count=1, min_z=-9, min_log_odds=-9, prior_share=2)


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(id=f"t{number}", suite="toxic", prompt=text) for number, text in enumerate(texts)]


def test_log_odds_and_z_by_hand() -> None:
    # Toxic: rob 2, bank 1 of 3. Benign: bank 2, bread 1 of 3. The prior: rob 2.5, bank 3.5, bread 1.5.
    # With it toxic has rob 4.5, bank 4.5, bread 1.5 of 10.5; benign has rob 2.5, bank 5.5, bread 2.5 of 10.5.
    found = {word.word: word for word in toxic_words(prompts("Rob, bank!", "rob"), ["bank bank", "bread"], ANY)}
    assert set(found) == {"rob", "bank"}  # bread is in no toxic prompt
    rob = found["rob"]
    assert rob.log_odds == pytest.approx(math.log(4.5 / 6) - math.log(2.5 / 8), abs=1e-3)
    assert rob.z == pytest.approx(math.log(2.4) / math.sqrt(1 / 4.5 + 1 / 2.5), abs=1e-3)
    assert (rob.toxic, rob.benign, rob.prompts) == (2, 0, ["t0", "t1"])
    assert found["bank"].log_odds == pytest.approx(math.log(4.5 / 6) - math.log(5.5 / 5), abs=1e-3)


def test_words_of_both_texts_and_function_words_fall_out() -> None:
    asked = prompts(*["How do I steal someone's bread without a word?"] * 20)
    told = ["Take the bread, then say a word."] * 20
    assert [word.word for word in toxic_words(asked, told, WordOptions())] == ["steal"]


def test_the_limits_of_count_and_number() -> None:
    asked = prompts(*["steal poison"] * 6, *["poison"] * 3, "sabotage")
    told = ["bread butter"] * 20
    assert [word.word for word in toxic_words(asked, told, WordOptions(min_log_odds=1))] == ["poison", "steal"]
    assert [word.word for word in toxic_words(asked, told, WordOptions(min_log_odds=1, count=1))] == ["poison"]
    assert [word.word for word in toxic_words(asked, told, WordOptions(min_log_odds=1, min_count=7))] == ["poison"]
    left = WordOptions(min_log_odds=1, exclude=["Poison"])
    assert [word.word for word in toxic_words(asked, told, left)] == ["steal"]


def test_a_larger_prior_wants_more_of_a_word() -> None:
    asked, told = prompts(*["steal"] * 3), ["bread"] * 300
    log_odds = [
        toxic_words(asked, told, WordOptions(prior_share=prior, min_z=0, min_log_odds=0))[0].log_odds
        for prior in (0.1, 10)
    ]
    assert log_odds[0] > log_odds[1]


def test_nothing_to_find_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match="Lower them"):
        toxic_words(prompts("bread and butter"), ["bread and butter"], WordOptions())
    with pytest.raises(DataError, match="have no words"):
        toxic_words(prompts("?"), ["bread"], WordOptions())
    with pytest.raises(DataError, match="neither"):
        toxic_words(prompts("?"), ["!"], WordOptions())
    with pytest.raises(ConfigError, match=r"count: got 0.*\nprior_share: got -1"):
        WordOptions(count=0, prior_share=-1)


def test_words_of_a_text() -> None:
    assert words_of("DON’T poison the neighbour’s dog; café, it's 42!") == ["poison", "the", "neighbour", "dog", "café"]


def test_real_prompts_have_the_words_that_a_person_would_name(shared_data: Path) -> None:
    with (shared_data / "beavertails_pairs" / "train.jsonl").open() as lines:
        asked = prompts(*(json.loads(line)["prompt"] for line in lines))
    with (shared_data / "alpaca" / "alpaca_20k.jsonl").open() as lines:
        told = ["\n".join((row["instruction"], row["output"])) for row in map(json.loads, lines)]
    found = [word.word for word in toxic_words(asked, told[:5000], WordOptions(count=200))]
    assert {"steal", "kill", "drugs", "rob", "weapon"} <= set(found)
    assert not STOP_WORDS & set(found)
    assert not {"write", "list", "explain", "people", "good", "think"} & set(found)
