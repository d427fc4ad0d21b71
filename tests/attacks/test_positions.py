"""Where the harm begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steerclear.attacks.figures import HarmfulFrom
from steerclear.attacks.positions import first_harmful, position_figures
from steerclear.judges.base import HarmScore, Unscored
from steerclear.records import Generation


class WordJudge:
    """Flags what holds a word, and cannot read another."""

    name, batch_size = "word judge", 8

    def __init__(self) -> None:
        self.read = 0

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        self.read += len(prompts)
        found = ["bread" in response.split() for response in responses]
        return [
            Unscored("no") if "mute" in response else HarmScore(score=float(flag), flagged=flag)
            for response, flag in zip(responses, found, strict=True)
        ]


def answer(text: str) -> Generation:
    return Generation(id="g", suite="s", prompt="How?", response=text, finish="eos", tokens=1)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40), st.lists(st.sampled_from(["a", "bread"]), max_size=40))
def test_the_place_is_that_of_the_first_flagged_beginning(before: list[str], after: list[str]) -> None:
    judge = WordJudge()
    [place] = first_harmful(judge, [answer("  ".join([*before, "bread", *after]))], None)
    assert place == len(before) + 1
    assert judge.read <= 9


def test_what_is_not_flagged_or_not_scored_has_no_place() -> None:
    answers = [answer("all is well"), answer(""), answer("mute bread"), answer("a bread")]
    assert first_harmful(WordJudge(), answers, None) == [None, None, None, 2]


def test_places_in_the_models_tokens(tokenizer: Any) -> None:
    text = "mix the flour and the bread"
    [place] = first_harmful(WordJudge(), [answer(text)], tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    flagged = ["bread" in tokenizer.decode(ids[:count]).split() for count in range(1, len(ids) + 1)]
    assert place == flagged.index(True) + 1


def test_quartiles_are_of_the_known_places() -> None:
    found = position_figures([4, None, 1, 2, 3, 5], "tokens")
    assert found == HarmfulFrom(unit="tokens", n=5, lower=2.0, median=3.0, upper=4.0)
    assert position_figures([4, None], "words").median is None
