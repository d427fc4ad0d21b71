"""The page's server: loopback only, nothing without the token in the address, and a decision is on disk before the reply.

aiohttp, which `datasets` brings along, has what http.server lacks: routes with their methods, limits on bodies, one thread.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib import resources
from json import JSONDecodeError
from typing import Any

from aiohttp import web

from steerclear.errors import ConfigError, DataError, StorageError
from steerclear.review.decisions import DECISIONS
from steerclear.review.items import Item
from steerclear.review.session import ChangedMeanwhileError, Review, tally
from steerclear.sanitize import visible

HOST = "127.0.0.1"
TOKEN_HEADER = "X-Review-Token"
AT_ONCE = 50
"""Most items in one reply."""

_MAX_BODY = 4096
_PAGE = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on this machine's loopback address only. Port 0: any free one.

    Raises:
        ConfigError: the port cannot be had.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port: got {port}, which cannot be had ({error}). Leave --port out to take a free one."
        ) from error


def serve(review: Review, listening: socket.socket, token: str) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    web.run_app(application(review, token), sock=listening, print=None, access_log=None, shutdown_timeout=1)


def new_token() -> str:
    """Return what whoever may see the page knows and nobody else: 256 random bits."""
    return secrets.token_urlsafe(32)


def application(review: Review, token: str) -> web.Application:
    """Return the page and its three calls, all below ``/TOKEN/``: ``state``, ``items?at=0,1,2`` and ``decide``."""
    app = web.Application(middlewares=[_guard(token)], client_max_size=_MAX_BODY)
    app.on_response_prepare.append(_add_headers)
    for name, (file, kind) in _PAGE.items():
        app.router.add_get(f"/{token}/{name}", _static(file, kind))
    calls = _Calls(review)
    app.router.add_get(f"/{token}/state", calls.state)
    app.router.add_get(f"/{token}/items", calls.items)
    app.router.add_post(f"/{token}/decide", calls.decide)
    return app


def _guard(token: str) -> Any:
    """Return the check that every request passes: named as loopback (a rebound DNS name is not), with the token."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            raise web.HTTPForbidden(text="Open the address that steerclear printed.")
        if not _same(request.path.split("/")[1], token):
            raise web.HTTPNotFound
        if request.method == "POST" and not _same(request.headers.get(TOKEN_HEADER, ""), token):
            raise web.HTTPForbidden(text=f"{TOKEN_HEADER}: missing or wrong.")
        return await handler(request)

    return guard


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001 (aiohttp calls it)
    response.headers.update(_HEADERS)


def _static(name: str, kind: str) -> _Handler:
    text = resources.files("steerclear.review").joinpath(name).read_text(encoding="utf-8")

    async def reply(request: web.Request) -> web.Response:  # noqa: ARG001 (aiohttp calls it)
        return web.Response(text=text, content_type=kind, charset="utf-8")

    return reply


class _Calls:
    """What the page's script asks for."""

    def __init__(self, review: Review) -> None:
        self.review = review

    async def state(self, request: web.Request) -> web.Response:  # noqa: ARG002 (aiohttp calls it)
        """Everything but the texts: for each item what the judges said and what was decided."""
        review = self.review
        return web.json_response(
            {
                "file": visible(review.path.name),
                "first": review.first_undecided(),
                "judged": [item.judged for item in review.items],
                "decided": [review.decided(item.key) for item in review.items],
                "tally": asdict(tally(review.items, review.decisions)),
            }
        )

    async def items(self, request: web.Request) -> web.Response:
        """The texts of a few items, with what would act on the page or the reading order written out."""
        try:
            positions = [int(text) for text in request.query.get("at", "").split(",")]
        except ValueError:
            return _refused("at: expected positions such as 0,1,2.")
        if len(positions) > AT_ONCE or not all(0 <= at < len(self.review.items) for at in positions):
            return _refused(f"at: expected at most {AT_ONCE} positions from 0 to {len(self.review.items) - 1}.")
        return web.json_response([self._item(self.review.items[at]) for at in positions])

    def _item(self, item: Item) -> dict[str, Any]:
        return {
            "key": item.key,
            "id": visible(item.id),
            "prompt": visible(item.prompt),
            "response": visible(item.response),
            "details": [[visible(name), visible(value)] for name, value in item.details],
            "decided": self.review.decided(item.key),
        }

    async def decide(self, request: web.Request) -> web.Response:
        """Add one decision: ``{"key": ..., "decision": ..., "was": ...}``."""
        try:
            body = await request.json()
        except (JSONDecodeError, UnicodeDecodeError):
            body = None
        if not isinstance(body, dict) or not all(
            isinstance(body.get(name), str) for name in ("key", "decision", "was")
        ):
            return _refused(f"body: expected key, decision ({', '.join(DECISIONS)}) and was, all texts.")
        try:
            self.review.decide(body["key"], body["decision"], was=body["was"])
        except DataError as error:
            return _refused(str(error))
        except StorageError as error:
            return _refused(str(error), status=507)
        except ChangedMeanwhileError:
            now = self.review.decided(body["key"])
            return web.json_response({"error": "Decided elsewhere meanwhile.", "decided": now}, status=409)
        return web.json_response({"tally": asdict(tally(self.review.items, self.review.decisions))})


def _refused(why: str, status: int = 400) -> web.Response:
    return web.json_response({"error": why}, status=status)
