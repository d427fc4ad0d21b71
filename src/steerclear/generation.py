"""Answers of a model to evaluation prompts: batched, resumable, and the same whatever the batching.

Greedy decoding and beam search are deterministic. Sampling draws one random number per token from a stream that
belongs to the prompt alone (its id and the seed), so neither the batch nor a resumed run changes an answer, up to the
rounding of the model's own arithmetic.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.records import (
    SCHEMA_VERSION,
    Generation,
    JsonlAppender,
    Messages,
    Prompt,
    cut_unfinished_line,
    read_records,
    sha256_of,
    to_dict,
    write_json,
    write_jsonl,
)

SPEED_ONLY = ("batch_size", "batch_tokens")
"""Options that change no answer, so a run may be resumed with others."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How answers are decoded. Greedy by default."""

    max_new_tokens: int = 256
    """Tokens after which an answer is cut."""
    temperature: float = 0.0
    """0 decodes greedily; above 0 samples from the distribution sharpened (below 1) or flattened (above 1)."""
    top_p: float = 1.0
    """Sample from the fewest tokens that hold this probability together. 1 keeps all."""
    top_k: int = 0
    """Sample from this many most probable tokens. 0 keeps all."""
    num_beams: int = 1
    """Beams of a beam search, which is deterministic: only with temperature 0."""
    seed: int = 0
    """Seed of sampling. Each prompt has its own stream, derived from this and its id."""
    batch_size: int = 32
    """Most prompts in a batch. Changes speed and memory only."""
    batch_tokens: int = 32768
    """Most tokens in a batch, padding, new tokens and beams counted in. Changes speed and memory only."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams", "batch_size", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, allowed: 1 or more.")
        if self.temperature < 0:
            raise ConfigError(f"temperature: got {self.temperature}, allowed: 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: got {self.top_p}, allowed: above 0 and at most 1 (keeps all).")
        if self.top_k < 0:
            raise ConfigError(f"top_k: got {self.top_k}, allowed: 0 (keeps all) or more.")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k > 0):
            raise ConfigError(
                f"top_p {self.top_p} and top_k {self.top_k} have no effect at temperature 0 (greedy). "
                "Set a temperature above 0, or leave top_p at 1 and top_k at 0."
            )
        if self.temperature > 0 and self.num_beams > 1:
            raise ConfigError(
                f"num_beams: got {self.num_beams} with temperature {self.temperature}; a beam search does not sample. "
                "Set temperature 0, or num_beams 1."
            )


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    *,
    model_id: str,
    progress: bool = True,
) -> list[Generation]:
    """Answer every prompt and write the answers to ``path``, in the prompts' order.

    Finished batches are on disk at once, so a run that was killed continues where it was: call it again with the same
    arguments. A sidecar ``<path>.meta.json`` says what the file belongs to.

    Args:
        model: a causal language model, also with an unmerged adapter; it is put into evaluation mode.
        tokenizer: its tokenizer.
        prompts: what is asked, with distinct ids.
        rendered: what the model reads for each prompt: text, or messages for the chat template.
        options: how to decode.
        path: JSONL file of `Generation` records.
        model_id: what names these weights in the sidecar: model and adapter, or a hash.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        DataError: two prompts share an id, a prompt does not fit into the model's context together with
            ``max_new_tokens``, or the file belongs to other prompts, options or another model.
        ModelError: the tokenizer has no chat template but a prompt has messages, or the GPU's memory is exhausted.
        StorageError: the file cannot be written.
    """
    identity = _identity(prompts, rendered, options, model_id)
    done = _read_done(path, identity)
    encoded = {p.id: _encode(tokenizer, text, p.id) for p, text in zip(prompts, rendered, strict=True)}
    _check_lengths(encoded, options, getattr(model.config, "max_position_embeddings", None))
    todo = [prompt for prompt in prompts if prompt.id not in done]
    decoder = _Decoder(model, tokenizer, options)
    if not done:
        write_json(_sidecar(path), identity)

    with _progress_bar(progress) as bar, JsonlAppender(path) as out:
        task = bar.add_task("answers", total=len(prompts), completed=len(done))
        for batch in _batches(todo, encoded, options):
            answers = decoder.answer(batch, [encoded[prompt.id] for prompt in batch])
            out.append(*answers)
            done.update((answer.id, answer) for answer in answers)
            bar.update(task, completed=len(done))

    ordered = [done[prompt.id] for prompt in prompts]
    write_jsonl(path, ordered)
    return ordered


def finished(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    *,
    model_id: str,
) -> list[Generation] | None:
    """Return the answers of a run of `generate` that is complete, or None: a look that needs no model.

    Raises:
        DataError: the file belongs to other prompts, options or another model.
    """
    done = _read_done(path, _identity(prompts, rendered, options, model_id))
    return [done[prompt.id] for prompt in prompts] if all(p.id in done for p in prompts) else None


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


class _Decoder:
    """A model with its tokenizer and options: a batch of token ids in, records out."""

    def __init__(self, model: Any, tokenizer: Any, options: GenerationOptions) -> None:
        # An unmerged adapter's layers are inside its base, and only the base's own settings steer `generate`.
        self._model = (model.get_base_model() if hasattr(model, "get_base_model") else model).eval()
        self._tokenizer = tokenizer
        self._options = options
        self._ends = _end_ids(self._model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    def answer(self, batch: Sequence[Prompt], encoded: Sequence[list[int]]) -> list[Generation]:
        width = max(map(len, encoded))
        device = self._model.device
        ids_BT = torch.tensor([[self._pad] * (width - len(ids)) + ids for ids in encoded], device=device)
        mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded], device=device)
        sampling = [SeededSampling(self._options, [p.id for p in batch])] if self._options.temperature > 0 else []
        config = GenerationConfig(
            max_new_tokens=self._options.max_new_tokens,
            num_beams=self._options.num_beams,
            do_sample=False,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self._pad,
            use_cache=True,
        )
        try:
            with _only(config, self._model):
                output_BT = self._model.generate(
                    input_ids=ids_BT, attention_mask=mask_BT, logits_processor=LogitsProcessorList(sampling)
                )
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"the GPU's memory does not hold a batch of {len(batch)} prompts of up to {width} + "
                f"{self._options.max_new_tokens} tokens. Lower batch_tokens and run again: finished answers are kept."
            ) from error
        return [self._record(p, new) for p, new in zip(batch, output_BT[:, width:].tolist(), strict=True)]

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


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = set(configured) if isinstance(configured, list) else {configured}
    return {end for end in ends | {tokenizer.eos_token_id} if end is not None}


def _encode(tokenizer: Any, text: str | Messages, prompt_id: str) -> list[int]:
    if isinstance(text, str):
        return tokenizer(text)["input_ids"]
    if tokenizer.chat_template is None:
        raise ModelError(
            f"prompt '{prompt_id}' is a conversation, but the tokenizer has no chat template. "
            "Choose a text template, or a chat model's tokenizer."
        )
    rendered = tokenizer.apply_chat_template(text, add_generation_prompt=True, tokenize=False)
    return tokenizer(rendered, add_special_tokens=False)["input_ids"]


def _check_lengths(encoded: dict[str, list[int]], options: GenerationOptions, context: int | None) -> None:
    longest = max(encoded, key=lambda prompt_id: len(encoded[prompt_id]), default=None)
    if longest is None or context is None:
        return
    length, room = len(encoded[longest]), context - options.max_new_tokens
    if length > room:
        shorter = f"Lower max_new_tokens to {context - length} or leave" if length < context else "Leave"
        raise DataError(
            f"prompt '{longest}' has {length} tokens, which with max_new_tokens {options.max_new_tokens} is over the "
            f"model's context of {context}. {shorter} the prompt out; prompts are never cut."
        )


def _batches(
    prompts: Sequence[Prompt], encoded: dict[str, list[int]], options: GenerationOptions
) -> list[list[Prompt]]:
    """Group prompts of like length, the longest first: a batch too large for the memory fails at once."""
    batches: list[list[Prompt]] = []
    rows = 0
    for prompt in sorted(prompts, key=lambda p: len(encoded[p.id]), reverse=True):
        if not batches or len(batches[-1]) == rows:
            row_tokens = (len(encoded[prompt.id]) + options.max_new_tokens) * options.num_beams
            rows = max(1, min(options.batch_size, options.batch_tokens // row_tokens))
            batches.append([])
        batches[-1].append(prompt)
    return batches


def _identity(
    prompts: Sequence[Prompt], rendered: Sequence[str | Messages], options: GenerationOptions, model_id: str
) -> dict[str, Any]:
    """Return what the answers depend on, in a form a person can read."""
    ids = [prompt.id for prompt in prompts]
    twice = next((name for name in ids if ids.count(name) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise DataError(f"prompt id '{twice}' is used more than once. Give each prompt its own id.")
    asked = [[to_dict(prompt), text] for prompt, text in zip(prompts, rendered, strict=True)]
    decoding = {k: v for k, v in dataclasses.asdict(options).items() if k not in SPEED_ONLY}
    return {
        "schema": SCHEMA_VERSION,
        "model": model_id,
        **decoding,
        "prompts": len(prompts),
        "prompts_sha256": sha256_of(asked),
    }


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def _read_done(path: Path, identity: dict[str, Any]) -> dict[str, Generation]:
    """Return the answers already in the file by prompt id, after making sure that they belong to this run."""
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    sidecar = _sidecar(path)
    advice = "Write to another file, or delete this one and its .meta.json to generate afresh."
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: has answers, but {sidecar.name} that says whose is missing or broken. {advice}"
        ) from error
    differing = [
        f"{key} (file {found.get(key)!r}, now {identity.get(key)!r})"
        for key in identity | found
        if found.get(key) != identity.get(key)
    ]
    if differing:
        raise DataError(f"{path}: belongs to another run; differing: {', '.join(differing)}. {advice}")
    cut_unfinished_line(path)
    return {answer.id: answer for answer in read_records(path, Generation)}


def _progress_bar(wanted: bool) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not (wanted and console.is_terminal))
