"""Which judged answers become rows: the judges agree, one answer a prompt, no near repeats, the categories in turn."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from steerclear.data.near_duplicates import NearDuplicates
from steerclear.records import Row
from steerclear.review.decisions import Decision, answer_key


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A judged answer."""

    id: str
    prompt_id: str
    prompt: str
    response: str
    category: str
    """The kind of harm that the prompt asks for; empty: not known."""
    outcome: str
    """What the first judge makes of it, one of `steerclear.records.OUTCOMES`."""
    reason: str
    """Why, where it is degenerate or unscored."""
    refused: bool | None
    finish: str
    flags: dict[str, bool | None]
    """Judge -> whether it calls the answer harmful. None: it could not say."""
    scores: dict[str, float | None]
    """Judge -> its score, on its own scale; higher is worse."""


@dataclass(frozen=True)
class Selection:
    """What was taken, in the order in which it was taken, and what became of the rest."""

    unsafe: list[Candidate]
    safe: list[Candidate]
    """One answer a prompt that every judge calls harmless, whole and coherent."""
    left_out: dict[str, int]
    """Why an answer is no unsafe row -> how many. With the rows taken they add up to all answers."""
    confirmed: int
    """How many of the unsafe rows a person has confirmed."""


UNSCORED, DEGENERATE = "a judge could not score it", "degenerate"
HARMLESS, DISAGREE, REFUSED = "harmless", "the judges disagree", "refuses"
OVERTURNED = "a person calls it safe or broken"
SAME_PROMPT, NEAR, SURPLUS = "another answer to the prompt was taken", "near a row already taken", "more than asked for"


def select(
    candidates: Sequence[Candidate],
    decisions: Mapping[str, Decision],
    *,
    rows: int | None = None,
    near_duplicates: float | None = None,
) -> Selection:
    """Return the rows of a harvest. The outcome depends on the answers alone, not on their order.

    An answer is a candidate for an unsafe row when every judge flags it and it is neither degenerate nor a refusal, or when a
    person has called it unsafe. Those that a person confirmed come first, then those of the highest mean rank among the judges'
    scores. Categories take turns, as long as they last. So the first n rows are the best balanced n: subsets are nested.

    Args:
        decisions: a person's decisions by `answer_key`; they overrule the judges.
        rows: take at most so many.
        near_duplicates: leave an answer out from this similarity to one already taken, in prompt or text. None: equal texts only.
    """
    left_out: Counter[str] = Counter()
    flagged, harmless = [], []
    for candidate in candidates:
        reason = _why_not(candidate, decisions)
        if reason is None:
            flagged.append(candidate)
        else:
            left_out[reason] += 1
        if _is_safe(candidate, decisions):
            harmless.append(candidate)
    confirmed = {c.id for c in flagged if _decided(c, decisions) == "unsafe"}
    ranks = _mean_ranks(flagged)
    ordered = sorted(flagged, key=lambda c: (c.id not in confirmed, -ranks[c.id], c.id))
    taken = _take(ordered, rows, near_duplicates, left_out)
    return Selection(
        unsafe=taken,
        safe=_one_a_prompt(harmless, decisions),
        left_out=dict(sorted(left_out.items())),
        confirmed=sum(c.id in confirmed for c in taken),
    )


def _decided(candidate: Candidate, decisions: Mapping[str, Decision]) -> str:
    decision = decisions.get(answer_key(candidate.prompt, candidate.response))
    return decision.decision if decision is not None else ""


def _why_not(candidate: Candidate, decisions: Mapping[str, Decision]) -> str | None:
    """Return why an answer cannot become an unsafe row, None if it can."""
    decided = _decided(candidate, decisions)
    if decided in ("safe", "broken"):
        return OVERTURNED
    if decided == "unsafe":
        return None
    flags = list(candidate.flags.values())
    if candidate.outcome == "unscored" or None in flags:
        return UNSCORED
    if candidate.outcome == "degenerate":
        return DEGENERATE
    if not all(flags):
        return DISAGREE if any(flags) else HARMLESS
    return REFUSED if candidate.refused else None


def _is_safe(candidate: Candidate, decisions: Mapping[str, Decision]) -> bool:
    """Whether an answer can be imitated. One cut at the token limit cannot: it would teach to stop in mid-sentence."""
    decided = _decided(candidate, decisions)
    if candidate.finish != "eos" or decided in ("unsafe", "broken"):
        return False
    judged = candidate.outcome == "safe" and all(flag is False for flag in candidate.flags.values())
    return decided == "safe" or judged


def _mean_ranks(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return each candidate's mean rank over the judges, from 0 to 1; ranks, as judges' scales cannot be averaged."""
    ranks: dict[str, list[float]] = defaultdict(list)
    judges = sorted({judge for candidate in candidates for judge in candidate.scores})
    for judge in judges:
        scores = {c.id: score for c in candidates if (score := c.scores.get(judge)) is not None}
        place = {score: i for i, score in enumerate(sorted(set(scores.values())))}
        for name, score in scores.items():
            ranks[name].append(place[score] / max(1, len(place) - 1))
    return {c.id: math.fsum(ranks[c.id]) / len(ranks[c.id]) if ranks[c.id] else 0.0 for c in candidates}


def _take(
    ordered: Sequence[Candidate], rows: int | None, near_duplicates: float | None, left_out: Counter[str]
) -> list[Candidate]:
    similarity = 1.0 if near_duplicates is None else near_duplicates
    prompts, texts = NearDuplicates(similarity), NearDuplicates(similarity)
    asked: set[str] = set()
    taken: list[Candidate] = []
    for candidate in _categories_in_turn(ordered, taken):
        if candidate.prompt_id in asked:
            left_out[SAME_PROMPT] += 1
        elif prompts.find(candidate.prompt) is not None or texts.find(candidate.response) is not None:
            left_out[NEAR] += 1
        elif len(taken) == rows:
            left_out[SURPLUS] += 1
        else:
            taken.append(candidate)
            asked.add(candidate.prompt_id)
            prompts.add(candidate.id, candidate.prompt)
            texts.add(candidate.id, candidate.response)
    return taken


def _categories_in_turn(ordered: Sequence[Candidate], taken: Sequence[Candidate]) -> Iterator[Candidate]:
    """Yield the candidates, each time the best of the category from which the fewest were taken so far."""
    waiting: dict[str, deque[Candidate]] = defaultdict(deque)
    for candidate in ordered:
        waiting[candidate.category].append(candidate)
    counts, seen = dict.fromkeys(waiting, 0), 0
    while waiting:
        for candidate in taken[seen:]:
            counts[candidate.category] += 1
        seen = len(taken)
        category = min(waiting, key=lambda name: (counts[name], name))
        yield waiting[category].popleft()
        if not waiting[category]:
            del waiting[category]


def _one_a_prompt(candidates: Sequence[Candidate], decisions: Mapping[str, Decision]) -> list[Candidate]:
    """Return one answer a prompt, one that a person called safe or else the least harmful, in the order of the prompts' ids."""
    ranks = _mean_ranks(candidates)
    best: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (_decided(c, decisions) != "safe", ranks[c.id], c.id)):
        best.setdefault(candidate.prompt_id, candidate)
    return [best[name] for name in sorted(best)]


def to_row(candidate: Candidate, *, label: bool) -> Row:
    """Return the training row of an answer; the template's own rule sets the space before the completion."""
    return Row(id=candidate.id, prompt=candidate.prompt, completion=candidate.response, label=label, source="harvest")
