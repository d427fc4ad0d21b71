"""A real HTTP server on this machine that answers as a test scripts it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """What came in."""

    path: str
    body: dict[str, Any]
    authorization: str | None
    time: float
    nth: int
    """How often this very request came, from 1."""


@dataclass(frozen=True)
class Answer:
    """What goes out. ``body`` that is not bytes goes out as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the status line."""
    drip: float = 0.0
    """Seconds before each byte of the body."""
    missing: int = 0
    """Bytes that were announced and do not come before the connection is closed."""
    hang_up: bool = False
    """Close the connection without a word."""


class Server:
    """Runs while the context is open.

    with Server(lambda request: Answer({"echo": request.body})) as server:
        ...  # server.url, server.requests
    """

    def __init__(self, script: Callable[[Request], Answer]) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.most_at_a_time = 0
        self._under_way = 0
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.socket.close()  # not server_close, which waits for the slow answers

    def _received(self, path: str, body: dict[str, Any], authorization: str | None) -> Request:
        with self._lock:
            same = (path, json.dumps(body, sort_keys=True))
            self._seen[same] += 1
            request = Request(path, body, authorization, time.monotonic(), self._seen[same])
            self.requests.append(request)
            self._under_way += 1
            self.most_at_a_time = max(self.most_at_a_time, self._under_way)
        return request

    def _answered(self) -> None:
        with self._lock:
            self._under_way -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = server._received(self.path.removeprefix("/v1"), body, self.headers["Authorization"])
                try:
                    answer = server.script(request)
                    time.sleep(answer.delay)
                finally:
                    server._answered()
                try:
                    self._send(answer)
                except (BrokenPipeError, ConnectionResetError):  # the client waits no longer
                    self.close_connection = True

            def _send(self, answer: Answer) -> None:
                self.close_connection = answer.hang_up or answer.missing > 0
                if answer.hang_up:
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) + answer.missing))
                self.end_headers()
                for part in [data] if not answer.drip else [data[i : i + 1] for i in range(len(data))]:
                    time.sleep(answer.drip)
                    self.wfile.write(part)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def chat_answer(text: Any, finish: str = "stop", **choice: Any) -> Answer:
    """A chat's answer of one choice, whose tokens are its words."""
    return Answer(
        {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish} | choice
            ],
            "usage": {"completion_tokens": len(str(text).split())},
        }
    )


def completion_answer(text: str, finish: str = "stop", **choice: Any) -> Answer:
    """A continuation of one choice, whose tokens are its words."""
    return Answer(
        {
            "choices": [{"index": 0, "text": text, "finish_reason": finish} | choice],
            "usage": {"completion_tokens": len(text.split())},
        }
    )


def moderation_answer(flagged: bool, **scores: float | None) -> Answer:
    """A moderation of one text."""
    return Answer({"id": "m-1", "model": "m", "results": [{"flagged": flagged, "category_scores": scores}]})
