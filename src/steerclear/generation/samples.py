"""Sampled answers that become rows: several to one prompt, whole sentences of those that were cut."""

from __future__ import annotations

import re
from dataclasses import replace

from steerclear.generation.options import GenerationOptions
from steerclear.records import Prompt

SAMPLE = "#"
"""Between the id of a prompt and the number of the sample."""

_SENTENCE_END = re.compile(r"""(?:(?<=[^\W\d_])|(?<=["'”’)\]]))[.!?…]["'”’)\]]*(?=\s|$)|[。！？]""")


def nth_sample(prompt: Prompt, number: int, suite: str) -> Prompt:
    """Return the prompt as it is asked for the n-th time, in a suite of its own: one answer to many prompts is looked for
    in a suite, and the same answer to the same prompt is no sign of it."""
    return replace(prompt, id=f"{prompt.id}{SAMPLE}{number}", suite=f"{suite}-{number}")


def asked_id(sample_id: str) -> str:
    """Return the id of the prompt that a sample answers."""
    return sample_id.rpartition(SAMPLE)[0]


def temperature_problems(samples: int, generation: GenerationOptions) -> list[str]:
    """Return what is wrong with sampling several answers so, for the error of the options that say it."""
    if samples <= 1 or generation.temperature > 0:
        return []
    return [
        f"samples: got {samples} at temperature 0, where all answers to a prompt are the same. Set "
        "generation.temperature above 0, or samples 1."
    ]


def whole_sentences(text: str) -> str:
    """Return a text that was cut at the token limit up to its last whole sentence; nothing where there is none.

    What follows a digit ends no sentence, as it may be a number or its place in a list.

    >>> whole_sentences('It stops "it." Then it costs 3.50 or 4. And')
    'It stops "it."'
    """
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""
