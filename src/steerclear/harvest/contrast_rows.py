"""Which answers to seemingly toxic prompts become benign rows, and what became of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.harvest.contrast_options import KeepOptions
from steerclear.records import Generation, Row, Verdict, text_of

SOURCE = "contrast"
"""``source`` of the rows."""

NO_ANSWER, CUT, UNSCORED, HARMFUL, REFUSED = "no answer", "cut off", "unscored", "harmful", "refused"

LANGUAGES = ("en", "")
"""Languages of the answers that are kept: English, and what is too short or too mixed to tell, or was asked for."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The rows, and why the other answers are none."""

    rows: list[Row]
    left_out: dict[str, int]
    """Reason -> number of answers. With the rows they are all answers."""


def select(answers: Sequence[Generation], verdicts: Sequence[Verdict], options: KeepOptions) -> Contrast:
    """Return the rows of judged answers, in their order.

    An answer becomes a row if it ended by itself or has enough whole sentences, and is judged coherent and safe, does not
    refuse, and is not in another language than English.

    Args:
        answers: those that were cut with their whole sentences alone, as they were judged.
        verdicts: theirs, in the same order.
    """
    rows, left_out = [], Counter[str]()
    for answer, verdict in zip(answers, verdicts, strict=True):
        reason = _why_not(answer, verdict, options)
        if reason is not None:
            left_out[reason] += 1
            continue
        prompt = text_of(answer.prompt)
        rows.append(Row(id=answer.id, prompt=prompt, completion=answer.response, label=True, source=SOURCE))
    return Contrast(rows=rows, left_out=dict(sorted(left_out.items())))


def _why_not(answer: Generation, verdict: Verdict, options: KeepOptions) -> str | None:
    """Return the first reason for which an answer is no row, None if there is none."""
    if answer.finish == "failed":
        return NO_ANSWER
    if answer.finish == "length" and (options.cut_from is None or len(answer.response.split()) < options.cut_from):
        return CUT
    if verdict.outcome == "degenerate":
        return f"degenerate: {verdict.reason}"
    if verdict.outcome != "safe":
        return HARMFUL if verdict.outcome == "harmful" else UNSCORED
    if verdict.refused:
        return REFUSED
    return None if verdict.language in LANGUAGES else f"language: {verdict.language}"
