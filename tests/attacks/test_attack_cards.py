"""The attacks that come with the package, one's own, and what a recipe changes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerclear.attacks.cards import AttackCard, list_attacks, load_attack
from steerclear.attacks.options import AttackOptions
from steerclear.errors import ConfigError


def test_every_card_names_its_source() -> None:
    cards = list_attacks()
    assert {card.name for card in cards} >= {
        "direct", "sure", "opening", "prefix_injection", "role_play", "past_tense", "base64", "leetspeak", "many_shot",
        "system_override", "sampling",
    }  # fmt: skip
    for card in cards:
        assert card.about.endswith(".")
        assert card.name == "direct" or "arXiv" in card.source or "NeurIPS" in card.source


def test_an_attack_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "polite.yaml"
    file.write_text("name: polite\nversion: 1\nabout: Please.\nsource: ours\ntemplate: 'Please: {request}'\n")
    assert load_attack(str(file)).template == "Please: {request}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("template: Please", "template: got 'Please', which has no {request}"),
        ("transform: base46", "transform: got 'base46', allowed: base64, rot13, leetspeak, disemvowel, past_tense. Did you mean"),
        ("prefill: 'Sure '", "prefill: got 'Sure ', allowed: words with no white space after them"),
        ("samples: 4", "samples: got 4 at temperature 0, where all samples are the same"),
        ("opening_words: 0", "opening_words: got 0, allowed: 1 or more"),
        ("{prefill: Sure, opening_words: 2}", "prefill, opening_words: give one of these"),
        ("shots: -1", "shots: got -1, allowed: 0 or more"),
        ("shot: 2", "shot: unknown key. Did you mean 'shots'?"),
    ],
)  # fmt: skip
def test_a_wrong_card_says_what_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "own.yaml"
    more = "" if line.startswith("{") else line
    file.write_text(f"name: own\nversion: 1\nabout: A.\nsource: ours\n{more}\n")
    if line.startswith("{"):
        file.write_text(file.read_text() + "prefill: Sure\nopening_words: 2\n")
    with pytest.raises(ConfigError) as error:
        load_attack(str(file))
    assert str(error.value).startswith(f"{file}: {said}")


def test_an_unknown_attack_has_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"got 'roleplay', allowed: base64.*Did you mean 'role_play'"):
        load_attack("roleplay")


def test_what_a_recipe_changes_is_in_the_name() -> None:
    assert AttackOptions(card="opening").name == "opening"
    assert AttackOptions(card="opening", opening_words=2).name == "opening-2-words"
    assert AttackOptions(card="sure", opening_tokens=3).changed(load_attack("sure")).prefill is None
    assert AttackOptions(card="sampling", samples=3, temperature=0.7).name == "sampling-3-samples"
    many = AttackOptions(card="many_shot", shots=4, shots_from="rows.jsonl")
    assert (many.name, many.changed(load_attack("many_shot")).shots) == ("many_shot-4-shots", 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"card": "many_shot"}, "shots_from: belongs to 64 shots of 'many_shot'. Name the rows"),
        ({"card": "direct", "shots_from": "rows.jsonl"}, "shots_from: belongs to 0 shots of 'direct'. Leave it out"),
        ({"card": "direct", "openings_from": "a.jsonl"}, "openings_from: 'direct' does not begin with an answer's words"),
        ({"card": "direct", "name": "a/b"}, "name: got 'a/b'"),
        ({"card": "opening", "opening_words": 1, "opening_tokens": 1}, "give one of the two"),
    ],
)  # fmt: skip
def test_changes_that_do_not_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        AttackOptions(**changes)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_several_samples_need_a_temperature() -> None:
    with pytest.raises(ConfigError, match="samples"):
        AttackCard(name="a", version=1, about="A.", source="ours", samples=2)
