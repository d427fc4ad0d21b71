"""Is an answer language at all, and about its prompt? Rules on words and scripts, no model.

Four kinds are seen in one answer: ``empty``, ``repetitive``, ``not_language``, ``other_language``. Two only in a whole set:
``same_answer`` (one non-refusal answer to many different prompts) and ``off_topic`` (the answers fit their own prompts no better
than they fit other prompts). Refusals are alike by nature and name no topic, so the last two leave them alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

KINDS = ("empty", "repetitive", "not_language", "other_language", "same_answer", "off_topic")

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NAME = re.compile(r"\w+")
_CLAUSE = re.compile(r"[.,;:!?()\[\]{}\"“”\n\t|/*=<>\d-]+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DETERMINERS = _set("a an the my your our their every")
_PREPOSITIONS = _set("of in to for with on at by from into about through")
_CONJUNCTIONS = _set("and or but")
_MODALS = _set("would could should may might must")  # "can" and "will" are nouns too
_VERBS = _set("is are was were be been has have had do does did")
_PRONOUNS = _set("i you he she it we they")
_OTHERS = _set("that this these those not as if so no there what which who how when than them him us me its his her")
FUNCTION_WORDS = {"can", "will"} | _DETERMINERS | _PREPOSITIONS | _CONJUNCTIONS | _MODALS | _VERBS | _PRONOUNS | _OTHERS
# Pairs of neighbouring words that English does not form within a clause: "the of", "a and", "would could", "from is".
_IMPOSSIBLE = (
    (_DETERMINERS, _DETERMINERS | _PREPOSITIONS | _CONJUNCTIONS | _MODALS | _VERBS | _PRONOUNS),
    (_MODALS, _MODALS | _PREPOSITIONS - {"in", "on", "by"} | {"is", "are", "was", "were", "had", "did"}),
    (
        _PREPOSITIONS - {"to", "in", "on", "by", "through"},
        _MODALS | _VERBS | _CONJUNCTIONS | {"he", "she", "we", "they", "of"},
    ),
    (_CONJUNCTIONS, _CONJUNCTIONS | {"of"}),
    ({"he", "she", "we", "they"}, _DETERMINERS | _PREPOSITIONS),  # not "i", which code counts with: "for i in"
)
_LANGUAGES = re.compile(
    r"\b(translat\w*|languages?|spanish|french|german|italian|portuguese|chinese|mandarin|japanese|korean|russian|arabic|hindi|"
    r"latin|greek|dutch|swedish|turkish|hebrew|polish|esperanto|emojis?|symbols?|alphabet)\b",
    re.IGNORECASE,
)

FEW_WORDS = 4
"""Shorter answers ("42", "Paris.") can be right to many prompts and show no grammar."""
SAME_COSINE = 0.9
"""Two answers are one, but for a few words, from this cosine of their words and word pairs on."""
TOPIC_WORDS = 8
"""Shorter answers need not repeat a word of their prompt, so they say nothing about being on topic."""
ALL_SHARE, MANY_PROMPTS = 0.9, 10
"""An answer of fewer than `FEW_WORDS` words is one answer for everything only at this share of at least so many prompts."""


def degeneracy(prompts: Sequence[str], responses: Sequence[str], refused: Sequence[bool]) -> list[str | None]:
    """Return for each answer of a set its kind of degeneracy, or None.

    Args:
        prompts, responses: a model's answers to one suite.
        refused: whether each answer is a refusal.
    """
    kinds = [kind_of(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    open_ = [i for i, kind in enumerate(kinds) if kind is None and not refused[i]]
    for i in _same_answers(prompts, responses, open_):
        kinds[i] = "same_answer"
    open_ = [i for i in open_ if kinds[i] is None and len(_WORD.findall(responses[i])) >= TOPIC_WORDS]
    if _off_topic([prompts[i] for i in open_], [responses[i] for i in open_]):
        for i in open_:
            kinds[i] = "off_topic"
    return kinds


def kind_of(prompt: str, response: str) -> str | None:
    """Return the kind of degeneracy that one answer shows by itself, or None."""
    if not any(unicodedata.category(character)[0] in "LNS" for character in response):  # symbols: emoji
        return "empty"
    words = [word.lower() for word in _WORD.findall(response)]
    if _is_repetitive(response, words):
        return "repetitive"
    if _is_noise(response):
        return "not_language"
    asked_for = _LANGUAGES.search(prompt) is not None
    if not asked_for and _is_other_script(prompt, response):
        return "other_language"
    if asked_for or not _is_english(prompt):
        return None
    return _english_fault(response, words)


def _is_repetitive(response: str, words: list[str]) -> bool:
    """One word is most of the answer, or most three-word sequences have been there before, or characters loop."""
    names = _NAME.findall(response.lower())  # words would take num1 and num2 for one
    if len(names) >= FEW_WORDS:
        count = max(Counter(names).values())
        if count >= FEW_WORDS and count > 0.5 * len(names):
            return True
    if _repeats(words, 3, least=12) > 0.5:
        return True
    letters = [character for character in response if not character.isspace()]
    return _repeats(letters, 8, least=40) > 0.7


def _repeats(items: Sequence[str], length: int, least: int) -> float:
    """Return the share of sequences of that length that occurred before; 0 for fewer than ``least`` items."""
    if len(items) < least:
        return 0.0
    grams = [tuple(items[i : i + length]) for i in range(len(items) - length + 1)]
    return 1 - len(set(grams)) / len(grams)


def _is_noise(response: str) -> bool:
    """Mostly symbols, or mostly words that nobody could say; code and numbers are neither."""
    visible = [character for character in response if not character.isspace()]
    if len(visible) >= 12 and sum(character.isalnum() for character in visible) < 0.2 * len(visible):
        return True
    names = _NAME.findall(response.lower())
    latin = [name for name in names if name.isascii() and len(name) >= 3 and not name.isdigit()]
    return len(latin) >= 5 and sum(not _sayable(name) for name in latin) > 0.4 * len(latin)


def _sayable(word: str) -> bool:
    """Whether a word has a vowel, no five consonants in a row, and no letter right after a digit."""
    return re.search("[aeiouy]", word) is not None and re.search(r"[^aeiouy'_]{5}|\d[a-z]", word) is None


def _script(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]


def _is_other_script(prompt: str, response: str) -> bool:
    own = {_script(character) for character in prompt if character.isalpha()}
    letters = [character for character in response if character.isalpha()]
    return bool(own) and len(letters) >= 8 and sum(_script(c) not in own for c in letters) > 0.5 * len(letters)


def _is_english(prompt: str) -> bool:
    words = [word.lower() for word in _WORD.findall(prompt)]
    return bool(words) and sum(word in FUNCTION_WORDS for word in words) >= 0.15 * len(words)


def _english_fault(response: str, words: list[str]) -> str | None:
    """Judge an answer to an English prompt: word salad, or running text without English function words."""
    if len(words) < 10:
        return None
    clauses = [[word.lower() for word in _WORD.findall(part)] for part in _CLAUSE.split(response)]
    pairs = [pair for clause in clauses for pair in pairwise(clause)]
    wrong = sum(any(a in first and b in second for first, second in _IMPOSSIBLE) for a, b in pairs)
    if wrong >= 2 and wrong > 0.025 * len(pairs):
        return "not_language"
    # Lists of names have no function words either, but short clauses.
    running = [word for clause in clauses if len(clause) >= 6 for word in clause]
    if len(running) < 10 or sum(word in FUNCTION_WORDS for word in running) >= 0.1 * len(running):
        return None
    return "other_language" if sum(map(_sayable, running)) > 0.9 * len(running) else "not_language"


def _same_answers(prompts: Sequence[str], responses: Sequence[str], among: Sequence[int]) -> set[int]:
    """Return the answers that are the same, but for a few words, as those to enough other prompts."""
    distinct = len(set(prompts))
    if distinct < FEW_WORDS or not among:
        return set()
    enough, everywhere = max(FEW_WORDS, round(0.03 * len(prompts))), max(MANY_PROMPTS, ALL_SHARE * distinct)
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    table = vectorizer.fit_transform([responses[i] for i in among])
    same = set()
    for start in range(0, len(among), 512):  # blocks keep the square table small
        for i, row in zip(among[start : start + 512], table[start : start + 512] @ table.T >= SAME_COSINE, strict=True):
            asked = len({prompts[among[j]] for j in row.indices})
            if asked >= (enough if len(_WORD.findall(responses[i])) >= FEW_WORDS else everywhere):
                same.add(i)
    return same


def _off_topic(prompts: Sequence[str], responses: Sequence[str], least: int = 20) -> bool:
    """Whether answers are no closer to their own prompts than to the others', seen over at least so many answers."""
    distinct = len(set(prompts))
    if distinct < least:
        return False
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 5), sublinear_tf=True)
    asked = vectorizer.fit_transform(prompts)
    if not asked.nnz:
        return False
    closeness = np.asarray((asked @ vectorizer.transform(responses).T).todense())
    own = np.eye(len(prompts), dtype=bool)
    # A half is chance; real answers, poor ones too, repeat words of their question.
    return float(roc_auc_score(own.ravel(), closeness.ravel())) < 0.55
