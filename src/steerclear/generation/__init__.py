"""Answers of a model to evaluation prompts: batched, resumable, and the same whatever the batching.

Greedy decoding and beam search are deterministic. Sampling draws one random number per token from a stream that
belongs to the prompt alone (its id and the seed), so neither the batch nor a resumed run changes an answer, up to the
rounding of the model's own arithmetic.
"""
