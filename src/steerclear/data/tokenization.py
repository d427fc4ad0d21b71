"""From a row's text to token ids and signed labels: what is imitated, and which tokens of an unsafe answer are avoided."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from steerclear.data import signed_labels
from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import Messages

CHOICES = ("all", "first")

_THINKING = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class AvoidTokens:
    """Which tokens of an unsafe answer are pushed away.

    The answer begins after the template's own tokens, a thinking block with its tags, and white space, and ends before the
    end token. In it, content tokens are those that are not white space alone.
    """

    choice: str = "all"
    """``all`` tokens of the answer, or the ``first`` k content tokens."""
    first_k: int = 1
    """k of ``first``."""
    eos: bool = False
    """Also push away the token that ends the answer. Off: pushing it away makes answers ramble."""
    whole: bool = False
    """Take the completion whole, as a benign one is imitated, whatever the other fields say: for KTO, which compares answers."""

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise ConfigError(one_of("avoid_tokens", self.choice, CHOICES))
        if self.first_k < 1:
            raise ConfigError(f"avoid_first_k: got {self.first_k}, allowed: 1 or more.")


class NothingLeftError(DataError):
    """No answer token of a row lies within the longest length allowed."""


@dataclass(frozen=True)
class TokenizedRow:
    """A row ready for the trainer."""

    input_ids: list[int]
    labels: list[int]
    cut: int
    """Number of tokens cut off at the end because the row was longer than allowed."""


def tokenize_row(
    tokenizer: Any,
    prompt: str | Messages,
    completion: str | Messages,
    label: bool,
    *,
    avoid: AvoidTokens,
    weight: float = 1.0,
    max_length: int | None = None,
    row_id: str = "row",
) -> TokenizedRow:
    """Tokenize prompt and answer together, as they stand in generation, and label the answer's tokens.

    Text is used as it is and an end-of-sequence token is added; messages go through the tokenizer's chat template. Of several
    completion messages only the last assistant turn is learnt from or avoided. Prompt tokens are never trained on. Where the
    prompt's last message is the assistant's, it is the beginning of the answer, which the completion continues.

    Args:
        label: true imitates the whole answer with its end token, false avoids the tokens that ``avoid`` chooses.
        max_length: longest row in tokens; the rest is cut off at the end.
        row_id: named in errors.

    Raises:
        NothingLeftError: no answer token is left within ``max_length``, or an unsafe answer has no content.
        DataError: prompt and completion are of different kinds, or the chat template cannot render the row.
    """
    text, start, answer, is_chat = _render(tokenizer, prompt, completion, row_id)
    encoded = tokenizer(text, add_special_tokens=not is_chat, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    if not is_chat and tokenizer.eos_token_id is not None and ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
        offsets.append((len(text), len(text)))
    begin = next((i for i, (_, end) in enumerate(offsets) if end > start), len(ids))
    if label or avoid.whole:
        chosen = list(range(begin, len(ids)))
    else:
        content = [i for i in range(begin, len(ids)) if _is_content(text, offsets[i], answer)]
        chosen = _choose(content, ids, tokenizer, avoid)
    labels = [signed_labels.IGNORED] * len(ids)
    for i in chosen:
        labels[i] = signed_labels.encode(ids[i], avoid=not label, weight=weight)
    limit = len(ids) if max_length is None else max_length
    if not any(i < limit for i in chosen):
        raise NothingLeftError(
            f"{row_id}: no answer token is left to {'imitate' if label else 'avoid'} in the first {limit} of {len(ids)} tokens. "
            "Raise max_length, shorten the prompt, or remove the row."
        )
    return TokenizedRow(ids[:limit], labels[:limit], max(0, len(ids) - limit))


def _choose(content: list[int], ids: list[int], tokenizer: Any, avoid: AvoidTokens) -> list[int]:
    if not content:
        return []
    after = content[-1] + 1
    chosen = content[: avoid.first_k] if avoid.choice == "first" else list(range(content[0], after))
    if avoid.eos and after < len(ids) and ids[after] in tokenizer.all_special_ids:
        chosen.append(after)
    return chosen


def _is_content(text: str, offset: tuple[int, int], answer: tuple[int, int]) -> bool:
    return bool(text[max(offset[0], answer[0]) : min(offset[1], answer[1])].strip())


def _render(
    tokenizer: Any, prompt: str | Messages, completion: str | Messages, row_id: str
) -> tuple[str, int, tuple[int, int], bool]:
    """Return the text, where the completion starts in it, the span of the answer's content, and whether it is a chat."""
    if isinstance(prompt, str) and isinstance(completion, str):
        text, start, said, is_chat = prompt + completion, len(prompt), completion, False
    elif not isinstance(prompt, str) and not isinstance(completion, str):
        if not completion or completion[-1]["role"] != "assistant":
            raise DataError(f"{row_id}: the last message of the completion must be the assistant's.")
        begun = prompt[-1]["content"] if prompt and prompt[-1]["role"] == "assistant" else ""
        answer = {"role": "assistant", "content": begun + completion[-1]["content"]}
        turns = [*(prompt[:-1] if begun else prompt), *completion[:-1], answer]
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            opening = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template may raise anything: jinja errors, its own raise_exception
            raise DataError(f"{row_id}: the tokenizer's chat template cannot render this row: {error}") from error
        start, said, is_chat = _common_prefix(opening, text), turns[-1]["content"], True
        if begun:
            start = max(start, text.find(begun.strip(), start) + len(begun.strip()))
            said = completion[-1]["content"]
    else:
        raise DataError(f"{row_id}: prompt and completion must both be text or both be lists of messages.")
    core = _THINKING.sub("", said, count=1).strip()
    thinking = _THINKING.match(text, start)
    at = text.find(core, thinking.end() if thinking else start)
    if at < 0:
        raise DataError(
            f"{row_id}: the chat template changes the answer's text, so its tokens cannot be found. "
            "Use another template (data.template: alpaca or plain)."
        )
    return text, start, (at, at + len(core)), is_chat


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
