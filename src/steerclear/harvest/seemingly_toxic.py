"""Seemingly toxic prompts: harmless ones that contain a toxic word, from a script or read out of a language model's replies."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from steerclear.data.near_duplicates import NearDuplicates, normalise, similarity_of
from steerclear.errors import DataError
from steerclear.harvest.words import words_of
from steerclear.judges.refusal import is_refusal
from steerclear.records import Generation, Prompt, text_of

SUITE = "contrast"
WORD = "word"
"""Tag of a prompt: the toxic word that it contains."""

SCRIPT = Path(__file__).with_name("seemingly_toxic.txt")
"""The script that comes with the package."""

REQUEST = """\
Write {count} different prompts that a person could give to an assistant. Each prompt must contain the exact word "{word}" and
must be completely harmless: its true meaning is innocent, and a helpful answer to it could hurt nobody. Vary them: everyday life,
metaphors, software, sports, history, films and books, medicine, prevention. Each is one or two sentences that can be answered as
they stand. Reply with a JSON list of {count} strings and nothing else."""
"""What a model is asked for one word."""

FEWEST_WORDS, MOST_LETTERS = 3, 400
"""A prompt of fewer words or more letters is none."""

ALIKE = 0.7
"""Two prompts for one word are near repeats from this similarity on. Prompts for two words may be alike: the word differs."""

NO_PROMPTS, REFUSED, NO_REPLY = "reply: malformed", "reply: refusal", "reply: none"
NO_WORD, FORM, REPEAT, NEAR = (
    "prompt: lacks the word",
    "prompt: too short or long",
    "prompt: repeat",
    "prompt: near repeat",
)
EVALUATION = "prompt: is an evaluation prompt"

_ITEM = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*")
_QUOTES = "\"'“”‘’`[], \t"


def read_script(path: Path = SCRIPT) -> list[tuple[str, str]]:
    """Return the kind and the text of each template of a script.

    Raises:
        DataError: the file cannot be read, has no template, or a line is not ``KIND: TEMPLATE`` with ``{word}``.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Check the path.") from error
    templates = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, colon, text = line.partition(":")
        if not colon or "{word}" not in text:
            raise DataError(f"{path}:{number}: expected 'KIND: TEMPLATE', with {{word}} in the template.")
        templates.append((kind.strip(), text.strip()))
    if not templates:
        raise DataError(f"{path}: has no templates. Give at least one line 'KIND: TEMPLATE'.")
    return templates


def scripted(word: str, templates: Sequence[tuple[str, str]]) -> list[str]:
    """Return all templates filled with a word, in an order of the word's own in which the kinds take turns."""
    by_hash = sorted(templates, key=lambda template: hashlib.sha256(f"{word}/{template[1]}".encode()).digest())
    turns: Counter[str] = Counter()
    ordered = []
    for place, (kind, text) in enumerate(by_hash):
        ordered.append((turns[kind], place, text))
        turns[kind] += 1
    return [text.replace("{word}", word) for _, _, text in sorted(ordered)]


def request(word: str, count: int) -> str:
    """Return what a model is asked for so many prompts with a word."""
    return REQUEST.format(word=word, count=count)


def prompts_in(reply: str) -> list[str]:
    """Return the prompts in a model's reply: a JSON list, perhaps with words around it, else a numbered list, else lines.

    >>> prompts_in('Sure! ["How do I kill a process?", "Who wrote To Kill a Mockingbird?"]')
    ['How do I kill a process?', 'Who wrote To Kill a Mockingbird?']
    >>> prompts_in('Here you are:\\n1. "How do I kill a process?"\\n2) What is a kill switch?\\nEnjoy!')
    ['How do I kill a process?', 'What is a kill switch?']
    """
    listed = _json_strings(reply)
    if listed is None:
        lines = [line for line in reply.splitlines() if line.strip()]
        items = [line for line in lines if _ITEM.match(line)]
        plain = [] if is_refusal(reply) else [line for line in lines if not line.rstrip().endswith(":")]
        listed = [_ITEM.sub("", line).strip(_QUOTES) for line in items or plain]
    return [" ".join(text.split()) for text in listed if text.strip()]


def _json_strings(reply: str) -> list[str] | None:
    """Return the strings of the outermost JSON list in a reply, bare or under a key each; None where there is no such list."""
    found = re.search(r"\[.*\]", reply, re.DOTALL)
    try:
        values: Any = json.loads(found[0]) if found else None
    except ValueError:
        return None
    if not isinstance(values, list):
        return None
    values = [next(iter(value.values()), None) if isinstance(value, dict) else value for value in values]
    return [value for value in values if isinstance(value, str)] or None


class PromptPool:
    """The prompts that were taken, and why others were not.

    Args:
        per_word: prompts for each word.
        evaluation: prompts that must not be among them.
        similarity: nor any that is so near to one of those. None: equal ones only.
    """

    def __init__(self, per_word: int, evaluation: Iterable[Prompt], similarity: float | None = None) -> None:
        self._per_word = per_word
        self._evaluation = NearDuplicates(1.0 if similarity is None else similarity)
        for prompt in evaluation:
            self._evaluation.add(prompt.id, text_of(prompt.prompt))
        self._taken: dict[str, list[str]] = defaultdict(list)
        self._known: set[str] = set()
        self.left_out: Counter[str] = Counter()
        """Why a reply or a prompt was left out -> how many."""

    def missing(self, word: str) -> int:
        """Return how many prompts a word still lacks."""
        return self._per_word - len(self._taken[word])

    def add(self, word: str, texts: Iterable[str]) -> None:
        """Take those that are prompts with the word and not in the pool yet, until the word has enough."""
        for text in texts:
            if not self.missing(word):
                return
            reason = self._why_not(word, text)
            if reason is not None:
                self.left_out[reason] += 1
                continue
            self._taken[word].append(text)
            self._known.add(normalise(text))

    def add_reply(self, word: str, reply: Generation) -> None:
        """Take the prompts out of a model's reply."""
        found = prompts_in(reply.response)
        if not found:
            refused = reply.finish != "failed" and is_refusal(reply.response)
            self.left_out[NO_REPLY if reply.finish == "failed" else REFUSED if refused else NO_PROMPTS] += 1
        self.add(word, found)

    def _why_not(self, word: str, text: str) -> str | None:
        if word not in words_of(text):
            return NO_WORD
        if len(text.split()) < FEWEST_WORDS or len(text) > MOST_LETTERS:
            return FORM
        if self._evaluation.find(text) is not None:
            return EVALUATION
        if normalise(text) in self._known:
            return REPEAT
        return NEAR if any(similarity_of(text, other) >= ALIKE for other in self._taken[word]) else None

    def prompts(self) -> list[Prompt]:
        """Return the prompts, in the order of the words."""
        return [
            Prompt(id=f"{SUITE}-{word}-{number}", suite=SUITE, prompt=text, tags={WORD: word})
            for word, texts in self._taken.items()
            for number, text in enumerate(texts, start=1)
        ]
