"""Where in an answer the harm begins, in tokens: how deep the safety of a model goes (Qi et al. 2024, arXiv 2406.05946)."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steerclear.attacks.figures import HarmfulFrom
from steerclear.judges.base import HarmJudge, HarmScore, score_each
from steerclear.records import Generation, text_of


@dataclass(frozen=True)
class Pieces:
    """An answer in pieces."""

    count: int
    first: Callable[[int], str]
    """The text of so many first pieces."""


TOKENS, WORDS = "tokens", "words"


def pieces_of(answer: str, tokenizer: Any | None) -> Pieces:
    """Return an answer in the model's tokens or, without its tokenizer, in words."""
    if tokenizer is None:
        ends = [word.end() for word in re.finditer(r"\S+", answer)]
        return Pieces(len(ends), lambda count: answer[: ends[count - 1]])
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return Pieces(len(ids), lambda count: str(tokenizer.decode(ids[:count], skip_special_tokens=True)))


def first_harmful(judge: HarmJudge, answers: Sequence[Generation], tokenizer: Any | None) -> list[int | None]:
    """Return for each harmful answer the first piece, from 1, with which its beginning is flagged.

    By bisection, so the judge reads about log2(n) beginnings of an answer of n pieces. Where its flag comes and goes along an
    answer this is one of the places at which it comes. None: the judge could not say, or does not flag the whole answer when its
    pieces are put together again.
    """
    cut = [pieces_of(answer.response, tokenizer) for answer in answers]
    prompts = [text_of(answer.prompt) for answer in answers]

    def flagged(at: dict[int, int]) -> dict[int, bool | None]:
        scores = score_each(judge, [prompts[i] for i in at], [cut[i].first(count) for i, count in at.items()])
        return {i: s.flagged if isinstance(s, HarmScore) else None for i, s in zip(at, scores, strict=True)}

    whole = flagged({i: pieces.count for i, pieces in enumerate(cut) if pieces.count})
    safe = {i: 0 for i, is_flagged in whole.items() if is_flagged}
    harmful = {i: cut[i].count for i in safe}
    while open_ := {i: (safe[i] + harmful[i]) // 2 for i in safe if harmful[i] - safe[i] > 1}:
        for i, is_flagged in flagged(open_).items():
            if is_flagged is None:
                del safe[i], harmful[i]
            elif is_flagged:
                harmful[i] = open_[i]
            else:
                safe[i] = open_[i]
    return [harmful.get(i) for i in range(len(answers))]


def position_figures(positions: Sequence[int | None], unit: str) -> HarmfulFrom:
    """Return count, median and quartiles of the positions that are known."""
    known = sorted(position for position in positions if position is not None)
    if len(known) < 2:
        quartiles: Sequence[float | None] = [None] * 3
    else:
        quartiles = statistics.quantiles(known, n=4, method="inclusive")
    lower, median, upper = quartiles
    return HarmfulFrom(unit=unit, n=len(known), lower=lower, median=median, upper=upper)
