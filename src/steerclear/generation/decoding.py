"""A batch of prompts in, answers out, by transformers' own generation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from steerclear.data.chat import end_ids, prompt_text
from steerclear.data.tokenization import prompt_ids
from steerclear.errors import DataError, ModelError
from steerclear.generation.options import GenerationOptions
from steerclear.records import Generation, Messages, Prompt

PAGED_BATCHES = 8
"""Batches that go to continuous batching together, so that places are filled again; what is finished is kept after each."""

PAGE = 32
"""Tokens in a page of the paged cache on a CPU."""


class SeededSampling(LogitsProcessor):
    """Exact sampling as a logits processor: all rows but the drawn token become minus infinity.

    The token is where the row's random number falls in the cumulated distribution (inverse transform), after
    temperature, top-k and top-p in that order. Greedy decoding then takes it.

    Args:
        options: temperature, top_k, top_p and seed.
        ids: the prompt id of each row of the batch; it seeds the row's own stream.
    """

    def __init__(self, options: GenerationOptions, ids: Sequence[str]) -> None:
        self._temperature = options.temperature
        self._filters: list[LogitsProcessor] = []
        if options.top_k > 0:
            self._filters.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            self._filters.append(TopPLogitsWarper(options.top_p))
        self._streams = [random.Random(f"{options.seed}/{prompt_id}") for prompt_id in ids]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        logits_BV = scores.float() / self._temperature
        for keep in self._filters:
            logits_BV = keep(input_ids, logits_BV)
        mass_BV = logits_BV.double().softmax(-1).cumsum(-1)
        # In (0, 1], so that the first token whose cumulated mass reaches the point always has a mass of its own.
        points = [[1.0 - stream.random()] for stream in self._streams]
        point_B1 = torch.tensor(points, dtype=torch.float64, device=scores.device) * mass_BV[:, -1:]
        drawn_B1 = torch.searchsorted(mass_BV, point_B1)
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn_B1, 0.0)


class Decoder:
    """A model with its tokenizer and options: a batch of token ids in, records out."""

    def __init__(self, model: Any, tokenizer: Any, options: GenerationOptions) -> None:
        # An unmerged adapter's layers are inside its base, and only the base's own settings steer `generate`.
        self._model = (model.get_base_model() if hasattr(model, "get_base_model") else model).eval()
        self._tokenizer = tokenizer
        self._options = options
        self._ends = stop_ids(self._model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    def answer(self, batch: Sequence[Prompt], encoded: Sequence[list[int]]) -> list[Generation]:
        """Return the answers to a batch of prompts, given their token ids."""
        try:
            with torch.no_grad():
                new = self._paged(encoded) if self._options.cache == "paged" else self._padded(batch, encoded)
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"the GPU's memory does not hold a batch of {len(batch)} prompts of up to {max(map(len, encoded))} + "
                f"{self._options.max_new_tokens} tokens. Lower batch_tokens and run again: finished answers are kept."
            ) from error
        return [self._record(prompt, tokens) for prompt, tokens in zip(batch, new, strict=True)]

    def _padded(self, batch: Sequence[Prompt], encoded: Sequence[list[int]]) -> list[list[int]]:
        """Decode all rows in step, padded on the left, until the last one ends."""
        width = max(map(len, encoded))
        device = self._model.device
        ids_BT = torch.tensor([[self._pad] * (width - len(ids)) + ids for ids in encoded], device=device)
        mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded], device=device)
        sampling = [SeededSampling(self._options, [p.id for p in batch])] if self._options.temperature > 0 else []
        with _only(self._config(), self._model):
            output_BT = self._model.generate(
                input_ids=ids_BT, attention_mask=mask_BT, logits_processor=LogitsProcessorList(sampling)
            )
        return output_BT[:, width:].tolist()

    def _paged(self, encoded: Sequence[list[int]]) -> list[list[int]]:
        """Decode by continuous batching: `batch_size` rows at a time, a new one for each that ends."""
        rows = self._options.batch_size
        continuous = ContinuousBatchingConfig(max_requests_per_batch=rows)
        if self._model.device.type == "cpu":
            # By itself it would take most of the machine's memory.
            pages = -(-(max(map(len, encoded)) + self._options.max_new_tokens) // PAGE)
            continuous.page_size, continuous.num_blocks = PAGE, rows * pages
            continuous.max_batch_tokens = max(PAGE, *map(len, encoded)) * 8
        outputs = self._model.generate_batch(
            list(encoded), generation_config=self._config(), continuous_batching_config=continuous, warmup=False
        )
        # Requests are numbered in the order in which they were given.
        ordered = sorted(outputs.values(), key=lambda output: int(output.request_id.rpartition("_")[2]))
        failed = next((output.error for output in ordered if output.error), None)
        if failed or len(ordered) != len(encoded):
            raise ModelError(
                f"continuous batching answered {len(ordered)} of {len(encoded)} prompts ({failed or 'no reason given'}). "
                "Set cache to dynamic, which works with every model, and run again: finished answers are kept."
            )
        return [output.generated_tokens for output in ordered]

    def _config(self) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=self._options.max_new_tokens,
            num_beams=self._options.num_beams,
            do_sample=False,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self._pad,
            use_cache=True,
            cache_implementation="static" if self._options.cache == "static" else None,
        )

    def _record(self, prompt: Prompt, new: list[int]) -> Generation:
        end = next((at for at, token in enumerate(new) if token in self._ends), None)
        return Generation(
            id=prompt.id,
            suite=prompt.suite,
            prompt=prompt.prompt,
            response=self._tokenizer.decode(new[:end], skip_special_tokens=True).strip(),
            finish="length" if end is None else "eos",
            tokens=len(new[:end]),
            tags=prompt.tags,
        )


@contextmanager
def _only(config: GenerationConfig, model: Any) -> Iterator[None]:
    """Make `config` the model's whole generation config for a while.

    Passing it to `generate` would not do: what it leaves open is filled from the model's own (a repetition penalty,
    say), and the answers would depend on more than the options.
    """
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids at which generation stops: the model's own, and those that end an answer for its tokenizer."""
    configured = model.generation_config.eos_token_id
    ends = set(configured) if isinstance(configured, list) else {configured}
    return {end for end in ends if end is not None} | end_ids(tokenizer)


def encode(tokenizer: Any, text: str | Messages, prompt_id: str) -> list[int]:
    """Return the token ids that the model goes on from.

    The turn of an assistant that comes last is left open, so the model goes on with it; after any other it begins a turn.

    Raises:
        ModelError: a conversation, and the tokenizer has no chat template, or one that cannot render it.
    """
    if isinstance(text, str):
        return prompt_ids(tokenizer, text, is_chat=False)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"prompt '{prompt_id}' is a conversation, but the tokenizer has no chat template. "
            "Choose a text template, or a chat model's tokenizer."
        )
    try:
        rendered = prompt_text(tokenizer, text)
    except Exception as error:  # a template may raise anything: jinja errors, its own raise_exception
        problem = (
            "leave the assistant's turn open for the model to go on with" if _is_begun(text) else f"render it: {error}"
        )
        raise ModelError(
            f"prompt '{prompt_id}': the tokenizer's chat template cannot {problem}. Choose a text template (alpaca or plain)."
        ) from error
    return prompt_ids(tokenizer, rendered, is_chat=True)


def _is_begun(turns: Messages) -> bool:
    return turns[-1]["role"] == "assistant"


def too_long(encoded: dict[str, list[int]], options: GenerationOptions, context: int | None) -> dict[str, str]:
    """Return prompt id -> what is too long, for the prompts that do not fit into the model's context with their answers."""
    if context is None:
        return {}
    return {
        name: f"{len(ids)} tokens, which with max_new_tokens {options.max_new_tokens} is over the model's context of {context}"
        for name, ids in encoded.items()
        if len(ids) + options.max_new_tokens > context
    }


def refuse_most(found: dict[str, str], encoded: dict[str, list[int]]) -> None:
    """Raise DataError if more than half of the prompts are too long: more likely ``max_new_tokens`` is at fault."""
    if 2 * len(found) > len(encoded):
        name, reason = max(found.items(), key=lambda item: len(encoded[item[0]]))
        raise DataError(
            f"{len(found)} of {len(encoded)} prompts are too long: '{name}' has {reason}. Lower max_new_tokens, or leave long "
            "prompts out; prompts are never cut."
        )


def batches(prompts: Sequence[Prompt], encoded: dict[str, list[int]], options: GenerationOptions) -> list[list[Prompt]]:
    """Group prompts of like length, the longest first: a batch too large for the memory fails at once."""
    batches: list[list[Prompt]] = []
    rows = 0
    for prompt in sorted(prompts, key=lambda p: len(encoded[p.id]), reverse=True):
        if not batches or len(batches[-1]) == rows:
            row_tokens = (len(encoded[prompt.id]) + options.max_new_tokens) * options.num_beams
            rows = max(1, min(options.batch_size, options.batch_tokens // row_tokens))
            if options.cache == "paged":
                rows *= PAGED_BATCHES
            batches.append([])
        batches[-1].append(prompt)
    return batches
