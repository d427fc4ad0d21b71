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

import numpy as np

from steerclear.judges.word_order import CLAUSE, FUNCTION_WORDS, WORD, evidence

KINDS = ("empty", "repetitive", "not_language", "other_language", "same_answer", "off_topic")

_NAME = re.compile(r"\w+")
_STRAY_END = re.compile(r"[a-z]{2}[.?!][\"')]* [a-z]{2}")
_NOT_ONLY_ENGLISH = (
    "a i in an no me as so was will do he on are am also most"  # words of Dutch, German, Polish, Spanish ... too
)
_ONLY_ENGLISH = FUNCTION_WORDS - frozenset(_NOT_ONLY_ENGLISH.split())
OTHER_LANGUAGES = re.compile(
    r"\b(?i:translat\w*|(?:foreign|another|other|different|native|second|which|what) languages?|emojis?|symbols?|alphabet)\b"
    # With a capital: one may polish shoes.
    r"|\b(?:Spanish|French|German|Italian|Portuguese|Chinese|Mandarin|Japanese|Korean|Russian|Arabic|Hindi|Latin|Greek|Dutch|"
    r"Swedish|Turkish|Hebrew|Polish|Esperanto)\b"
)
"""What a prompt says that may be answered in something else than English."""

ORDER_EVIDENCE = -3
"""An answer whose words give this much evidence of English word order or less is word salad."""
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
    open_ = [i for i in open_ if kinds[i] is None and len(WORD.findall(responses[i])) >= TOPIC_WORDS]
    if _off_topic([prompts[i] for i in open_], [responses[i] for i in open_]):
        for i in open_:
            kinds[i] = "off_topic"
    return kinds


def kind_of(prompt: str, response: str) -> str | None:
    """Return the kind of degeneracy that one answer shows by itself, or None."""
    if not any(unicodedata.category(character)[0] in "LNS" for character in response):  # symbols: emoji
        return "empty"
    words = [word.lower() for word in WORD.findall(response)]
    if _is_repetitive(response, words):
        return "repetitive"
    if _is_noise(response):
        return "not_language"
    if OTHER_LANGUAGES.search(prompt):
        return None
    if _is_other_script(prompt, response):
        return "other_language"
    return _english_fault(prompt, response, words)


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


def _function_share(words: Sequence[str], known: frozenset[str] = FUNCTION_WORDS) -> float:
    return sum(word in known for word in words) / max(1, len(words))


def _english_fault(prompt: str, response: str, words: list[str]) -> str | None:
    """Judge an answer that is English by its words or should be by its prompt: word salad, or another language."""
    if len(words) < 10:
        return None
    share = _function_share(words, _ONLY_ENGLISH)
    if share >= 0.15:
        return "not_language" if evidence(response) <= ORDER_EVIDENCE else None
    if _function_share([word.lower() for word in WORD.findall(prompt)]) < 0.15:
        return None
    clauses = [[word.lower() for word in WORD.findall(part)] for part in CLAUSE.split(response)]
    # Lists of names have no function words either, but short clauses.
    running = [word for clause in clauses if len(clause) >= 6 for word in clause]
    if len(running) >= 10 and _function_share(running, _ONLY_ENGLISH) < 0.1 and _function_share(running) < 0.2:
        return "other_language" if sum(map(_sayable, running)) > 0.9 * len(running) else "not_language"
    return "not_language" if share < 0.08 and _is_salad(response, words, clauses) else None


def _is_salad(response: str, words: Sequence[str], clauses: Sequence[Sequence[str]]) -> bool:
    """Whether words without function words are neither list nor code: many in a row, sentences go on in lower case, noise."""
    visible = [character for character in response if not character.isspace()]
    if sum(character in "_(){}[]=;<>|+/*#" for character in visible) > 0.04 * len(visible):
        return False
    long = [word for word in words if len(word) >= 3]
    noise = sum(not _sayable(word) for word in long) > 0.3 * len(long)
    return noise or len(_STRAY_END.findall(response)) >= 2 or _bare_share(clauses) > 0.15


def _bare_share(clauses: Sequence[Sequence[str]]) -> float:
    """Return the share of words that stand among four or more in a row without a function word or a border of clauses."""
    bare = 0
    for clause in clauses:
        row = 0
        for word in [*clause, "the"]:
            if word not in FUNCTION_WORDS:
                row += 1
                continue
            bare += row if row >= 4 else 0
            row = 0
    return bare / max(1, sum(map(len, clauses)))


def _same_answers(prompts: Sequence[str], responses: Sequence[str], among: Sequence[int]) -> set[int]:
    """Return the answers that are the same, but for a few words, as those to enough other prompts."""
    distinct = len(set(prompts))
    if distinct < FEW_WORDS or not among:
        return set()
    enough, everywhere = max(FEW_WORDS, round(0.03 * len(prompts))), max(MANY_PROMPTS, ALL_SHARE * distinct)
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second, which one answer alone does not need

    vectorizer = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    table = vectorizer.fit_transform([responses[i] for i in among])
    same = set()
    for start in range(0, len(among), 512):  # blocks keep the square table small
        for i, row in zip(among[start : start + 512], table[start : start + 512] @ table.T >= SAME_COSINE, strict=True):
            asked = len({prompts[among[j]] for j in row.indices})
            if asked >= (enough if len(WORD.findall(responses[i])) >= FEW_WORDS else everywhere):
                same.add(i)
    return same


def _off_topic(prompts: Sequence[str], responses: Sequence[str], least: int = 20) -> bool:
    """Whether answers are no closer to their own prompts than to the others', seen over at least so many answers."""
    distinct = len(set(prompts))
    if distinct < least:
        return False
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import roc_auc_score

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 5), sublinear_tf=True)
    asked = vectorizer.fit_transform(prompts)
    if not asked.nnz:
        return False
    closeness = np.asarray((asked @ vectorizer.transform(responses).T).todense())
    own = np.eye(len(prompts), dtype=bool)
    # A half is chance; real answers, poor ones too, repeat words of their question.
    return float(roc_auc_score(own.ravel(), closeness.ravel())) < 0.55
