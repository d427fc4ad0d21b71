"""Answers of a model to evaluation prompts: batched, resumable, and the same whatever the batching.

Greedy decoding and beam search are deterministic. Sampling draws one random number per token from a stream that
belongs to the prompt alone (its id and the seed), so neither the batch nor a resumed run changes an answer, up to the
rounding of the model's own arithmetic.
"""

from steerclear.generation.answers import fill_file, finished, generate, unanswered
from steerclear.generation.decoding import SeededSampling
from steerclear.generation.options import GenerationOptions
from steerclear.generation.parts import Shard, answer_in_parts, finished_parts

__all__ = [
    "GenerationOptions",
    "SeededSampling",
    "Shard",
    "answer_in_parts",
    "fill_file",
    "finished",
    "finished_parts",
    "generate",
    "unanswered",
]
