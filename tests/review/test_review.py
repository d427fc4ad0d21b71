"""What is reviewed, what is kept, and who may ask: all that needs no browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from aiohttp.test_utils import TestClient, TestServer

from steerclear.errors import ConfigError, DataError
from steerclear.judges.labelled import read_rows
from steerclear.records import read_jsonl
from steerclear.review.decisions import decisions_file, read_decisions
from steerclear.review.items import read_items
from steerclear.review.review import export, review
from steerclear.review.server import AT_ONCE, TOKEN_HEADER, application, listen
from steerclear.review.session import ChangedMeanwhileError, Review


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "prompt", "response", "judged"),
    [
        ({"prompt": "p", "response": "a", "outcome": "degenerate"}, "p", "a", "broken"),
        ({"prompt": "p", "response": "a", "outcome": "harmful", "flags": {"x": True, "y": False}}, "p", "a", ""),
        ({"prompt": "p", "response": "a", "outcome": "harmful", "flags": {"x": True}, "refused": True}, "p", "a", ""),
        ({"prompt": "p", "response": "a", "outcome": "safe", "flags": {"x": False, "y": False}}, "p", "a", "safe"),
        ({"prompt": "p", "response": "a", "is_safe": False}, "p", "a", "unsafe"),
        ({"prompt": "p", "completion": "a", "label": True}, "p", "a", "safe"),
        ({"prompt": "p", "response": "a", "suite": "s", "finish": "eos"}, "p", "a", ""),
        ({"prompt": "p", "response": "a", "flagged": None}, "p", "a", ""),
        ({"instruction": "p", "input": "i", "output": "a"}, "p\n\ni", "a", ""),
        ({"prompt": "p", "unsafe": "a"}, "p", "a", "unsafe"),
        ({"prompt": [{"role": "user", "content": "p"}], "response": "a"}, "p", "a", ""),
        (
            {
                "prompt": [{"role": "system", "content": "be"}, {"role": "user", "content": "p"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
            "system: be\n\nuser: p",
            "a",
            "",
        ),
    ],
)
def test_shapes(tmp_path: Path, row: dict[str, Any], prompt: str, response: str, judged: str) -> None:
    (item,) = read_items(write(tmp_path / "rows.jsonl", row, row))
    assert (item.prompt, item.response, item.judged) == (prompt, response, judged)
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps([row]))
    assert read_items(listed)[0].key == item.key


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a"}, r"rows.jsonl:1: got the fields text, expected prompt and response"),
        ({"prompt": 3, "response": "a"}, "prompt: got 3, expected a text or a list of messages"),
        ({"prompt": "p", "response": "a", "outcome": "harmfull"}, "Did you mean 'harmful'"),
        ({"prompt": "p", "response": "a", "is_safe": "no"}, "is_safe: got 'no', expected true, false or null"),
    ],
)
def test_other_rows_are_refused(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_items(write(tmp_path / "rows.jsonl", row))


def answers(tmp_path: Path, n: int = 4) -> Path:
    rows = ({"id": f"p{i}", "prompt": f"q{i}", "response": "\u202ea", "is_safe": i % 2 == 0} for i in range(n))
    return write(tmp_path / "rows.jsonl", *rows)


def test_the_last_decision_counts_and_one_can_be_taken_back(tmp_path: Path) -> None:
    path = answers(tmp_path)
    with Review(path) as review:
        first, second = (item.key for item in review.items[:2])
        review.decide(first, "unsafe", was="undecided")
        review.decide(first, "safe", was="unsafe")
        review.decide(second, "broken", was="undecided")
        review.decide(second, "undecided", was="broken")
        with pytest.raises(ChangedMeanwhileError):
            review.decide(first, "unsafe", was="unsafe")
        with pytest.raises(DataError, match="a review of it is open already"), Review(path):
            pass
    with decisions_file(path).open("a") as file:
        file.write('{"key": "cut')  # what a killed process leaves
    assert {key: d.decision for key, d in read_decisions(decisions_file(path)).items()} == {first: "safe"}
    with Review(path) as review:
        assert review.first_undecided() == 1
    assert decisions_file(path).read_text().count("\n") == 4
    assert decisions_file(path).read_text().endswith("}\n")


def test_a_line_that_is_no_decision_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.decisions.jsonl", {"key": "k", "id": "", "decision": "bad", "judged": "", "at": ""})
    with pytest.raises(DataError, match=r":1: decision: got 'bad', allowed: unsafe, safe"):
        read_decisions(path)


def test_export(tmp_path: Path) -> None:
    path, output, said = answers(tmp_path, 6), tmp_path / "labels.jsonl", []
    with pytest.raises(DataError, match="nothing is decided"):
        export(path, output, said.append)
    with pytest.raises(ConfigError, match="Name another file"):
        export(path, path, said.append)
    with Review(path) as review:
        for item, word in zip(review.items, ["safe", "unsafe", "unsafe", "unsafe", "broken"], strict=False):
            review.decide(item.key, word, was="undecided")
    export(path, output, said.append)
    assert [(row.id, row.is_safe, row.label_by) for row in read_rows(output)] == [
        ("p0", True, "human"), ("p1", False, "human"), ("p2", False, "human"), ("p3", False, "human"),
    ]  # fmt: skip
    assert {row["source"] for _, row in read_jsonl(output)} == {"rows"}
    assert said[:2] == [f"4 rows, 3 unsafe and 1 safe: {output}", "left out: 1 broken, 0 unsure, 1 undecided"]
    # Agreement 3/4; chance (2/4)(3/4) + (2/4)(1/4) = 1/2; kappa (3/4 - 1/2) / (1/2) = 1/2.
    assert said[2].startswith("judges and person agree on 3 of 4, kappa 0.50")


def ask(path: Path, questions: Callable[[TestClient[Any, Any], Review], Awaitable[None]]) -> None:
    async def run() -> None:
        with Review(path) as review:
            async with TestClient(TestServer(application(review, "secret"), host="127.0.0.1")) as client:
                await questions(client, review)

    asyncio.run(run())


def test_only_the_one_with_the_token_gets_in(tmp_path: Path) -> None:
    async def questions(client: TestClient[Any, Any], review: Review) -> None:
        body = {"key": review.items[0].key, "decision": "safe", "was": "undecided"}
        token = {TOKEN_HEADER: "secret"}
        for method, url, options, status in [
            ("GET", "/", {}, 404),
            ("GET", "/wrong/state", {}, 404),
            ("GET", "/secret/state", {"headers": {"Host": "evil.example:80"}}, 403),
            ("GET", "/secret/state", {"headers": {"Host": "localhost:9000"}}, 200),
            ("GET", "/secret/nothing", {}, 404),
            ("GET", "/secret/decide", {}, 405),
            ("POST", "/secret/state", {"headers": token}, 405),
            ("POST", "/secret/decide", {"json": body}, 403),
            ("POST", "/secret/decide", {"json": body, "headers": {TOKEN_HEADER: "guess"}}, 403),
            ("OPTIONS", "/secret/decide", {"headers": {"Origin": "http://evil.example"}}, 405),
            ("GET", "/secret/", {}, 200),
        ]:
            reply = await client.request(method, url, **options)
            assert reply.status == status, url
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert "unsafe-inline" not in reply.headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in reply.headers
        assert not review.decisions

    ask(answers(tmp_path), questions)


def test_bad_bodies_and_positions_are_refused(tmp_path: Path) -> None:
    async def questions(client: TestClient[Any, Any], review: Review) -> None:
        key, headers = review.items[0].key, {TOKEN_HEADER: "secret"}
        for body, status in [
            (b"no json", 400),
            (b"\xff", 400),
            (b"[]", 400),
            (b'{"key": 1, "decision": "safe", "was": "undecided"}', 400),
            (json.dumps({"key": "unknown", "decision": "safe", "was": "undecided"}).encode(), 400),
            (json.dumps({"key": key, "decision": "bad", "was": "undecided"}).encode(), 400),
            (json.dumps({"key": key, "decision": "safe", "was": "unsafe"}).encode(), 409),
            (b" " * 5000, 413),
            (json.dumps({"key": key, "decision": "safe", "was": "undecided"}).encode(), 200),
        ]:
            reply = await client.post("/secret/decide", data=body, headers=headers)
            assert reply.status == status, body[:60]
        for at in ("", "x", "-1", "4", ",".join("0" * (AT_ONCE + 1))):
            assert (await client.get("/secret/items", params={"at": at})).status == 400
        (item,) = await (await client.get("/secret/items?at=3")).json()
        assert (item["id"], item["response"]) == ("p3", "‹U+202E›a")
        state = await (await client.get("/secret/state")).json()
        assert state["tally"] == {"total": 4, "decided": 1, "compared": 1, "agree": 1}

    ask(answers(tmp_path), questions)


def test_a_port_in_use_is_said() -> None:
    with listen() as taken, pytest.raises(ConfigError, match="cannot be had"):
        listen(taken.getsockname()[1])


def test_the_browser_is_told_the_address_by_a_private_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    said: list[str] = []
    seen = threading.Event()

    def browse(address: str) -> None:
        page = Path(unquote(urlsplit(address).path))
        opened.append(page.read_text())
        assert page.parent.stat().st_mode & 0o077 == 0
        seen.set()

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr("steerclear.review.review.serve", lambda *_: seen.wait(10))
    review(write(tmp_path / "rows.jsonl", {"prompt": "p", "response": "a"}), said.append)
    address = said[0].removeprefix("review: ")
    assert address in opened[0]
