"""From a row's text to token ids and signed labels: what is imitated, and which tokens of an unsafe answer are avoided."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from steerclear.data import signed_labels
from steerclear.data.chat import control_tokens, end_ids, row_text
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
    controls: int = 0
    """Control tokens that stand as text in the row, such as ``<bos>``; an end token at the answer's end is not one."""
    merges: bool = False
    """Whether prompt and answer, read as one text, have a token in common; they are then tokenized apart, as in generation."""


@dataclass(frozen=True)
class _Text:
    """A row as text."""

    whole: str
    start: int
    """Where what the model writes begins."""
    content: tuple[int, int]
    """Span of the answer's content."""
    is_chat: bool
    controls: int


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
    """Tokenize prompt and answer as they stand in generation, and label the answer's tokens.

    Text is used as it is and an end-of-sequence token is added; messages go through the tokenizer's chat template. Of several
    completion messages only the last assistant turn is learnt from or avoided. Prompt tokens are never trained on: they are those
    that `steerclear.generation.decoding.encode` gives the model. Where the prompt's last message is the assistant's, it is the
    beginning of the answer, which the completion continues. An end token that the answer's text ends with is taken for its end.

    Args:
        label: true imitates the whole answer with its end token, false avoids the tokens that ``avoid`` chooses.
        max_length: longest row in tokens; the rest is cut off at the end.
        row_id: named in errors.

    Raises:
        NothingLeftError: no answer token is left within ``max_length``, or an unsafe answer has no content.
        DataError: prompt and completion are of different kinds, or the chat template cannot render the row.
    """
    text = _render(tokenizer, prompt, completion, row_id)
    ids, offsets, begin, merges = _tokens(tokenizer, text)
    if not text.is_chat and tokenizer.eos_token_id is not None and ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
        offsets.append((len(text.whole), len(text.whole)))
    if label or avoid.whole:
        chosen = list(range(begin, len(ids)))
    else:
        content = [i for i in range(begin, len(ids)) if _is_content(text, offsets[i])]
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
    return TokenizedRow(ids[:limit], labels[:limit], max(0, len(ids) - limit), text.controls, merges)


def prompt_ids(tokenizer: Any, text: str, *, is_chat: bool) -> list[int]:
    """Return the tokens of all that stands before an answer, as the model reads them.

    An end token that the tokenizer puts after every text is left out: an answer follows.
    """
    ids = tokenizer(text, add_special_tokens=not is_chat, verbose=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return ids[:-1] if len(ids) > 1 and ids[-1] == eos and not text.endswith(tokenizer.eos_token) else ids


def _tokens(tokenizer: Any, text: _Text) -> tuple[list[int], list[tuple[int, int]], int, bool]:
    """Return the row's tokens, their places in the text, where the answer's begin, and whether the two parts would merge."""
    before = prompt_ids(tokenizer, text.whole[: text.start], is_chat=text.is_chat)
    encoded = tokenizer(text.whole, add_special_tokens=not text.is_chat, return_offsets_mapping=True, verbose=False)
    ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    if ids[: len(before)] == before:
        begin = next((i for i, (_, end) in enumerate(offsets) if end > text.start), len(ids))
        return ids, offsets, begin, False
    rest, places = _continued(tokenizer, before, text.whole[text.start :])
    places = [(text.start + start, text.start + end) for start, end in places]
    return before + rest, [(0, 0)] * len(before) + places, len(before), True


def _continued(tokenizer: Any, before: list[int], text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return tokens that add exactly a text to some tokens, and their places in it.

    Tokenizers that mark the beginning of a word put that mark at the beginning of a text too; after a line break they do not.
    """
    wanted = tokenizer.decode(before) + text
    tries = []
    for lead in ("", "\n"):
        encoded = tokenizer(lead + text, add_special_tokens=False, return_offsets_mapping=True)
        skip = len(tokenizer(lead, add_special_tokens=False)["input_ids"]) if lead else 0
        ids = list(encoded["input_ids"])[skip:]
        places = [(max(0, a - len(lead)), max(0, b - len(lead))) for a, b in encoded["offset_mapping"][skip:]]
        if tokenizer.decode(before + ids) == wanted:
            return ids, places
        tries.append((ids, places))
    return tries[0]


def _choose(content: list[int], ids: list[int], tokenizer: Any, avoid: AvoidTokens) -> list[int]:
    if not content:
        return []
    after = content[-1] + 1
    chosen = content[: avoid.first_k] if avoid.choice == "first" else list(range(content[0], after))
    ends = end_ids(tokenizer)
    chosen = [i for i in chosen if ids[i] not in ends]  # text may spell one
    if avoid.eos and after < len(ids) and ids[after] in tokenizer.all_special_ids:
        chosen.append(after)
    return chosen


def _is_content(text: _Text, offset: tuple[int, int]) -> bool:
    return bool(text.whole[max(offset[0], text.content[0]) : min(offset[1], text.content[1])].strip())


def _render(tokenizer: Any, prompt: str | Messages, completion: str | Messages, row_id: str) -> _Text:
    if isinstance(prompt, str) and isinstance(completion, str):
        said = _without_end(tokenizer, completion)
        whole, start, is_chat = prompt + said, len(prompt), False
        controls = _controls(tokenizer, prompt + "\0" + said)
    elif not isinstance(prompt, str) and not isinstance(completion, str):
        if not completion or completion[-1]["role"] != "assistant":
            raise DataError(f"{row_id}: the last message of the completion must be the assistant's.")
        said, is_chat = _without_end(tokenizer, completion[-1]["content"]), True
        try:
            whole, start = row_text(tokenizer, prompt, completion[:-1], said)
        except Exception as error:  # a template may raise anything: jinja errors, its own raise_exception
            raise DataError(f"{row_id}: the tokenizer's chat template cannot render this row: {error}") from error
        controls = _controls(tokenizer, "\0".join([*(turn["content"] for turn in [*prompt, *completion[:-1]]), said]))
    else:
        raise DataError(f"{row_id}: prompt and completion must both be text or both be lists of messages.")
    core = _THINKING.sub("", said, count=1).strip()
    thinking = _THINKING.match(whole, start)
    at = whole.find(core, thinking.end() if thinking else start)
    if at < 0:
        raise DataError(
            f"{row_id}: the chat template changes the answer's text, so its tokens cannot be found. "
            "Use another template (data.template: alpaca or plain)."
        )
    return _Text(whole, start, (at, at + len(core)), is_chat, controls)


def _without_end(tokenizer: Any, said: str) -> str:
    """Return an answer without the text of an end token at its end, which is added anyway."""
    ends = [tokenizer.decode([token]) for token in end_ids(tokenizer)]
    while (end := next((end for end in ends if end and said.rstrip().endswith(end)), None)) is not None:
        said = said.rstrip().removesuffix(end)
    return said


def _controls(tokenizer: Any, text: str) -> int:
    """Return how many control tokens a text spells."""
    tokens = control_tokens(tokenizer)
    return len(tokens.findall(text)) if tokens else 0
