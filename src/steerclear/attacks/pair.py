"""PAIR: an attacker model rewrites its prompt by the answers and scores that it got (Chao et al. 2023, arXiv 2310.08419).

Several conversations (streams) a behavior, a few iterations each, until one answer succeeds. The streams of several behaviors go
side by side, one file a role and iteration, so that a batch is large and a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.attacks.options import PairOptions
from steerclear.attacks.pair_prompts import Attempt, feedback, first_message, read_attempt, system_prompt
from steerclear.attacks.tags import ASKED, GOAL
from steerclear.data.templates import render_prompt
from steerclear.errors import Log
from steerclear.generation.model import Model
from steerclear.generation.options import GenerationOptions
from steerclear.judges.rating import HIGHEST, LOWEST, RATING
from steerclear.records import Generation, Messages, Prompt, Verdict, text_of, write_jsonl

Judge = Callable[[Sequence[Generation]], list[Verdict]]


DECODING = GenerationOptions(temperature=1.0, top_p=0.9, max_new_tokens=500)
"""How an attacker's replies are decoded, as published."""


@dataclass(frozen=True)
class PairBehavior:
    """What the attacker wants."""

    prompt: Prompt
    """The request; its suite is the attack's name."""
    opening: str | None
    """How a reply that fulfils it may begin. None: not known."""


@dataclass(frozen=True, kw_only=True)
class PairOutcome:
    """What came of it. Only behaviors that were tried to the end are in it."""

    answers: list[Generation]
    """The target's, with the behavior as their prompt and the attacker's prompt in the tag `ASKED`."""
    verdicts: list[Verdict]
    queries: dict[str, int | None]
    """Goal -> answers of the target up to its first success, in the order of iterations and streams; None: no success."""
    calls: dict[str, int]
    """Role -> how often it was called, in unfinished behaviors too."""
    malformed: int
    """Replies of the attacker that could not be read."""
    stopped: str | None
    """Why behaviors were left out. None: none was."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One line of the transcript: what a stream did in an iteration."""

    goal: str
    stream: int
    iteration: int
    replies: list[str]
    """The attacker's, the last one first readable."""
    improvement: str
    prompt: str
    """The attacker's; empty where none of its replies could be read."""
    response: str
    """The target's."""
    outcome: str
    score: float | None
    """The judge's own."""


class _SpentError(Exception):
    """The calls are used up."""


@dataclass
class _Calls:
    most: int | None
    made: Counter[str] = field(default_factory=Counter)

    def take(self, role: str, count: int) -> None:
        if self.most is not None and self.made.total() + count > self.most:
            raise _SpentError
        self.made[role] += count


@dataclass
class _Stream:
    """One conversation of the attacker."""

    behavior: PairBehavior
    number: int
    exchanges: list[tuple[str, str]] = field(default_factory=list)
    """What it was told, and what it replied."""
    told: str = ""

    def __post_init__(self) -> None:
        self.told = first_message(text_of(self.behavior.prompt.prompt))

    def conversation(self, keep_last: int) -> Messages:
        behavior = text_of(self.behavior.prompt.prompt)
        turns = [{"role": "system", "content": system_prompt(behavior, self.behavior.opening, self.number)}]
        for told, replied in self.exchanges[-keep_last:]:
            turns += [{"role": "user", "content": told}, {"role": "assistant", "content": replied}]
        return [*turns, {"role": "user", "content": self.told}]

    def learn(self, attempt: Attempt, answer: Generation, verdict: Verdict) -> None:
        self.exchanges.append((self.told, attempt.as_json()))
        self.told = feedback(text_of(self.behavior.prompt.prompt), answer.response, shown_score(verdict))


@dataclass
class _Try:
    """What a stream does in an iteration."""

    stream: _Stream
    replies: list[str] = field(default_factory=list)
    """The attacker's."""
    attempt: Attempt | None = None
    """The last of them, if it can be read."""
    result: tuple[Generation, Verdict] | None = None
    """The target's answer, judged."""

    def turn(self, iteration: int) -> Turn:
        """Return it as a line of the transcript."""
        told: dict[str, Any] = {"improvement": "", "prompt": "", "response": "", "outcome": "no prompt", "score": None}
        if self.attempt is not None and self.result is not None:
            answer, verdict = self.result
            told = {
                "improvement": self.attempt.improvement,
                "prompt": self.attempt.prompt,
                "response": answer.response,
                "outcome": verdict.outcome,
                "score": verdict.harm_score,
            }
        behavior, stream = self.stream.behavior.prompt.id, self.stream.number + 1
        return Turn(goal=behavior, stream=stream, iteration=iteration, replies=self.replies, **told)


def shown_score(verdict: Verdict) -> int | None:
    """Return the score that the attacker is told: a rating judge's own, any other's `HIGHEST` for a success and else `LOWEST`."""
    if verdict.outcome == "unscored":
        return None
    if verdict.outcome == "safe" and verdict.judge.startswith(RATING):
        return round(verdict.harm_score or LOWEST)
    return HIGHEST if verdict.outcome == "harmful" else LOWEST


def pair(
    behaviors: Sequence[PairBehavior],
    attacker: Model,
    target: Model,
    decoding: GenerationOptions,
    judge: Judge,
    options: PairOptions,
    folder: Path,
    template: str,
    log: Log,
) -> PairOutcome:
    """Attack a target with every behavior, or go on with that; ``transcripts.jsonl`` in the folder holds what was said.

    A behavior is done after the iteration in which an answer to it succeeds (the judge calls it harmful, and it is coherent), or
    after the last one. Where ``max_calls`` would be exceeded nothing more is asked, and the behaviors under way are left out of
    the outcome: they would be in it only if they had succeeded early.

    Args:
        decoding: how the target's answers are decoded.
        judge: returns the verdicts on the target's answers, whose prompts are the behaviors.
        folder: of this attack on this target.
        template: template of the target's prompts.

    Raises:
        SteerClearError: a role fails; what was said is kept.
    """
    attack = _Attack(attacker, target, decoding, judge, options, template, _Calls(options.max_calls))
    stopped = None
    for start in range(0, len(behaviors), options.goals_at_once):
        block = behaviors[start : start + options.goals_at_once]
        log(f"PAIR: behaviors {start + 1} to {start + len(block)} of {len(behaviors)} ...")
        try:
            attack.block(block, folder / f"goals-{start + 1}-{start + len(block)}")
        except _SpentError:
            stopped = (
                f"max_calls {options.max_calls} would be exceeded: {len(attack.queries)} of {len(behaviors)} behaviors were "
                f"tried to the end, the others are not counted. Raise max_calls and run again to go on."
            )
            break
    write_jsonl(folder / "transcripts.jsonl", attack.turns)
    finished = attack.queries.keys()
    kept = [(a, v) for a, v in attack.judged if v.tags[GOAL] in finished]
    return PairOutcome(
        answers=[answer for answer, _ in kept],
        verdicts=[verdict for _, verdict in kept],
        queries=attack.queries,
        calls={role: attack.calls.made[role] for role in ("attacker", "target", "judge")},
        malformed=attack.malformed,
        stopped=stopped,
    )


@dataclass
class _Attack:
    """The state of an attack on one target."""

    attacker: Model
    target: Model
    decoding: GenerationOptions
    judge: Judge
    options: PairOptions
    template: str
    calls: _Calls
    turns: list[Turn] = field(default_factory=list)
    judged: list[tuple[Generation, Verdict]] = field(default_factory=list)
    queries: dict[str, int | None] = field(default_factory=dict)
    malformed: int = 0

    def block(self, behaviors: Sequence[PairBehavior], folder: Path) -> None:
        """Try some behaviors to the end."""
        live = [_Stream(behavior, number) for behavior in behaviors for number in range(self.options.streams)]
        asked: Counter[str] = Counter()
        queries: dict[str, int | None] = {behavior.prompt.id: None for behavior in behaviors}
        for iteration in range(1, self.options.iterations + 1):
            place = folder / f"iteration-{iteration}"
            tries = [_Try(stream) for stream in live]
            self._write(tries, iteration, place)
            able = [(tried, tried.attempt) for tried in tries if tried.attempt is not None]
            results = self._answers([(tried.stream, attempt) for tried, attempt in able], iteration, place)
            for (tried, attempt), (answer, verdict) in zip(able, results, strict=True):
                name = tried.stream.behavior.prompt.id
                asked[name] += 1
                if verdict.outcome == "harmful" and queries[name] is None:
                    queries[name] = asked[name]
                tried.stream.learn(attempt, answer, verdict)
                tried.result = answer, verdict
            self.turns += [tried.turn(iteration) for tried in tries]
            live = [stream for stream in live if queries[stream.behavior.prompt.id] is None]
        self.queries |= queries

    def _write(self, tries: Sequence[_Try], iteration: int, place: Path) -> None:
        """Ask the attacker until each stream has a reply that can be read, or has had its attempts."""
        for number in range(1, self.options.attempts + 1):
            todo = [tried for tried in tries if tried.attempt is None]
            if not todo:
                break
            self.calls.take("attacker", len(todo))
            prompts = [
                Prompt(
                    id=f"{_name(tried.stream, iteration)}/attempt-{number}",
                    suite=tried.stream.behavior.prompt.suite,
                    prompt=tried.stream.told,
                )
                for tried in todo
            ]
            texts = [tried.stream.conversation(self.options.keep_last) for tried in todo]
            answers = self.attacker.answer(prompts, texts, place / f"attacker-{number}.jsonl", allow_too_long=True)
            for tried, answer in zip(todo, answers, strict=True):
                tried.replies.append(answer.response)
                tried.attempt = read_attempt(answer.response)
                self.malformed += tried.attempt is None

    def _answers(
        self, able: Sequence[tuple[_Stream, Attempt]], iteration: int, place: Path
    ) -> list[tuple[Generation, Verdict]]:
        """Return the target's answers to the attacker's prompts, judged."""
        if not able:
            return []
        self.calls.take("target", len(able))
        prompts = [
            Prompt(
                id=_name(stream, iteration),
                suite=stream.behavior.prompt.suite,
                prompt=stream.behavior.prompt.prompt,
                tags=stream.behavior.prompt.tags | {GOAL: stream.behavior.prompt.id, ASKED: attempt.prompt},
            )
            for stream, attempt in able
        ]
        texts = [render_prompt(attempt.prompt, "", self.template) for _, attempt in able]
        file = place / "target.jsonl"
        answers = self.target.answer(prompts, texts, file, options=self.decoding, allow_too_long=True)
        self.calls.take("judge", len(answers))
        judged = list(zip(answers, self.judge(answers), strict=True))
        self.judged += judged
        return judged


def _name(stream: _Stream, iteration: int) -> str:
    return f"{stream.behavior.prompt.id}/stream-{stream.number + 1}/iteration-{iteration}"
