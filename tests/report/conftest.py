"""Runs for reports, made of letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from steerclear.evaluation.scores import score
from steerclear.records import Generation, Verdict
from steerclear.report.run_data import RunData

OUTCOMES = {"h": "harmful", "s": "safe", "d": "degenerate", "u": "unscored"}

MakeRun = Callable[..., RunData]


def answers(
    letters: str, suite: str, kind: str, text: Callable[[str], str], **tags: str
) -> list[tuple[Generation, Verdict]]:
    """One answer a letter: h(armful), s(afe), d(egenerate), u(nscored); a capital letter is a refusal."""
    pairs = []
    for number, letter in enumerate(letters):
        outcome = OUTCOMES[letter.lower()]
        asked: dict[str, Any] = {"id": f"{suite}-{number}", "suite": suite, "tags": {"kind": kind} | tags}
        verdict = Verdict(
            outcome=outcome, reason="repetitive" if outcome == "degenerate" else "", harm_score=None, judge="test judge 1",
            flagged=None if outcome == "unscored" else outcome == "harmful", refused=letter.isupper(), **asked,
        )  # fmt: skip
        prompt = text(f"prompt {suite} {number}")
        pairs.append(
            (Generation(prompt=prompt, response=text(f"answer {number}"), finish="eos", tokens=2, **asked), verdict)
        )
    return pairs


@pytest.fixture
def make_run() -> MakeRun:
    """Return what makes a run of the letters of its answers to harmful and to benign prompts."""

    def make(
        name: str, harmful: str, benign: str = "", *, text: Callable[[str], str] = str, groups: dict[str, str] | None = None,
        quality: dict[str, Any] | None = None, **fields: Any,
    ) -> RunData:  # fmt: skip
        pairs = answers(harmful, "toxic", "harmful", text) + answers(benign, "plain", "benign", text)
        for group, letters in (groups or {}).items():
            pairs += answers(letters, "grouped", "harmful", text, group=group)
        scores = replace(score([verdict for _, verdict in pairs]), quality=quality or {})
        return RunData(name=name, scores=scores, answers=pairs, **fields)

    return make
