"""Requests to a real server that misbehaves in every listed way: each has an answer or a reason, and no key leaks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from servers import Answer, Request, Server, chat_answer, completion_answer
from steerclear.endpoint import Endpoint, EndpointOptions, Failure, Reply
from steerclear.errors import ConfigError, ModelError

KEY = "sk-SECRET-marker-77"
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


@contextmanager
def serving(script: Callable[[Request], Answer], **options: Any) -> Iterator[tuple[Server, Endpoint]]:
    with Server(script) as server:
        settings = {
            "model": "m",
            "base_url": server.url,
            "key_variable": "TEST_KEY",
            "retry_wait": 0.01,
            "timeout": 5.0,
        }
        yield server, Endpoint(EndpointOptions(**(settings | options)))


def ask(endpoint: Endpoint, texts: Sequence[str] = ("hello",)) -> list[Reply | Failure]:
    """What the endpoint says to each text, in the texts' order."""
    return [result for _, result in sorted(endpoint.map(lambda t: endpoint.complete(t, max_tokens=5), texts))]


def first(fault: Answer, times: int = 1) -> Callable[[Request], Answer]:
    """A script: the fault so many times, then the prompt in capitals."""
    return lambda r: fault if r.nth <= times else completion_answer(r.body["prompt"].upper())


def test_a_chat_is_asked_and_answered_as_the_protocol_says() -> None:
    content = [
        {
            "token": "Hi",
            "logprob": -0.1,
            "top_logprobs": [{"token": t, "logprob": p} for t, p in (("Hi", -0.1), ("Yo", -3))],
        }
    ]
    with serving(lambda _: chat_answer("Hi there", logprobs={"content": content})) as (server, endpoint):
        [(_, reply)] = endpoint.map(
            lambda m: endpoint.chat(m, max_tokens=7, temperature=0.0, seed=3, logprobs=2), [MESSAGES]
        )
    assert reply == Reply(text="Hi there", finish_reason="stop", tokens=2, top_logprobs=[{"Hi": -0.1, "Yo": -3}])
    [request] = server.requests
    assert (request.path, request.authorization) == ("/chat/completions", f"Bearer {KEY}")
    assert request.body == {
        "model": "m",
        "messages": MESSAGES,
        "max_tokens": 7,
        "temperature": 0.0,
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 2,
    }


def test_a_text_is_continued() -> None:
    top = [{"a": -0.5, "b": -1.0}]
    with serving(lambda _: completion_answer(" a", "length", logprobs={"top_logprobs": top})) as (server, endpoint):
        [(_, reply)] = endpoint.map(lambda t: endpoint.complete(t, max_tokens=1, top_p=0.5, logprobs=2), ["x"])
    assert reply == Reply(text=" a", finish_reason="length", tokens=1, top_logprobs=top)
    assert server.requests[0].path == "/completions"
    assert server.requests[0].body == {"model": "m", "prompt": "x", "max_tokens": 1, "top_p": 0.5, "logprobs": 2}


def test_a_refusal_beside_the_content_is_the_text_and_the_length_field_is_a_choice() -> None:
    message = {"content": None, "refusal": "I can't."}
    options = {"length_field": "max_completion_tokens", "key_variable": None}
    with serving(lambda _: chat_answer("", message=message), **options) as (server, endpoint):
        [(_, reply)] = endpoint.map(lambda m: endpoint.chat(m, max_tokens=7), [MESSAGES])
    assert isinstance(reply, Reply)
    assert reply.text == "I can't."
    assert server.requests[0].body == {"model": "m", "messages": MESSAGES, "max_completion_tokens": 7}
    assert KEY not in str(server.requests[0].authorization)


FAULTS = {
    "429": Answer({"error": {"message": "slow down"}}, status=429),
    "429-date": Answer(status=429, headers={"Retry-After": format_datetime(datetime.now(UTC), usegmt=True)}),
    "500": Answer(b"oops", status=500),
    "503": Answer(status=503),
    "408": Answer(status=408),
    "silence": Answer(delay=0.6),
    "trickle": Answer({"choices": []}, drip=0.15),
    "broken JSON": Answer(b'{"choices": [{"te'),
    "HTML": Answer(b"<html>busy</html>", headers={"Content-Type": "text/html"}),
    "not UTF-8": Answer(b'{"a": "\xff"}'),
    "no choices": Answer({"object": "list"}),
    "empty choices": Answer({"choices": []}),
    "a list": Answer([1, 2]),
    "null": Answer(None),
    "no text": Answer({"choices": [{"text": None, "finish_reason": "stop"}]}),
    "empty body": Answer(b""),
    "truncated": Answer(b'{"choices"', missing=50),
    "hang-up": Answer(hang_up=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_repeated(fault: str) -> None:
    with serving(first(FAULTS[fault], times=2), timeout=0.3) as (server, endpoint):
        [reply] = ask(endpoint)
    assert isinstance(reply, Reply)
    assert reply.text == "HELLO"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "HTTP 429: slow down (3 tries)"),
        ("500", "HTTP 500 (3 tries)"),
        ("trickle", "no answer in time (3 tries)"),
        ("broken JSON", "the answer is not JSON (3 tries)"),
        ("no choices", "the answer lacks what is expected: KeyError: 'choices' (3 tries)"),
        ("hang-up", "no connection: RemoteProtocolError (3 tries)"),
    ],
)
def test_what_does_not_pass_is_a_failure_and_costs_the_others_nothing(fault: str, reason: str) -> None:
    script = first(FAULTS[fault], times=99)
    options = {"timeout": 0.3, "max_retries": 2}
    with serving(lambda r: script(r) if r.body["prompt"] == "bad" else completion_answer("fine"), **options) as (
        server,
        endpoint,
    ):
        good, bad, other = ask(endpoint, ["good", "bad", "other"])
    assert str(bad) == reason
    assert isinstance(bad, Failure)
    assert [r.text for r in (good, other) if isinstance(r, Reply)] == ["fine", "fine"]
    assert len(server.requests) == 5


def test_a_request_that_the_server_refuses_is_not_repeated() -> None:
    with serving(first(Answer({"error": {"message": "too long"}}, status=400))) as (server, endpoint):
        [failure] = ask(endpoint)
    assert str(failure) == "HTTP 400: too long"
    assert len(server.requests) == 1


def test_a_server_that_calls_the_message_detail_is_quoted_too() -> None:
    with serving(lambda _: Answer({"detail": "no such model"}, status=422)) as (_, endpoint):
        assert str(ask(endpoint)[0]) == "HTTP 422: no such model"


def test_a_text_that_cannot_be_sent_is_a_failure() -> None:
    with serving(first(Answer(), times=0)) as (_, endpoint):
        failure, reply = ask(endpoint, ["half \ud83d", "whole"])
    assert str(failure) == "the text is not valid Unicode"
    assert isinstance(reply, Reply)


def test_waits_double_and_a_server_that_names_its_own_gets_it() -> None:
    with serving(first(FAULTS["500"], times=3), retry_wait=0.1) as (server, endpoint):
        ask(endpoint)
    gaps = [b.time - a.time for a, b in zip(server.requests, server.requests[1:], strict=False)]
    assert [0.07 < gap / 2**i < 0.25 for i, gap in enumerate(gaps)] == [True] * 3
    with serving(first(Answer(status=429, headers={"Retry-After": "0.8"}))) as (server, endpoint):
        ask(endpoint)
    assert 0.8 <= server.requests[1].time - server.requests[0].time < 1.2


def test_nobody_starts_while_the_server_wants_to_be_left_alone() -> None:
    busy = Answer(status=429, headers={"Retry-After": "0.6"})
    with serving(lambda r: busy if r.nth == 1 and r.body["prompt"] == "a" else completion_answer("x")) as (
        server,
        endpoint,
    ):
        started = [threading.Thread(target=ask, args=(endpoint, [text])) for text in "ab"]
        started[0].start()
        time.sleep(0.3)
        started[1].start()
        for thread in started:
            thread.join()
    first_time, *others = [r.time for r in server.requests]
    assert server.requests[0].body["prompt"] == "a"
    assert min(others) - first_time >= 0.6


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_wants_an_hour_gets_no_more_requests_for_this(form: str) -> None:
    header = "3600" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with serving(first(Answer(status=429, headers={"Retry-After": header}))) as (server, endpoint):
        [failure] = ask(endpoint)
    assert "HTTP 429; the server asks to wait 3" in str(failure)
    assert len(server.requests) == 1


def test_no_more_requests_than_allowed_are_under_way_and_all_finish() -> None:
    def script(request: Request) -> Answer:
        return Answer(completion_answer(request.body["prompt"]).body, delay=0.05)

    texts = [f"t{i}" for i in range(24)]
    with serving(script, concurrency=4) as (server, endpoint):
        begin = time.monotonic()
        replies = ask(endpoint, texts)
        took = time.monotonic() - begin
    assert [r.text for r in replies if isinstance(r, Reply)] == texts
    assert server.most_at_a_time == 4
    assert 0.3 <= took < 0.9  # 24 x 0.05 s, four at a time; one at a time takes 1.2 s


def test_requests_are_spaced_evenly_repeats_counted_in() -> None:
    with serving(first(FAULTS["500"]), requests_per_minute=60 / 0.06) as (server, endpoint):
        ask(endpoint, ["a", "b", "c", "d"])
    times = sorted(r.time for r in server.requests)
    assert len(times) == 8
    assert times[-1] - times[0] >= 7 * 0.06 - 0.03
    assert min(b - a for a, b in zip(times, times[2:], strict=False)) > 0.06  # two at once would be 0


def test_results_come_as_they_finish() -> None:
    waits = {"slow": 0.5, "quick": 0.0}
    with serving(lambda r: Answer(completion_answer("x").body, delay=waits[r.body["prompt"]])) as (_, endpoint):
        order = [index for index, _ in endpoint.map(lambda t: endpoint.complete(t, max_tokens=1), ["slow", "quick"])]
    assert order == [1, 0]


def test_a_function_may_ask_several_times_and_its_own_error_comes_out() -> None:
    async def twice(text: str) -> str:
        one = await endpoint.complete(text, max_tokens=1)
        return (await endpoint.complete(one.text + "!", max_tokens=1)).text

    async def wrong(_: str) -> str:
        raise KeyError("mine")

    with serving(first(Answer(), times=0)) as (_, endpoint):
        assert list(endpoint.map(twice, ["a"])) == [(0, "A!")]
        with pytest.raises(KeyError, match="mine"):
            list(endpoint.map(wrong, ["a"]))
        assert list(endpoint.map(twice, [])) == []


def test_it_works_where_an_event_loop_is_running() -> None:
    async def notebook() -> list[Any]:
        return ask(endpoint)

    with serving(first(Answer(), times=0)) as (_, endpoint):
        assert asyncio.run(notebook())[0].text == "HELLO"


def test_an_interrupt_ends_it_at_once() -> None:
    finished: list[int] = []

    def script(request: Request) -> Answer:
        if len(server.requests) == 9:
            time.sleep(0.2)  # what was finished has been read
            os.kill(os.getpid(), signal.SIGINT)
        return Answer(completion_answer("x").body, delay=0.0 if request.body["prompt"] == "a" else 5.0)

    async def complete(text: str) -> Reply:
        return await endpoint.complete(text, max_tokens=1)

    with serving(script, concurrency=8) as (server, endpoint):
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            finished.extend(index for index, _ in endpoint.map(complete, "abcdefghijklm"))
        assert time.monotonic() - begin < 3
        time.sleep(0.1)
    assert finished == [0]
    assert len(server.requests) == 9  # the eight under way and the one that was finished


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer({"error": {"message": f"bad key {KEY}"}}, status=401),
            r"HTTP 401: bad key \*\*\*\. Check the key in the env",
        ),
        (Answer(status=403), "HTTP 403. Check what the key"),
        (Answer({"error": {"message": "no model m"}}, status=404), r"m at http.*HTTP 404: no model m\. Check base_url"),
        (
            Answer({"error": {"message": "q", "code": "insufficient_quota"}}, status=429),
            "HTTP 429: q. Check the account's plan",
        ),
    ],
)
def test_what_no_repeat_can_mend_ends_the_run(answer: Answer, message: str) -> None:
    with serving(lambda _: answer, concurrency=2) as (server, endpoint):
        for _ in range(2):
            with pytest.raises(ConfigError, match=message):
                ask(endpoint, [f"t{i}" for i in range(30)])
    assert len(server.requests) <= 2


def test_a_server_that_is_gone_ends_the_run_with_what_was_finished() -> None:
    finished = []

    def script(request: Request) -> Answer:
        return Answer(hang_up=True) if request.body["prompt"] >= "t05" else completion_answer("x")

    async def complete(text: str) -> Reply:
        return await endpoint.complete(text, max_tokens=1)

    with (
        serving(script, concurrency=2, max_retries=1) as (server, endpoint),
        pytest.raises(ModelError, match=r"8 requests in a row failed, the last with: no connection.*run again"),
    ):
        finished.extend((i, type(result)) for i, result in endpoint.map(complete, [f"t{i:02}" for i in range(60)]))
    assert {i for i, kind in finished if kind is Reply} == set(range(5))
    assert len(server.requests) < 60  # all would be 5 + 2 x 55


def test_no_server() -> None:
    options = EndpointOptions(
        model="m", base_url="http://127.0.0.1:9/v1", key_variable=None, max_retries=1, retry_wait=0.01
    )
    [failure] = ask(Endpoint(options))
    assert str(failure) == "no connection: ConnectError (2 tries)"


def test_the_key_is_in_no_log_error_or_repr(caplog: Any, capfd: Any, monkeypatch: Any) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    bodies = {
        "400": Answer({"error": {"message": f"{KEY} is odd"}}, status=400),
        "500": Answer({"error": KEY}, status=500),
    }
    bodies |= {"long": Answer({"error": {"message": "x" * 275 + KEY}}, status=422)}
    bodies |= {"json": Answer(f"{KEY} {{".encode()), "fields": Answer({KEY: KEY}), "hang-up": Answer(hang_up=True)}
    with serving(lambda r: bodies.get(r.body["prompt"]) or completion_answer("x"), max_retries=1) as (server, endpoint):
        results = ask(endpoint, [*bodies, "fine"])
        shown += [repr(r) + str(r) + repr(getattr(r, "__dict__", "")) for r in results]
        shown += [repr(endpoint), str(endpoint), repr(endpoint.options)]
    with serving(lambda _: Answer({"error": {"message": KEY}}, status=401)) as (server, endpoint):
        with pytest.raises(ConfigError) as caught:
            ask(endpoint)
        shown.append(str(caught.getrepr(showlocals=False, chain=True)))
    monkeypatch.setenv("TEST_KEY", f"{KEY}\nline")
    with pytest.raises(ConfigError, match="TEST_KEY: the key in it has characters that no key has") as caught:
        Endpoint(EndpointOptions(model="m", key_variable="TEST_KEY"))
    shown.append(str(caught.getrepr(showlocals=False, chain=True)))
    assert server.requests[0].authorization == f"Bearer {KEY}"
    printed = capfd.readouterr()
    assert "HTTP" in caplog.text
    for text in [*shown, caplog.text, printed.out, printed.err]:
        assert "sk-SECRET" not in text


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigError, match=r"TEST_KEY: this environment variable is not set.*key_variable to null"):
        Endpoint(EndpointOptions(model="m", key_variable="TEST_KEY"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": f"http://me:{KEY}@host/v1"}, "base_url: allowed: http"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "base_url: allowed: http"),
        ({"base_url": "host/v1"}, "base_url: allowed: http"),
        ({"base_url": "http://host:eight/v1"}, "base_url: allowed: http"),
        ({"key_variable": KEY}, "key_variable: allowed: the name of an environment variable"),
        ({"model": ""}, "model: got an empty name"),
        ({"length_field": "max_token"}, "length_field: got 'max_token'.*Did you mean 'max_tokens'"),
        ({"concurrency": 0}, "concurrency: got 0, allowed: 1 or more"),
        ({"max_retries": -1}, "max_retries: got -1"),
        ({"requests_per_minute": 0}, "requests_per_minute: got 0"),
        ({"timeout": float("inf")}, "timeout: got inf"),
        ({"retry_wait": -1.0}, "retry_wait: got -1.0"),
    ],
)
def test_wrong_options_are_refused_without_showing_what_may_be_a_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        EndpointOptions(**({"model": "m"} | settings))
    assert "SECRET" not in str(caught.value)


def test_options_import_nothing_heavy() -> None:
    script = "import sys, steerclear.endpoint; assert not {'openai', 'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
