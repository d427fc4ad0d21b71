"""The beginning of an answer that an attacker puts into the model's mouth: of prefilled suites, and of the attacks that open.

A fixed text, or the first words or tokens of an unsafe answer (Qi et al. 2024, arXiv 2406.05946).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from steerclear.records import KIND, PREFILL, PREFILLED


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How answers begin: one of the three."""

    text: str | None = None
    """The same words for all."""
    words: int | None = None
    """So many words of the unsafe answer, parted by white space."""
    tokens: int | None = None
    """So many tokens of it, of the asked model's tokenizer."""

    def of(self, answer: str | None, tokenizer: Any = None) -> str | None:
        """Return the beginning, given the unsafe answer to the prompt; None where that goes on no further, or is not known."""
        if self.text is not None:
            return self.text
        if self.words is not None:
            return first_words(answer or "", self.words)
        ids = tokenizer(answer or "", add_special_tokens=False)["input_ids"]
        begun = str(tokenizer.decode(ids[: self.tokens])).strip() if len(ids) > (self.tokens or 0) else ""
        return begun or None


def text_problems(text: str | None) -> list[str]:
    """Return what is wrong with a fixed opening, for the error of the options that have it."""
    if text is None or (text != "" and text == text.rstrip()):
        return []
    return [f"prefill: got {text!r}, allowed: words with no white space after them; the model brings its own."]


def opening_tags(begun: str) -> dict[str, str]:
    """Return the tags of a prompt whose answer begins so."""
    return {KIND: PREFILLED, PREFILL: begun}


def first_words(answer: str, words: int) -> str | None:
    """Return the beginning of an answer up to the end of a word, as it stands there; None where no word comes after it.

    Words are parted by white space, so a text without any is one word and has no beginning.

    >>> first_words("Mix  them, then wait.", 2)
    'Mix  them,'
    """
    ends = [word.end() for word in islice(re.finditer(r"\S+", answer), words + 1)]
    return answer[: ends[words - 1]] if len(ends) > words else None
