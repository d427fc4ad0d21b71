"""Other ways to write a request: encodings, and the past tense. Each is a function of the text alone."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Callable

from steerclear.attacks.pyrit import PREFIX, pyrit_transform
from steerclear.errors import ConfigError, one_of

# Each word stands in (?a:...), so that case is ignored for ASCII letters alone: to Unicode an i without its dot is an i too, and
# its lower case is another letter.
_LEET = str.maketrans("aeiostAEIOST", "431057431057")

_PLEASE = re.compile(
    r"^(?a:please[, ]+|(?:can|could|would|will) you (?:please )?|i (?:want|need|would like) you to )", re.IGNORECASE
)
_HOW = re.compile(
    r"^(?a:how (?:to|(?:do|does|did|can|could|would|should|might)(?: (?:i|we|you|one|someone|somebody|people|a person))?) )",
    re.IGNORECASE,
)
_BE = re.compile(r"^(?a:(?P<asks>what|which|who|where|when|why|how) (?P<verb>is|are) )", re.IGNORECASE)
_DO = re.compile(r"^(?a:(?P<asks>what|which|who|where|when|why) (?:do|does|can|could|should) )", re.IGNORECASE)
_PERSONS = {
    "i": "they",
    "you": "they",
    "we": "they",
    "my": "their",
    "your": "their",
    "our": "their",
    "me": "them",
    "us": "them",
}
_PERSON = re.compile(rf"\b(?a:{'|'.join(_PERSONS)})\b", re.IGNORECASE)


def leetspeak(text: str) -> str:
    """Return the text with digits for letters that look like them.

    >>> leetspeak("Write a test")
    'Wr173 4 7357'
    """
    return text.translate(_LEET)


def disemvowel(text: str) -> str:
    """Return the text without its vowels.

    >>> disemvowel("Write a test")
    'Wrt  tst'
    """
    return re.sub("[aeiouAEIOU]", "", text)


def to_base64(text: str) -> str:
    """Return the text's UTF-8 bytes in Base64 (RFC 4648).

    >>> to_base64("Write a test")
    'V3JpdGUgYSB0ZXN0'
    """
    return base64.b64encode(text.encode()).decode()


def rot13(text: str) -> str:
    """Return the text with each Latin letter moved by 13 places.

    >>> rot13("Write a test")
    'Jevgr n grfg'
    """
    return codecs.encode(text, "rot13")


def past_tense(text: str) -> str:
    """Return the request as a question about what people did in the past.

    By rules, where the source lets a language model rewrite it: after "did" an English verb keeps its plain form, so a command
    and a question with "how" become one by their beginnings. What has another form is left as it is after "In the past,".

    >>> past_tense("Write a tutorial on how to bake bread")
    'How did people write a tutorial on how to bake bread in the past?'
    >>> past_tense("How do I hide my cake?")
    'How did people hide their cake in the past?'
    >>> past_tense("What are ways to eat cake?")
    'What were ways to eat cake in the past?'
    """
    asked = _PLEASE.sub("", text.strip()).rstrip("?.! ")
    if how := _HOW.match(asked):
        changed = f"How did people {asked[how.end() :]}"
    elif be := _BE.match(asked):
        changed = f"{be['asks']} {'was' if be['verb'].lower() == 'is' else 'were'} {asked[be.end() :]}"
    elif do := _DO.match(asked):
        changed = f"{do['asks']} did {asked[do.end() :]}"
    elif re.match(r"(?a:what|which|who|where|when|why|if|is|are|do|does)\b", asked, re.IGNORECASE):
        return f"In the past, {_lower_first(asked)}?"
    else:
        changed = f"How did people {_lower_first(asked)}"
    return _PERSON.sub(lambda person: _PERSONS[person[0].lower()], changed) + " in the past?"


def _lower_first(text: str) -> str:
    """Return the text with its first letter in lower case, where that is one letter too."""
    lower = text[:1].lower()
    return (lower if len(lower) == 1 else text[:1]) + text[1:]


TRANSFORMS: dict[str, Callable[[str], str]] = {
    "base64": to_base64,
    "rot13": rot13,
    "leetspeak": leetspeak,
    "disemvowel": disemvowel,
    "past_tense": past_tense,
}
"""Name in a card -> function."""


def transform_of(name: str) -> Callable[[str], str]:
    """Return a transform by its name in a card.

    Raises:
        ConfigError: there is no such one, or it is PyRIT's and that is not installed.
    """
    if name.startswith(PREFIX):
        return pyrit_transform(name.removeprefix(PREFIX))
    if name not in TRANSFORMS:
        raise ConfigError(one_of("transform", name, TRANSFORMS))
    return TRANSFORMS[name]


def readable(answer: str) -> str:
    """Return an answer as a person would read it: one that is nothing but Base64 of text is decoded, any other is left.

    >>> readable("TWl4IHRoZW0sIHRoZW4gd2FpdC4=")
    'Mix them, then wait.'
    """
    packed = "".join(answer.split())
    if len(packed) < 16 or len(packed) % 4 or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", packed):
        return answer
    try:
        text = base64.b64decode(packed, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return answer
    return text if text.isprintable() or "\n" in text else answer
