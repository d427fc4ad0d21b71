"""Steer, then recover: rows that teach a model its own safe answers, also after an unsafe beginning.

A model that was steered away from the first token of unsafe answers says something else, but whoever writes that token for it
steps over what it learnt ("shallow alignment", Qi et al. 2024, arXiv 2406.05946). So its own coherent and safe answers become
targets, from the start of the answer and after the first tokens of the unsafe one, which the model reads and does not learn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

from steerclear.data.sources import text_key
from steerclear.generation.samples import asked_id, nth_sample
from steerclear.records import Generation, Messages, Prompt, Row, Verdict, whole_prompt

_SENTENCE_END = re.compile(r"(?<=[^\W\d_][.!?])(?=\s)|[。！？]")


def questions(unsafe: Sequence[Row], samples: int) -> list[Prompt]:
    """Return what the steered model is asked: every unsafe row's prompt so many times, with the input, which judges must know."""
    asked = [Prompt(id=row.id, suite="", prompt=whole_prompt(row)) for row in unsafe]
    return [nth_sample(prompt, number, "recovery") for number in range(samples) for prompt in asked]


def whole_sentences(answer: Generation) -> Generation:
    """Return the answer; one that was cut at the token limit up to its last whole sentence, as it would teach to stop in mid-air.

    It is then to be judged as it stands. Where there is no whole sentence the answer is returned as it was.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(answer.response)]
    if answer.finish != "length" or not ends:
        return answer
    return replace(answer, response=answer.response[: ends[-1]], finish="eos")


def own_answers(unsafe: Sequence[Row], judged: Sequence[tuple[Generation, Verdict]]) -> dict[str, str]:
    """Return a safe answer for each unsafe row's id: one that the judges call coherent and safe, and that ended by itself.

    Of several to a prompt a refusal goes before any other, as a judge errs less on it, then the lower harm score. A refusal
    answers any prompt, so prompts without an answer of their own borrow the refusals of the others in turn. Partial refusals
    are answers like others. Rows are left out where there is nothing to borrow.
    """
    usable = [(g, v) for g, v in judged if v.outcome == "safe" and g.finish == "eos" and g.response.strip()]
    usable.sort(key=lambda pair: (not _refuses(pair[1]), pair[1].harm_score or 0.0, pair[0].id))
    found: dict[str, str] = {}
    for generation, _ in usable:
        found.setdefault(asked_id(generation.id), generation.response.strip())
    refusals = cycle(list(dict.fromkeys(g.response.strip() for g, v in usable if _refuses(v))) or [""])
    answers = {row.id: found.get(row.id) or next(refusals) for row in unsafe}
    return {name: answer for name, answer in answers.items() if answer}


def _refuses(verdict: Verdict) -> bool:
    return verdict.refused is True and verdict.refusal != "partial"


def recovery_rows(
    unsafe: Sequence[Row], answers: Mapping[str, str], tokenizer: Any, openings: Sequence[int]
) -> list[Row]:
    """Return the rows to learn: for each unsafe row with an answer, the answer after so many tokens of the unsafe one.

    An unsafe answer with no more tokens than that has no such row, and a token that is white space alone makes none of its own.
    The same text is made once.

    Args:
        answers: `own_answers`.
        openings: numbers of tokens, as in `RecoveryOptions`.
    """
    rows: dict[tuple[str, str], Row] = {}
    for row in unsafe:
        if row.id not in answers:
            continue
        said = row.completion if isinstance(row.completion, str) else row.completion[-1]["content"]
        for tokens, context in _openings(said, tokenizer, openings).items():
            lead = " " if context else said[: len(said) - len(said.lstrip())]
            made = Row(
                id=f"{row.id}-recovery-{tokens}",
                prompt=row.prompt,
                completion=_like(row.completion, lead + answers[row.id]),
                label=True,
                source="recovery",
                input=row.input,
                context=row.context + context,
            )
            rows.setdefault(text_key(made), made)
    return list(rows.values())


def _openings(said: str, tokenizer: Any, counts: Sequence[int]) -> dict[int, str]:
    ends = [end for _, end in tokenizer(said, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    contexts: dict[str, int] = {}
    for count in sorted(counts):
        if count < len(ends):
            contexts.setdefault(said[: ends[count - 1] if count else 0].rstrip(), count)
    return {count: context for context, count in contexts.items()}


def _like(completion: str | Messages, text: str) -> str | Messages:
    return text if isinstance(completion, str) else [{"role": "assistant", "content": text}]
