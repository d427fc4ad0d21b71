"""Several sampled answers to one prompt: what they are called, and what their decoding needs."""

from __future__ import annotations

from dataclasses import replace

from steerclear.generation.options import GenerationOptions
from steerclear.records import Prompt

SAMPLE = "#"
"""Between the id of a prompt and the number of the sample."""


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
