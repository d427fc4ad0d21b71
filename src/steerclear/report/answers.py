"""Answers for a page: what is hidden at first, and all of them packed so that a browser unpacks a run when it is asked for."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from steerclear.records import GROUP, KIND, OUTCOMES, PREFILL, PREFILLED, Generation, Verdict, text_of
from steerclear.report.run_data import Answers, RunData
from steerclear.sanitize import visible


def is_hidden_answer(verdict: Verdict) -> bool:
    """Return whether an answer is not to be seen before it is asked for: harmful, flagged, or judged by nobody."""
    return verdict.outcome in ("harmful", "unscored") or verdict.flagged is not False


def is_hidden_prompt(asked: Generation) -> bool:
    """Return whether a prompt is not to be seen before it is asked for."""
    return asked.tags.get(KIND, "harmful") in ("harmful", PREFILLED)


def prompt_text(asked: Generation) -> str:
    """Return the user's words, and the opening that an attacker put into the model's mouth."""
    begun = f"\n\n[prefilled] {asked.tags[PREFILL]}" if PREFILL in asked.tags else ""
    return text_of(asked.prompt) + begun


Key = tuple[str, str, str]
"""Suite, id and text of a prompt: two runs were asked the same where all three are."""


def packed_answers(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return ``{"outcomes", "suites", "groups", "reasons", "count", "prompts", "runs"}``, the last two packed (`packed`).

    A prompt is ``[suite, group, id, hidden, text]``, its suite and group being places in the lists; a run's answer, in the order
    of the prompts, is ``[response, outcome, reason, refused, hidden, score]``, or 0 where the run was not asked. All texts are
    made visible here, so that the browser has nothing to do but to show them.
    """
    asked: dict[Key, Generation] = {}
    for run in runs:
        asked |= {_key(generation): generation for generation, _ in run.answers if _key(generation) not in asked}
    suites, groups, reasons = _Places(), _Places(), _Places()
    prompts = [
        [
            suites.of(g.suite),
            groups.of(g.tags.get(GROUP, "")),
            visible(g.id),
            int(is_hidden_prompt(g)),
            visible(prompt_text(g)),
        ]
        for g in asked.values()
    ]
    answers = [packed(_column(run.answers, asked, reasons)) for run in runs]
    return {
        "outcomes": list(OUTCOMES),
        "suites": list(suites.texts),
        "groups": list(groups.texts),
        "reasons": list(reasons.texts),
        "count": len(prompts),
        "prompts": packed(prompts),
        "runs": answers,
    }


class _Places:
    """Visible texts, each with its place among all that were asked for."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def of(self, text: str) -> int:
        return self.texts.setdefault(visible(text), len(self.texts))


def _key(asked: Generation) -> Key:
    return asked.suite, asked.id, prompt_text(asked)


def _column(answers: Answers, asked: dict[Key, Generation], reasons: _Places) -> list[Any]:
    given = {_key(generation): (generation, verdict) for generation, verdict in answers}
    return [_entry(*given[key], reasons) if key in given else 0 for key in asked]


def _entry(generation: Generation, verdict: Verdict, reasons: _Places) -> list[Any]:
    score = None if verdict.harm_score is None else round(verdict.harm_score, 3)
    return [
        visible(generation.response),
        OUTCOMES.index(verdict.outcome),
        reasons.of(verdict.reason),
        int(verdict.refused is True),
        int(is_hidden_answer(verdict)),
        score,
    ]


def packed(value: Any) -> str:
    """Return a JSON-ready value compressed (gzip) and as text (base64); the same value gives the same text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
