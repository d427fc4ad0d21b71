"""Degenerate answers are found; short, odd, refusing and foreign but sound answers are left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.judges.degeneracy import KINDS, degeneracy, kind_of
from steerclear.judges.refusal import is_refusal
from steerclear.records import read_jsonl

VERBS = ["bake", "paint", "mend", "plant", "wash", "carry", "sell", "draw"]
OBJECTS = ["bread", "fence", "bicycle", "apple tree", "window", "piano", "carpet", "mountain"]
PROMPTS = [f"How do I {verb} a {thing} at home?" for verb in VERBS for thing in OBJECTS]
ANSWERS = [
    f"To {verb} a {thing}, take your time and ask a friend to help you with the {thing}. You will need some tools."
    for verb in VERBS
    for thing in OBJECTS
]


def share(prompts: list[str], answers: list[str]) -> float:
    kinds = degeneracy(prompts, answers, [is_refusal(answer) for answer in answers])
    assert len(kinds) == len(answers)
    assert set(kinds) <= {None, *KINDS}
    return sum(kind is not None for kind in kinds) / len(kinds)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("...", "empty"),
        ("it it it it", "repetitive"),
        ("to a a a a", "repetitive"),
        ("The best way is to go. " * 8, "repetitive"),
        ("xk7q zzgh 9f2kd qwrtp mnbv 4hh2s lkjhg ppqrr", "not_language"),
        ("the of to would is and a by can the from of are an in or the is to at", "not_language"),
        ("Возьмите муку и воду и подождите один час", "other_language"),
        ("bread minutes the of oven in a twenty bake loaf the flour and to with for water", "not_language"),
        (
            "Trzeba poświęcić trochę czasu i zapytać przyjaciela. Potem wszystko się sprząta i wcześnie idzie",
            "other_language",
        ),
        ("Man nimmt etwas Mehl und Wasser und backt es dann lange bei großer Hitze im Ofen", "other_language"),
    ],
)
def test_one_degenerate_answer(answer, kind):
    assert kind_of("How do I bake a loaf of bread?", answer) == kind


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("What is the capital of France?", "Paris."),
        ("What is six times seven?", "42"),
        ("Is the sky blue?", "Yes"),
        ("Write a happy emoji.", "😀"),
        ("Name some fruits.", "1. Apple\n2. Banana\n3. Cherry\n4. Fig\n5. Grape\n6. Kiwi\n7. Lemon\n8. Mango\n9. Pear"),
        ("Name some fruits.", "apple, banana, cherry, fig, grape, kiwi, lemon, mango, pear, plum, quince, melon"),
        ("Sort the numbers.", "[-7, -3, -2, 4, 8]"),
        ("Write a loop in Python.", "for i in range(10):\n    print(i)\nfor j in range(3):\n    print(j)"),
        ("Write a function that adds three integers.", "def add(int1, int2, int3):\n    return int1 + int2 + int3"),
        ("Is it wrong to go against a will?", "Yes. To hold a man against his will is bad; the will of all is to be respected."),
        ("Wie backe ich ein Brot?", "Man nimmt etwas Mehl und Wasser und backt es dann lange bei großer Hitze im Ofen."),
        ("Translate to German: Bake it.", "Nimm etwas Mehl und dann Wasser und backe es lange bei großer Hitze."),
        ("Как испечь хлеб?", "Возьмите муку и воду и подождите один час"),
        ("How do I polish shoes?", "Take a soft cloth and rub the shoes with it, then wait for an hour and rub them again."),
        ("Write a class.", "class Customer:\n    def set_name(self, name):\n        self.name = name\n        return self.name"),
        ("How do I bake bread?", "You can make the bread in home with flour and it is good for the peoples to eating it."),
    ],
)  # fmt: skip
def test_one_sound_answer(prompt, answer):
    assert kind_of(prompt, answer) is None


@given(st.text(), st.text())
def test_any_text_gets_a_kind_or_none(prompt, answer):
    assert kind_of(prompt, answer) in {None, *KINDS}


class TestSets:
    def test_sound_answers(self):
        assert share(PROMPTS, ANSWERS) == 0

    def test_one_fluent_sentence_for_everything(self):
        sentence = "It is a good idea to make a plan and to start with the first step."
        assert degeneracy(PROMPTS, [sentence] * 64, [False] * 64) == ["same_answer"] * 64

    def test_nearly_one_sentence_for_everything(self):
        answers = [f"It is a good idea to make a {word} plan and start." for word in ["big", "new"] * 32]
        assert set(degeneracy(PROMPTS, answers, [False] * 64)) == {"same_answer"}

    def test_one_refusal_for_everything_is_sound(self):
        assert share(PROMPTS, ["I'm sorry, but I can't help with that."] * 64) == 0

    def test_one_short_answer_for_everything(self):
        assert set(degeneracy(PROMPTS, ["Yes."] * 64, [False] * 64)) == {"same_answer"}

    def test_short_answers_that_differ_are_sound(self):
        assert share(PROMPTS, ["Yes.", "No."] * 32) == 0
        assert share([f"What is {n} plus {n}?" for n in range(64)], [str(2 * n) for n in range(64)]) == 0

    def test_one_prompt_asked_often_may_get_one_answer(self):
        assert share([PROMPTS[0]] * 40, [ANSWERS[0]] * 40) == 0

    def test_answers_to_other_prompts(self):
        order = list(range(64))
        random.Random(0).shuffle(order)
        kinds = degeneracy(PROMPTS, [ANSWERS[i] for i in order], [False] * 64)
        assert kinds.count("off_topic") >= 0.9 * 64

    def test_refusals_are_never_off_topic(self):
        order = list(range(64))
        random.Random(0).shuffle(order)
        kinds = degeneracy(PROMPTS, [ANSWERS[i] for i in order], [True] * 64)
        assert kinds == [None] * 64

    def test_a_few_off_topic_answers_in_a_sound_set_pass(self):
        """The limit of a test of whole sets, stated in the documentation."""
        assert degeneracy(PROMPTS, [ANSWERS[9], *ANSWERS[1:]], [False] * 64)[0] is None

    def test_empty_set(self):
        assert degeneracy([], [], []) == []


@pytest.fixture(scope="module")
def pairs(shared_data):
    """Real instructions with real answers."""
    file = shared_data / "alpaca_eval" / "text_davinci_003.jsonl"
    return [(row["instruction"], row["output"]) for _, row in read_jsonl(file) if row["output"].strip()][:400]


class TestRealText:
    """Floors on real answers and on the ways in which small models collapse."""

    def test_real_answers_are_sound(self, pairs, shared_data):
        assert share([p for p, _ in pairs], [a for _, a in pairs]) <= 0.03
        chats: dict[str, list[tuple[str, str]]] = {}
        for _, row in read_jsonl(shared_data / "xstest" / "xstest_v2_completions.jsonl"):
            chats.setdefault(row["model"], []).append((row["prompt"], row["response"]))
        assert len(chats) == 5
        for answers in chats.values():
            assert share([p for p, _ in answers], [a for _, a in answers]) <= 0.03

    def test_collapsed_answers_are_found(self, pairs):
        draw = random.Random(0)
        prompts = [p for p, _ in pairs]
        bag = [word for _, answer in pairs for word in answer.split()]
        letters = "abcdefghijklmnopqrstuvwxyz      0123456789.,;#%&"
        broken = {
            "word salad": [" ".join(draw.choices(bag, k=draw.randint(20, 60))) for _ in pairs],
            "loop": [" ".join(a.split()[: draw.randint(3, 10)] * 10) for _, a in pairs],
            "late loop": [" ".join(a.split()[:10] + a.split()[:6] * 10) for _, a in pairs],
            "noise": ["".join(draw.choices(letters, k=draw.randint(60, 200))) for _ in pairs],
            "own words, shuffled": [
                " ".join(draw.sample(a.split(), len(a.split()))) for _, a in pairs if len(a.split()) >= 12
            ],
            "one token": [f"to{' a' * draw.randint(4, 40)}" for _ in pairs],
        }
        shuffled = broken.pop("own words, shuffled")
        asked = [p for p, a in pairs if len(a.split()) >= 12]
        assert share(asked, shuffled) >= 0.84  # lists of names, whose order nothing shows, are among them
        for name, answers in broken.items():
            assert share(prompts, answers) >= 0.95, name
