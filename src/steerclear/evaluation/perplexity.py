"""Perplexity of held-out benign answers: how well a model still predicts ordinary text after it was steered.

Shape suffixes: B rows of a batch, T tokens, N answer tokens of a batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from steerclear.data.signed_labels import IGNORED
from steerclear.data.templates import render_row
from steerclear.data.tokenization import AvoidTokens, NothingLeftError, TokenizedRow, tokenize_row
from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.evaluation.figures import Perplexity
from steerclear.records import Row
from steerclear.stats.rates import CONFIDENCE

RESAMPLES = 2000
"""Draws of the bootstrap."""

_CHUNK = 512
"""Tokens whose log-softmax is taken in float32 at once: 0.26 GB with a vocabulary of 128k."""


def perplexity(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    template: str = "alpaca",
    batch_tokens: int = 4096,
    max_length: int | None = None,
    seed: int = 0,
) -> Perplexity:
    """Return a model's perplexity on rows that it was not trained on.

    Rows are tokenized as for training, so ``nll`` is the trainer's benign loss on them.

    Args:
        model: a causal language model, also with an unmerged adapter; it is put into evaluation mode.
        tokenizer: its tokenizer.
        rows: raw rows; the template is applied here.
        template: one of `steerclear.data.templates.TEMPLATES`.
        batch_tokens: most tokens in a batch, padding counted in. Changes speed and memory only.
        max_length: longest row in tokens; None, or more than the model's context, takes the context.
        seed: of the bootstrap.

    Raises:
        ConfigError: ``batch_tokens`` is below 1, or the template is unknown.
        DataError: no answer token is left in any row, or a row has the wrong form for the template.
        ModelError: the GPU's memory is exhausted, or the model's likelihood is not a number.
    """
    if batch_tokens < 1:
        raise ConfigError(f"batch_tokens: got {batch_tokens}, allowed: 1 or more.")
    context = getattr(model.config, "max_position_embeddings", None)
    limit = min((n for n in (max_length, context) if n is not None), default=None)
    tokenized = [_tokenize(tokenizer, row, template, limit) for row in rows]
    kept = [row for row in tokenized if row is not None]
    if not kept:
        raise DataError(f"perplexity: none of {len(rows)} rows has an answer token within {limit} tokens.")
    nll_B, count_B = _score(model.eval(), kept, batch_tokens)
    mean = nll_B.sum() / count_B.sum()
    if not math.isfinite(mean):
        raise ModelError(f"perplexity: the mean negative log-likelihood is {mean}. Check the weights; use float32.")
    lower, upper = _interval(nll_B, count_B, seed)
    return Perplexity(
        rows=len(kept),
        tokens=int(count_B.sum()),
        nll=float(mean),
        perplexity=math.exp(mean),
        lower=lower,
        upper=upper,
        cut=sum(row.cut for row in kept),
        left_out=len(rows) - len(kept),
    )


def _tokenize(tokenizer: Any, row: Row, template: str, limit: int | None) -> TokenizedRow | None:
    shown = render_row(row, template)
    try:
        return tokenize_row(
            tokenizer, shown.prompt, shown.completion, True, avoid=AvoidTokens(), max_length=limit, row_id=row.id
        )
    except NothingLeftError:
        return None


def _score(model: Any, rows: Sequence[TokenizedRow], batch_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's summed negative log-likelihood and its number of scored tokens."""
    nll, count = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for batch in _batches([len(row.input_ids) for row in rows], batch_tokens):
        try:
            nll[batch], count[batch] = _score_batch(model, [rows[i] for i in batch])
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"perplexity: the GPU's memory does not hold a batch of {len(batch)} rows. Lower batch_tokens "
                f"(got {batch_tokens})."
            ) from error
    return nll, count


def _batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group indices of like length, the longest first: a batch too large for the memory fails at once."""
    batches: list[list[int]] = []
    size = 0
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        if not batches or len(batches[-1]) == size:
            size = max(1, batch_tokens // lengths[index])
            batches.append([])
        batches[-1].append(index)
    return batches


def _score_batch(model: Any, rows: Sequence[TokenizedRow]) -> tuple[np.ndarray, np.ndarray]:
    width = max(len(row.input_ids) for row in rows)

    def padded(values: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([v + [filler] * (width - len(v)) for v in values], device=model.device)

    ids_BT = padded([row.input_ids for row in rows], 0)
    mask_BT = padded([[1] * len(row.input_ids) for row in rows], 0)
    labels_BT = padded([row.labels for row in rows], IGNORED)[:, 1:]
    with torch.no_grad():
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits[:, :-1]
    scored_BT = labels_BT != IGNORED
    row_N, place_N = scored_BT.nonzero(as_tuple=True)
    nll_B = torch.zeros(len(rows), dtype=torch.float64, device=ids_BT.device)
    for row, place in zip(row_N.split(_CHUNK), place_N.split(_CHUNK), strict=True):
        targets = labels_BT[row, place].to(logits_BTV.device)
        nll = functional.cross_entropy(logits_BTV[row, place].float(), targets, reduction="none")
        nll_B.index_add_(0, row, nll.double().to(nll_B.device))
    return nll_B.cpu().numpy(), scored_BT.sum(1).cpu().numpy()


def _interval(nll_B: np.ndarray, count_B: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    n = len(nll_B)
    if n < 2:
        return None, None
    random = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        chosen = random.integers(n, size=n)
        means[draw] = nll_B[chosen].sum() / count_B[chosen].sum()
    lower, upper = np.exp(np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return float(lower), float(upper)
