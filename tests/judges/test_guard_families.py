"""What the guards' own documentation shows of their output, and what they should never break on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.errors import ConfigError
from steerclear.judges.guard_families import FAMILIES, Reading, family_of
from steerclear.judges.options import GuardOptions

FORMS = [
    ("llama-guard", "safe", ("safe", (), None)),
    ("llama-guard", "\n\nsafe", ("safe", (), None)),
    ("llama-guard", "Safe \r\n", ("safe", (), None)),
    ("llama-guard", "\n\nunsafe\nS9", ("unsafe", ("S9",), None)),
    ("llama-guard", "unsafe\nS1,S14", ("unsafe", ("S1", "S14"), None)),
    ("llama-guard", " UNSAFE \n\nS1, S2 ,S1\n", ("unsafe", ("S1", "S2"), None)),
    ("llama-guard", "unsafe", ("unsafe", (), None)),
    ("llama-guard", "safety first", None),
    ("llama-guard", "unsafe content", None),
    ("llama-guard", "It is safe", None),
    ("llama-guard", "", None),
    ("qwen3guard", "Safety: Safe\nCategories: None\nRefusal: Yes", ("Safe", (), True)),
    ("qwen3guard", "Safety: Unsafe\nCategories: Violent\nRefusal: No", ("Unsafe", ("Violent",), False)),
    ("qwen3guard", "Safety: Unsafe\nCategories: Violent", ("Unsafe", ("Violent",), None)),
    (
        "qwen3guard",
        "\nsafety:  controversial \ncategories: Suicide & Self-Harm, Non-violent Illegal Acts\nrefusal: no\n",
        ("Controversial", ("Suicide & Self-Harm", "Non-violent Illegal Acts"), False),
    ),
    ("qwen3guard", "Safety: Unsafe\nCategories:\nRefusal: No", ("Unsafe", (), False)),
    ("qwen3guard", "Safety: Unsafely", None),
    ("qwen3guard", "Categories: Violent\nRefusal: No", None),
    ("wildguard", "Harmful request: yes\nResponse refusal: no\nHarmful response: yes", ("yes", (), False)),
    ("wildguard", " Harmful request: yes\nResponse refusal: yes\nHarmful response: no\n", ("no", (), True)),
    ("wildguard", "harmful request: no\nresponse refusal: N/A\nharmful response: NO", ("no", (), None)),
    ("wildguard", "Harmful request: yes\nResponse refusal: no\nHarmful response: N/A", None),
    ("wildguard", "Harmful request: yes\nResponse refusal: no", None),
    ("granite-guardian", "Yes", ("yes", (), None)),
    ("granite-guardian", "No\n<confidence> High </confidence>", ("no", (), None)),
    ("granite-guardian", "<think>\n</think>\n\n<score> yes </score>", ("yes", (), None)),
    ("granite-guardian", "<think>\nYes, it is harmful\n</think>\n<score>no</score>", ("no", (), None)),
    ("granite-guardian", "Nothing", None),
    ("granite-guardian", "<score> maybe </score>", None),
    ("shieldgemma", "Yes", None),  # is read from probabilities
]


@pytest.mark.parametrize(("family", "said", "expected"), FORMS)
def test_recorded_forms(family: str, said: str, expected: tuple[str, tuple[str, ...], bool | None] | None) -> None:
    reading = FAMILIES[family].read(said)
    if expected is None:
        assert reading is None
        return
    word, categories, refused = expected
    assert reading == Reading(word=word, start=reading.start, categories=categories, refused=refused)
    assert said[reading.start :].lower().startswith(word.lower())


PIECES = [
    "safe",
    "unsafe",
    "\n",
    " ",
    "Safety:",
    "Controversial",
    "Categories:",
    "None",
    ",",
    "S1",
    "Refusal:",
    "yes",
    "No",
]
PIECES += [
    "Harmful response:",
    "Response refusal:",
    "<score>",
    "</score>",
    "<think>",
    "N/A",
    "ſafe",
    "ı",
    "İ",
    "\x00",
    "\u2028",
]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(sorted(FAMILIES)))
def test_any_text_is_read_or_not(said: str, family: str) -> None:
    reading = FAMILIES[family].read(said)
    if reading is not None:
        assert reading.word in FAMILIES[family].grades
        assert said[reading.start : reading.start + len(reading.word)].lower() == reading.word.lower()
        assert all(name == name.strip() and name for name in reading.categories)


@pytest.mark.parametrize(
    ("model", "template", "family"),
    [
        ("meta-llama/Llama-Guard-3-8B", "A comma-separated list of violated categories.", "llama-guard"),
        ("meta-llama/Llama-Guard-4-12B", None, "llama-guard"),
        ("Qwen/Qwen3Guard-Gen-0.6B", "as a comma-separated list of violated categories", "qwen3guard"),
        ("models/wildguard/", None, "wildguard"),
        ("google/shieldgemma-2b", "{{ guideline }}", "shieldgemma"),
        ("ibm-granite/granite-guardian-3.1-2b", "{{ guardian_config }}", "granite-guardian"),
        ("runs/judge/", "{{ guardian_config }}", "granite-guardian"),
        ("runs/judge", "... a comma-separated list of violated categories.", "llama-guard"),
        ("wildguard/chat-model", "{{ messages }}", None),
        ("runs/judge", None, None),
    ],
)
def test_the_family_is_known_by_name_or_template(model: str, template: str | None, family: str | None) -> None:
    assert family_of(model, template) == family


def test_every_entry_is_whole() -> None:
    for name, family in FAMILIES.items():
        assert set(family.grades.values()) >= {0.0, 1.0}, name
        assert set(family.default_policies) <= set(family.policies), name
        assert family.text or family.template_mark, name
        assert family.text is None or {"{prompt}", "{response}"} <= set(family.text.split()), name
        assert bool(family.text and family.policies) == ("{policy}" in (family.text or "")), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "wildgard"}, "family: got 'wildgard', allowed: llama-guard.* Did you mean 'wildguard'"),
        ({"threshold": 1.0}, "threshold: got 1.0, allowed: a probability"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_options_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GuardOptions(model="m", **changes)
