"""Are English words in an order that English has? Evidence from pairs of neighbouring classes of words, no model.

Function words are told apart by what they do, a few common verbs by name, other words by their ending. `TABLE` says how much more
often one class follows another than by chance, in rounded natural logarithms: "of" before "the" counts 1, "the" before "of"
counts -4. An answer's total is large in running English, near 0 where there is little to see, and below 0 where its words were
thrown together. The table was counted in documentation that is free to use; `benchmarks/word_order_table.py` makes it again.
"""

from __future__ import annotations

import re
from itertools import pairwise

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
CLAUSE = re.compile(r"[.,;:!?()\[\]{}\"“”\n\t|/*=<>\d–—-]+")

_MEMBERS = {
    "the": "the a an my your our their every",
    "its": "its his her this these those each any some no all both such another many several few more most other same own",
    "of": "of",
    "in": "in for with on at from by about into through between without within during against under over after before than "
    "per like upon toward towards among",
    "to": "to",
    "and": "and or but nor",
    "as": "as if because while although though when where whether since unless until so then how why that which who what whose",
    "would": "would could should may might must can will cannot shall wont cant",
    "is": "is are was were am",
    "be": "be been being",
    "have": "have has had having do does did dont doesnt didnt",
    "he": "i he she we they youre im theyre",
    "it": "it you there thats",
    "me": "him them us me myself yourself themselves itself herself himself",
    "not": "not also only just very too even always never often still really quite",
}
FUNCTION_WORDS = frozenset(word for members in _MEMBERS.values() for word in members.split())
_VERBS = (
    "make take use get find give go come see know think say tell ask help keep let put set try need want buy add follow include "
    "provide ensure create consider avoid choose become seem feel learn allow offer bring write read start stop begin turn show "
    "check remember understand believe improve increase reduce"
)
_CLASS = {word: name for name, members in {**_MEMBERS, "make": _VERBS}.items() for word in members.split()}
_ENDINGS = (
    ("-ly", ("ly",), 5),
    ("-ing", ("ing",), 5),
    ("-ed", ("ed",), 5),
    ("-tion", ("tion", "sion", "ment", "ness", "ity", "ship", "ism", "ance", "ence"), 6),
    ("-ful", ("ful", "ous", "ive", "able", "ible", "al", "ic", "less"), 6),
)
"""Class, its endings, and the fewest letters of its words."""
END = "."
"""The class of a clause's border."""
CLASSES = (*_MEMBERS, "make", *(name for name, _, _ in _ENDINGS), "-s", "other", END)

LOWEST, HIGHEST = -4, 2
"""The table's numbers are cut here, so that no single pair decides."""
TABLE_ROWS = """
the   -4  0 -4 -4 -4 -3 -4 -4 -4 -4 -4 -3 -4 -2 -2 -1 -1  0  0  1  1  0  1 -2
its   -1  0  0 -1 -2 -2  0  0  1 -2  0 -2 -2 -2 -1 -1  0  0 -1  1  0  1  0 -1
of     1  1 -4 -4 -4 -4 -1 -4 -4 -2 -3 -2 -2  1 -3 -2 -1  0 -1 -1  0  1  0 -1
in     1  1 -3 -3 -3 -2 -1 -4 -4 -2 -2 -2 -1  1 -2 -1 -1  1 -1  0  0  0  0 -1
to     1  0 -4 -3 -4 -3 -1 -4 -4  2  1 -3 -1  0 -1  2  1 -1 -1 -1 -1 -1  0 -1
and    0  0 -3 -1 -2 -4  0  0 -1 -2  1  0  0 -2  1  0  0  0  0  0  0  0  0 -1
as     1  1 -2 -2 -1 -2 -1  1  1 -2  1  2  2 -2  0 -1  0  0  0 -1  0  0  0 -2
would -4 -2 -4 -3 -4 -2 -2 -4 -4  2  2 -2 -3 -1  2  2  1 -4 -3 -2 -1 -4  0 -3
is     0  0 -2 -1 -1 -4 -1 -4 -4 -1 -3 -2 -3 -1  2  0  2 -1  2 -3  1 -2  0 -2
be     0 -1 -2 -1 -3 -4 -3 -4 -4 -3 -3 -3 -3 -2 -1  0  1 -2  2 -3  1 -2  0 -2
have   1  1 -4 -2  0 -3 -2 -3 -3  2  1 -1  0  0  2  1  0  0  0 -1  0 -1  0 -2
he    -4 -2 -2 -2 -3 -2 -3  2  1 -3  2 -2 -2 -1  1  2  1 -2 -1 -3 -2 -3  0  0
it    -3 -3 -4  0  0 -1 -1  2  2 -2  2 -2 -3  0  1  1  1 -2 -2 -4 -1  1 -2 -1
me    -1 -1 -2  1  2  0  1  1  1 -1  0 -1 -1  0 -1 -1  1  0 -1 -2 -1 -2 -1  1
not    0 -1 -3  0 -1 -2  0 -2 -3  2  1 -2 -2 -2  0  1  1  0  1 -2  1  0  0  0
make   1  0  1  0  1 -1  1 -2 -1 -3 -1 -1  1  2  2 -2 -1  0 -1 -1 -1 -1 -1 -1
-ly    0 -1 -2  0  0 -1  0 -1 -2  1  0  0 -1  0  0  1  0  1  2 -1  1  0  0  0
-ing   1  0  0  0  1  0  0  0  0 -4 -1 -2  0  2 -1 -1 -1  0 -1  0  0  0  0  0
-ed   -2 -2 -2  2  1  0  1 -2 -2 -4 -2 -2 -1 -2 -1 -2  1  0 -2  0 -1  0  0  0
-tion -3 -2  2  1  1  0  0  1  1 -2  0 -1 -1  0 -1 -2 -1  0 -1  0 -1  0 -1  0
-ful  -2 -3  0  0  0  0  0 -1 -1 -3 -1 -2 -2 -1 -2 -1 -2  0 -1  1  0  1  0  0
-s     0 -1  1  1  1  1  1  1  1 -2  0 -1  0  1 -1 -1  0  0  0 -1 -1 -1 -1  1
other -1 -1  1  0  0  0  0  0  0 -2  0 -1 -1  0 -2 -2 -1  0 -1  0 -1  0  0  1
.      0  1 -2  0 -1  1  1 -1 -1 -3 -1  1  1 -2  0  1  0  0 -1 -1  0  0  0 -4
"""
TABLE = {
    (row.split()[0], second): int(value)
    for row in TABLE_ROWS.strip().splitlines()
    for second, value in zip(CLASSES, row.split()[1:], strict=True)
}
"""(class, class that follows) -> rounded log of how much more often than by chance."""

SPELLING = -3
"""What "a" before a vowel, "an" before a consonant, or a function word with a capital in mid-clause counts."""
_MISSPELT = re.compile(
    # Sounds that the first letter does not show (hour, user, one), abbreviations and names are left out.
    r"\b[Aa] (?!uni|use|usu|eu|one|once|ubi|uto|ura)[aeiou][a-z]*\b|\b[Aa]n (?!hour|honest|honou?r|heir)[b-df-hj-np-tv-z][a-z]*\b"
)
_CAPITALS = frozenset(word.capitalize() for word in FUNCTION_WORDS - {"i", "may", "will", "us", "im"})


def evidence(text: str) -> int:
    """Return the sum of `TABLE` over the text's neighbours, and of `SPELLING` over its faults.

    >>> evidence("The bread is in the oven.") > 0 > evidence("the in is oven bread The.")
    True
    """
    clauses = [clause for part in CLAUSE.split(text) if (clause := classes_of(WORD.findall(part)))]
    total = sum(TABLE[pair] for pair in neighbours(clauses))
    faults = len(_MISSPELT.findall(text)) + sum(
        first.islower() and first[-1].isalpha() and second in _CAPITALS for first, second in pairwise(text.split())
    )
    return total + SPELLING * faults


def neighbours(clauses: list[list[str]]) -> list[tuple[str, str]]:
    """Return the pairs of classes that follow each other. The text's own end is no border: an answer may be cut there."""
    classes = [name for clause in clauses for name in (END, *clause)]
    return list(pairwise(classes))


def classes_of(words: list[str]) -> list[str]:
    """Return the classes of a clause's words. After "the", "his" and their like, "will" and "can" are nouns."""
    classes = [class_of(word) for word in words]
    nouns = [
        place
        for place, word in enumerate(words)
        if word.lower() in ("will", "can") and place and classes[place - 1] in ("the", "its")
    ]
    return ["other" if place in nouns else name for place, name in enumerate(classes)]


def class_of(word: str) -> str:
    """Return the class of a word, one of `CLASSES`."""
    word = re.sub("['’]", "", word.lower())
    known = _CLASS.get(word)
    if known is not None:
        return known
    for name, endings, letters in _ENDINGS:
        if len(word) >= letters and word.endswith(endings):
            return name
    return "-s" if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else "other"
