"""The moderation judge before a real server: a score or a reason for each, a kill loses nothing, nothing is asked twice."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers import Answer, Request, Server, moderation_answer
from steerclear.endpoint import Endpoint, EndpointOptions
from steerclear.errors import ConfigError, ModelError
from steerclear.judges.base import HarmScore, Unscored, score_each
from steerclear.judges.cache import CachedJudge
from steerclear.judges.moderation import ModerationJudge

KEY = "sk-SECRET-marker-78"
TEXTS = [f"answer {i}" for i in range(20)]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def judge(server: Server, text: str = "response", **options: Any) -> ModerationJudge:
    settings: dict[str, Any] = {
        "model": "mod-1",
        "base_url": server.url,
        "retry_wait": 0.01,
        "timeout": 5.0,
        "concurrency": 4,
    }
    return ModerationJudge(Endpoint(EndpointOptions(**(settings | options))), text)


def by_number(request: Request) -> Answer:
    """Answer i scores i / 100 for violence and is flagged from 10 on."""
    number = number_of(request)
    return moderation_answer(number >= 10, violence=number / 100, hate=0.001)


def score_of(number: int) -> HarmScore:
    scores = {"violence": number / 100, "hate": 0.001}
    return HarmScore(score=max(scores.values()), flagged=number >= 10, categories=scores)


def asked(server: Server) -> Counter[str]:
    return Counter(request.body["input"] for request in server.requests)


def test_the_flag_is_the_servers_and_the_score_the_highest_category() -> None:
    scores = {"self-harm/intent": 0.25, "violence": 0.75, "illicit": None}
    with Server(lambda _: moderation_answer(False, **scores)) as server:
        made = judge(server)
        results = made.score(["q"], ["a"])
    categories = {"self-harm/intent": 0.25, "violence": 0.75}
    assert results == [HarmScore(score=0.75, flagged=False, categories=categories)]
    assert (server.requests[0].path, server.requests[0].body) == ("/moderations", {"model": "mod-1", "input": "a"})
    assert (made.name, made.batch_size) == (f"moderation/mod-1 at {server.url} (response)", 4)


def test_the_conversation_is_another_judge() -> None:
    with Server(lambda _: moderation_answer(True, hate=1.0)) as server:
        made = judge(server, "conversation")
        made.score(["q", "q"], ["a", ""])
    assert asked(server) == {"User: q\n\nAssistant: a": 1}
    assert made.name == f"moderation/mod-1 at {server.url} (conversation)"
    with pytest.raises(ConfigError, match="text: got 'both', allowed: response, conversation"):
        judge(server, "both")


def test_an_empty_answer_is_not_sent() -> None:
    with Server(by_number) as server:
        assert judge(server).score(["p", "p"], [" \n", "answer 3"]) == [
            HarmScore(score=0.0, flagged=False),
            score_of(3),
        ]
    assert asked(server) == {"answer 3": 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Answer(status=429), r"moderation: HTTP 429 \(2 tries\)"),
        (Answer({"error": {"message": "too long"}}, status=400), "moderation: HTTP 400: too long"),
        (Answer(b"{"), r"moderation: the answer is not JSON \(2 tries\)"),
        (Answer({"results": []}), "lacks what is expected: IndexError"),
        (Answer({"results": [{"flagged": True}]}), "KeyError: 'category_scores'"),
        (Answer({"results": [{"flagged": True, "category_scores": {}}]}), "lacks what is expected: ValueError"),
        (Answer({"results": [{"flagged": "no", "category_scores": {"hate": 0}}]}), "a flag that is no truth value"),
        (Answer(b'{"results": [{"flagged": true, "category_scores": {"hate": NaN}}]}'), "a score that is no number"),
        (Answer(moderation_answer(True, hate=1.0).body, drip=0.02), r"no answer in time \(2 tries\)"),
    ],
)
def test_a_failure_costs_one_score_and_says_why(fault: Answer, reason: str) -> None:
    with Server(lambda r: fault if r.body["input"] == "answer 1" else by_number(r)) as server:
        results = score_each(judge(server, max_retries=1, timeout=0.4), ["p"] * 3, TEXTS[:3])
    assert results[0::2] == [score_of(0), score_of(2)]
    assert isinstance(results[1], Unscored)
    assert re.search(reason, results[1].reason)


def test_failures_on_the_way_do_not_show() -> None:
    faults = [
        Answer(status=429, headers={"Retry-After": "0.02"}),
        Answer(status=500),
        Answer(b"{"),
        Answer(hang_up=True),
        Answer({}),
    ]
    with Server(lambda r: faults[r.nth - 1] if r.nth <= len(faults) else by_number(r)) as server:
        assert score_each(judge(server), ["p"] * 20, TEXTS) == [score_of(i) for i in range(20)]
    assert set(asked(server).values()) == {6}


def number_of(request: Request) -> int:
    return int(request.body["input"].split()[1])


def test_a_server_that_dies_half_way_is_resumed(tmp_path: Path) -> None:
    with Server(lambda r: by_number(r) if number_of(r) < 9 else Answer(hang_up=True)) as server:
        with pytest.raises(ModelError, match=r"8 requests in a row failed.*What was finished is kept; run again"):
            CachedJudge(judge(server, max_retries=0), tmp_path).score(["p"] * 20, TEXTS)
        server.script, before = by_number, asked(server)
        assert CachedJudge(judge(server), tmp_path).score(["p"] * 20, TEXTS) == [score_of(i) for i in range(20)]
    assert asked(server) - before == Counter(TEXTS[9:])  # each once, and none of those that had a score


def test_what_was_scored_beside_the_request_that_ends_the_run_is_kept(tmp_path: Path) -> None:
    wrong_key = Answer(status=401, delay=0.2)
    with Server(lambda r: wrong_key if number_of(r) == 2 else by_number(r)) as server:
        with pytest.raises(ConfigError, match="HTTP 401"):
            CachedJudge(judge(server), tmp_path).score(["p"] * 20, TEXTS)
        assert len(server.requests) == 4
        server.script, before = by_number, asked(server)
        assert CachedJudge(judge(server), tmp_path).score(["p"] * 4, TEXTS[:4]) == [score_of(i) for i in range(4)]
    assert asked(server) - before == {"answer 2": 1}


def test_an_interrupt_is_resumed(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        if len(server.requests) == 12:  # the third batch of four is under way
            os.kill(os.getpid(), signal.SIGINT)
        return Answer(by_number(request).body, delay=1.0 if number_of(request) >= 8 else 0.0)

    with Server(script) as server:
        with pytest.raises(KeyboardInterrupt):
            CachedJudge(judge(server), tmp_path).score(["p"] * 20, TEXTS)
        server.script, before = by_number, asked(server)
        assert CachedJudge(judge(server), tmp_path).score(["p"] * 20, TEXTS) == [score_of(i) for i in range(20)]
    assert before == Counter(TEXTS[:12])
    assert asked(server) - before == Counter(TEXTS[8:])  # the batch under way and what came after it


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_is_said_once_and_not_asked_for_every_answer(status: int) -> None:
    with Server(lambda _: Answer(status=status)) as server:
        made = judge(server)
        with pytest.raises(ConfigError, match=f"HTTP {status}"):
            made.score(["p"] * 4, TEXTS[:4])
        with pytest.raises(ConfigError, match=f"HTTP {status}"):
            made.score(["p"] * 4, TEXTS[4:8])
    assert len(server.requests) <= 4


def test_a_server_that_is_gone_is_said() -> None:
    with (
        Server(lambda _: Answer(hang_up=True)) as server,
        pytest.raises(ModelError, match="8 requests in a row failed"),
    ):
        judge(server, max_retries=0, concurrency=10).score(["p"] * 20, TEXTS)


def test_the_key_is_in_no_log_and_no_file(caplog: Any, capfd: Any, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    echo: dict[str, Callable[[], Answer]] = {
        "answer 1": lambda: Answer({"error": {"message": KEY}}, status=400),
        "answer 2": lambda: Answer({"error": {"message": KEY}}, status=500),
        "answer 3": lambda: Answer(KEY.encode()),
    }
    with Server(lambda r: echo.get(r.body["input"], lambda: by_number(r))()) as server:
        results = CachedJudge(judge(server, max_retries=1), tmp_path).score(["p"] * 5, TEXTS[:5])
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert [isinstance(r, Unscored) for r in results] == [False, True, True, True, False]
    files = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert len(files.splitlines()) == 2
    printed = capfd.readouterr()
    for text in (repr(results), caplog.text, files, printed.out, printed.err):
        assert "SECRET-marker" not in text
