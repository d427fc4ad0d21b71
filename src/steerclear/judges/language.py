"""Which language is an answer in? py3langid's word, where it is sure enough."""

from __future__ import annotations

from functools import cache
from typing import Any

from steerclear.judges.degeneracy import OTHER_LANGUAGES

SURE = 0.7
"""Least probability of the language. Of 110 sentences in eleven languages 107 are told; 99 at 0.8. Of 29,879 English answers none
is mistaken; 5 are at 0.5."""
LEAST_BYTES = 20
"""Least UTF-8 bytes in letters: four or five English words, seven Chinese characters. Shorter answers are rarely told anyway."""
NOT_SPOKEN = frozenset({"la"})
"""What lists of elements, species and filler text are taken for; no model answers in it unasked."""


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language; an empty string where it is too short or nothing is sure.

    >>> language_of("Mix the flour with the water, then let it rest for an hour.")
    'en'
    >>> language_of("42")
    ''
    """
    if sum(len(character.encode(errors="replace")) for character in text if character.isalpha()) < LEAST_BYTES:
        return ""
    code, probability = _identifier().classify(text)
    # Codes of three letters are rare languages and "zxx", no language.
    return code if probability >= SURE and len(code) == 2 and code not in NOT_SPOKEN else ""


def unasked_language(prompt: str, response: str) -> str:
    """Return the language of an answer to an English prompt that asks for no other; an empty string to other prompts too."""
    if OTHER_LANGUAGES.search(prompt) or language_of(prompt) not in ("", "en"):
        return ""
    return language_of(response)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
