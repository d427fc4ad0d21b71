"""What a chat template writes before, around and after an answer, found by probing it: templates differ in all of these.

`prompt_text` says what a model reads before it answers: generation asks with it, and training labels what follows it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from steerclear.records import Messages

_QUESTION, _ANSWER = "A probing question", "A probing answer"


@dataclass(frozen=True)
class ChatForm:
    """How a tokenizer's chat template writes an assistant's turn."""

    header: str
    """What opens an answer's turn although ``add_generation_prompt`` does not add it; usually nothing. White space alone is the
    model's to write."""
    end: str
    """What is written after an answer."""
    gap: str
    """The white space between what opens an answer and the answer."""
    end_id: int | None
    """The token at which an answer ends. None: the template writes no special token after it."""


def chat_form(tokenizer: Any) -> ChatForm:
    """Return the form of the tokenizer's chat template.

    Raises:
        Exception: whatever the template raises where it cannot render a question and its answer.
    """
    return _probed(tokenizer, str(tokenizer.chat_template))


@functools.lru_cache(maxsize=16)
def _probed(tokenizer: Any, _template: str) -> ChatForm:
    question = [{"role": "user", "content": _QUESTION}]
    plain = tokenizer.apply_chat_template(question, tokenize=False)
    opened = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*question, {"role": "assistant", "content": _ANSWER}], tokenize=False)
    before, _, end = whole.rpartition(_ANSWER)
    header = before.removeprefix(plain) if opened == plain and before.startswith(plain) else ""
    header = header if header.strip() else ""
    ids = tokenizer(end, add_special_tokens=False)["input_ids"] if end else []
    special = special_ids(tokenizer)
    gap = before[len(before.rstrip()) :]
    return ChatForm(header, end, gap, next((token for token in ids if token in special), None))


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the tokenizer's control tokens."""
    added = {token for token, about in tokenizer.added_tokens_decoder.items() if about.special}
    return added | set(tokenizer.all_special_ids)


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Return what finds the texts that the tokenizer reads as control tokens, the longest first; None: there are none."""
    return _control_tokens(tokenizer, tuple(tokenizer.all_special_tokens))


@functools.lru_cache(maxsize=16)
def _control_tokens(tokenizer: Any, named: tuple[str, ...]) -> re.Pattern[str] | None:
    # Gemma has thousands of them, and every row is searched: 30 ms a row without the cache.
    texts = {str(about) for about in tokenizer.added_tokens_decoder.values() if about.special}
    longest_first = sorted(texts | set(named), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def end_ids(tokenizer: Any) -> set[int]:
    """Return the ids that end an answer: the tokenizer's end token, and its chat template's end of a turn."""
    ends = {tokenizer.eos_token_id}
    if tokenizer.chat_template is not None:
        try:
            ends.add(chat_form(tokenizer).end_id)
        except Exception:  # a template may raise anything; rows and prompts that it cannot render say so themselves
            ends.add(None)
    return {end for end in ends if end is not None}


def prompt_text(tokenizer: Any, turns: Messages) -> str:
    """Return all that the model reads before it answers a conversation, or goes on with its last turn if that is the assistant's.

    Some templates render a question differently once an answer follows it (Mistral's puts the system text into the last user turn
    only while that is the last message); the question is then rendered as the last, and the begun answer added.

    Raises:
        Exception: whatever the template raises.
    """
    asked, begun = (turns[:-1], turns[-1]["content"]) if turns and turns[-1]["role"] == "assistant" else (turns, "")
    opened = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    opened += chat_form(tokenizer).header
    if not begun:
        return opened
    continued = tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    return continued if continued.startswith(opened) else opened + _gap(tokenizer, opened) + begun.strip()


def row_text(tokenizer: Any, prompt: Messages, between: Messages, answer: str) -> tuple[str, int]:
    """Return a conversation with its answer as it is trained on, and where what the model writes begins in it.

    Args:
        prompt: turns before the completion; the last may be the beginning of the answer.
        between: turns of the completion before its last.
        answer: the completion's last assistant turn, without what ``prompt`` begins.

    Raises:
        Exception: whatever the template raises.
    """
    begun = prompt[-1]["content"] if prompt and prompt[-1]["role"] == "assistant" else ""
    turns = [*(prompt[:-1] if begun else prompt), *between]
    last = {"role": "assistant", "content": begun + answer}
    whole = tokenizer.apply_chat_template([*turns, last], tokenize=False)
    read = prompt_text(tokenizer, [*turns, {"role": "assistant", "content": begun}] if begun else turns)
    if whole.startswith(read):
        return whole, len(read)
    gap = "" if begun else _gap(tokenizer, read)
    said = answer.rstrip() if begun else answer.strip()
    return read + gap + said + chat_form(tokenizer).end, len(read)


def _gap(tokenizer: Any, opened: str) -> str:
    """Return the white space that the template writes between what opens an answer and the answer."""
    return "" if opened[-1:].isspace() else chat_form(tokenizer).gap
