"""Toxic words: those that toxic prompts have far more often than benign text.

Paper: Monroe, Colaresi and Quinn 2008, "Fightin' Words: Lexical Feature Selection and Evaluation for Identifying the Content of
Political Conflict", equations 15, 16, 20 and 22: the log-odds ratio with an informative Dirichlet prior.

    log_odds_w = log((y_w + a_w) / (n + a_0 - y_w - a_w)) - log((x_w + a_w) / (m + a_0 - x_w - a_w))
    z_w = log_odds_w / sqrt(1 / (y_w + a_w) + 1 / (x_w + a_w))

where the word w is y_w times in the n words of the toxic prompts and x_w times in the m words of the benign text. The prior has
the words as both texts together have them, and half a count more of each: a_w = s n (y_w + x_w) / (n + m) + 1/2, for a share s;
a_0 is their sum. Without the half, the variance of a word that benign text never has would have no bound, and the word be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from steerclear.errors import DataError
from steerclear.harvest.contrast_options import WordOptions
from steerclear.judges.word_order import FUNCTION_WORDS, WORD
from steerclear.records import Prompt, text_of

STOP_WORDS = ENGLISH_STOP_WORDS | FUNCTION_WORDS
"""English words that are never toxic. Not all of them fall out by themselves: prompts ask "how do I", benign text seldom does."""

FEWEST_LETTERS = 3

HALF = 0.5
"""Counts of every word in the prior (Jeffreys)."""


@dataclass(frozen=True, kw_only=True)
class ToxicWord:
    """A word with what makes it toxic."""

    word: str
    z: float
    """Its log-odds ratio, in standard deviations."""
    log_odds: float
    toxic: int
    """How often toxic prompts have it."""
    benign: int
    """How often benign text has it."""
    prompts: list[str]
    """Ids of the toxic prompts that have it."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without those of one or two letters, contractions, and the 's of possession.

    >>> words_of("Don't rob the neighbour's car, I'm told.")
    ['rob', 'the', 'neighbour', 'car', 'told']
    """
    words = (word.lower().replace("’", "'").removesuffix("'s") for word in WORD.findall(text))
    return [word for word in words if "'" not in word and len(word) >= FEWEST_LETTERS]


def toxic_words(prompts: Sequence[Prompt], benign: Sequence[str], options: WordOptions) -> list[ToxicWord]:
    """Return the toxic words, that of the highest z first; of equal z, in the order of the alphabet.

    Args:
        prompts: toxic prompts.
        benign: texts to compare with.

    Raises:
        DataError: one of the two has no words, or no word is toxic by these options.
    """
    counter = CountVectorizer(tokenizer=words_of, token_pattern=None, lowercase=False)
    try:
        counts = counter.fit_transform([*(text_of(prompt.prompt) for prompt in prompts), *benign]).tocsc()
    except ValueError as error:  # an empty vocabulary
        raise DataError("neither the toxic prompts nor the benign text have words. Give other files.") from error
    names = counter.get_feature_names_out()
    toxic = np.asarray(counts[: len(prompts)].sum(axis=0), dtype=float).ravel()
    other = np.asarray(counts[len(prompts) :].sum(axis=0), dtype=float).ravel()
    if not toxic.sum() or not other.sum():
        raise DataError(
            "the toxic prompts or the benign text have no words, so none can be told apart. Give other files."
        )
    excluded = STOP_WORDS.union(word.lower() for word in options.exclude)
    log_odds, z = _log_odds(toxic, other, options.prior_share)
    chosen = [
        i
        for i in sorted(range(len(names)), key=lambda i: (-z[i], names[i]))
        if toxic[i] >= options.min_count
        and z[i] >= options.min_z
        and log_odds[i] >= options.min_log_odds
        and names[i] not in excluded
    ][: options.count]
    if not chosen:
        raise DataError(
            f"no word of the {len(prompts)} toxic prompts is toxic by min_count {options.min_count}, min_z {options.min_z} and "
            f"min_log_odds {options.min_log_odds}. Lower them, or give more prompts."
        )
    return [
        ToxicWord(
            word=str(names[i]),
            z=round(float(z[i]), 3),
            log_odds=round(float(log_odds[i]), 3),
            toxic=int(toxic[i]),
            benign=int(other[i]),
            prompts=[prompts[row].id for row in sorted(counts[: len(prompts), [i]].nonzero()[0])],
        )
        for i in chosen
    ]


def _log_odds(
    toxic: np.ndarray[tuple[int], np.dtype[np.float64]],
    other: np.ndarray[tuple[int], np.dtype[np.float64]],
    prior_share: float,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return each word's log-odds ratio and its z score, from its counts in both texts."""
    prior = prior_share * toxic.sum() * (toxic + other) / (toxic.sum() + other.sum()) + HALF
    y, x = toxic + prior, other + prior
    log_odds = np.log(y / (y.sum() - y)) - np.log(x / (x.sum() - x))
    return log_odds, log_odds / np.sqrt(1 / y + 1 / x)
