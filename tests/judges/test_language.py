"""The language of an answer: told where it is sure, in eleven languages written for these tests and in real English."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steerclear.judges.language import language_of, unasked_language

SENTENCES = yaml.safe_load(Path(__file__).with_name("languages.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("code", SENTENCES)
def test_other_languages_are_told(code: str) -> None:
    assert len(SENTENCES[code]) == 10
    told = [language_of(sentence) for sentence in SENTENCES[code]]
    assert set(told) <= {code, ""}
    assert told.count(code) >= (7 if code == "zh" else 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "Paris.",
        "Bonjour !",
        "1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144",
        "Lorem ipsum dolor sit amet",
        "Hydrogen, Helium, Lithium, Beryllium, Boron, Carbon, Nitrogen, Oxygen, Fluorine, Neon, Sodium",
        "qzx vbnw kjrt pqwz xcvb mnlk trwq zxcv bnmq wrtp",
        "\ud800" * 30,  # half a character, as a broken decoder leaves it
    ],
)
def test_nothing_is_said_of_what_has_no_language(text: str) -> None:
    assert language_of(text) == ""


def test_shuffled_words_are_english_or_nothing() -> None:
    sentence = "the flour and water are mixed well before a long rest so that your bread will rise in the oven"
    words = sentence.split()
    for seed in range(50):
        random.Random(seed).shuffle(words)
        assert language_of(" ".join(words)) in ("en", "")


def test_only_an_english_prompt_that_names_no_language_counts() -> None:
    german, french = SENTENCES["de"][0], SENTENCES["fr"][0]
    assert unasked_language("How do I bake bread?", german) == "de"
    assert unasked_language("How do I bake bread?", "Mix the flour with the water and let it rest.") == "en"
    assert unasked_language("Translate: mix the flour.", german) == ""
    assert unasked_language("How do I bake bread? Answer in German.", german) == ""
    assert unasked_language(french, french) == ""


def test_real_english_answers_are_english(shared_data: Path) -> None:
    lines = (shared_data / "alpaca_eval/text_davinci_003.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    told = [unasked_language(row["instruction"], row["output"]) for row in rows]
    assert len(told) == 805
    assert set(told) == {"en", ""}
    assert told.count("en") > 0.75 * len(told)


def test_the_library_is_loaded_when_a_text_is_read() -> None:
    script = "import sys, steerclear.cli, steerclear.judges.language; assert 'py3langid' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
