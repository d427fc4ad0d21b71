"""An OpenAI-compatible HTTP endpoint: many requests at a time, at a bounded rate, each repeated until it has an answer or
will never have one.

The `openai` client sends the requests. Its own retries are switched off: they wait without regard to the rate limit, accept
bodies that are no JSON or lack fields, and have no limit on the time of a body that trickles in. One loop here does it all.

The key comes from the environment, goes into the request's header, and is taken out of every text that leaves this module.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from steerclear.endpoint.faults import Fault, UnreadableError, fault_of
from steerclear.endpoint.options import EndpointOptions
from steerclear.endpoint.replies import Reply, chat_reply, completion_reply
from steerclear.errors import ConfigError, ModelError, SteerClearError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LONGEST_WAIT = 60.0
"""Seconds at which the doubling of waits between tries ends."""
LOST_IN_A_ROW = 8
"""So many requests without an answer, one after the other and each after all its tries, end the run."""
LONGEST_REASON = 300
"""Characters of a reason; what servers say can be pages."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Failure(ModelError):  # noqa: N818 (also a result)
    """A request without a usable answer. Its text is the reason."""

    def __init__(self, reason: str, *, passes: bool = True) -> None:
        super().__init__(reason)
        self.passes = passes
        """Whether the same request may do better later. False: the server will not answer it."""


class Endpoint:
    """A server to ask. Its methods are coroutines; `map` runs them, several at a time, for callers that are not.

        endpoint = Endpoint(EndpointOptions(model="m", base_url="http://127.0.0.1:8000/v1", key_variable=None))
        for index, reply in endpoint.map(lambda text: endpoint.complete(text, max_tokens=64), texts):
            ...  # a Reply or a Failure, in the order in which they come

    Raises:
        ConfigError: the key's variable is not set.
    """

    def __init__(self, options: EndpointOptions) -> None:
        from openai import AsyncOpenAI

        self.options = options
        self._key = _key(options.key_variable)
        self._client = AsyncOpenAI(
            api_key=self._key or "none",  # the client insists on one
            base_url=options.base_url,
            max_retries=0,
            timeout=None,
        )
        weakref.finalize(self, _close, self._client)
        self._spacing = 60 / options.requests_per_minute if options.requests_per_minute else 0.0
        self._next_start = 0.0
        self._random = random.Random()
        self._lost = 0
        self._broken: SteerClearError | None = None

    def map(
        self, ask: Callable[[Item], Awaitable[Result]], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result | Failure]]:
        """Yield ``(index, result)`` for each item as soon as it is there, with `concurrency` items under way.

        Requests under way are dropped when the caller stops reading or is interrupted.

        Args:
            ask: a coroutine function. A `Failure` that it raises is that item's result; all else ends the run.

        Raises:
            ConfigError: the server knows the key or the model not, or the account's quota is used up.
            ModelError: the server has stopped answering.
        """
        done: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()

        async def one(index: int, item: Item, slots: asyncio.Semaphore) -> None:
            async with slots:
                try:
                    done.put((index, await ask(item)))
                except Exception as error:
                    done.put((index, error))

        async def everything() -> None:
            slots = asyncio.Semaphore(self.options.concurrency)
            await asyncio.gather(*(one(index, item, slots) for index, item in enumerate(items)))
            done.put(None)

        running = asyncio.run_coroutine_threadsafe(everything(), _loop())
        try:
            while (finished := done.get()) is not None:
                if isinstance(finished[1], Exception) and not isinstance(finished[1], Failure):
                    raise finished[1]
                yield finished
        finally:
            running.cancel()

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        logprobs: int | None = None,
    ) -> Reply:
        """Return the answer to a conversation (``/chat/completions``). What is None is left to the server.

        Args:
            logprobs: ask for so many of the likeliest tokens at each place.

        Raises:
            Failure: there is no usable answer.
            ConfigError, ModelError: as `map`.
        """
        body = {
            "messages": list(messages),
            self.options.length_field: max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "logprobs": None if logprobs is None else True,
            "top_logprobs": logprobs,
        }
        return await self.ask("/chat/completions", body, chat_reply)

    async def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        logprobs: int | None = None,
    ) -> Reply:
        """Return the continuation of a text (``/completions``). Arguments and errors as `chat`."""
        body = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "logprobs": logprobs,
        }
        return await self.ask("/completions", body, completion_reply)

    async def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Result]) -> Result:
        """Send a request until it has an answer that can be read.

        Args:
            path: below ``base_url``, such as ``/moderations``.
            body: the request without the model. What is None is left out.
            read: makes the result of the answer's JSON. An AttributeError, LookupError, TypeError or ValueError of its says that
                something is missing.

        Raises:
            Failure: there is no usable answer.
            ConfigError, ModelError: as `map`.
        """
        sent = {"model": self.options.model} | {name: value for name, value in body.items() if value is not None}
        for tried in range(1, self.options.max_retries + 2):
            await self._turn()
            try:
                async with asyncio.timeout(self.options.timeout):
                    answer = await self._client.post(path, cast_to=object, body=sent)
                result = _read(answer, read)
            except Exception as error:
                fault = fault_of(error)
            else:
                self._lost = 0
                return result
            if not fault.passes:
                break
            if tried <= self.options.max_retries:
                await asyncio.sleep(self._wait(tried, fault.retry_after))
        raise self._error(fault, tried)

    async def _turn(self) -> None:
        """Wait for this request's place in the evenly spaced queue of starts."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_start)
        self._next_start = start + self._spacing
        await asyncio.sleep(start - now)
        if self._broken is not None:
            raise self._broken

    def _wait(self, tried: int, retry_after: float | None) -> float:
        own = min(self.options.retry_wait * 2.0 ** (tried - 1), LONGEST_WAIT)
        if retry_after is None:
            return own * self._random.uniform(0.75, 1.25)
        # The others would be sent away too, so nobody starts before.
        self._next_start = max(self._next_start, asyncio.get_running_loop().time() + retry_after)
        return retry_after + own * self._random.uniform(0, 0.25)

    def _error(self, fault: Fault, tries: int) -> SteerClearError:
        """Return the error of a request that is given up: its own, or the whole run's."""
        reason = fault.reason.replace(self._key, "***") if self._key else fault.reason
        reason = reason[:LONGEST_REASON]  # after the key is out, as half of one is too much
        who = self.options.identity
        if fault.advice:
            self._broken = ConfigError(f"{who}: {reason}. {fault.advice} What was finished is kept; then run again.")
            return self._broken
        if not fault.passes:
            self._lost = 0
            return Failure(reason, passes=False)
        reason += f" ({tries} {'try' if tries == 1 else 'tries'})"
        self._lost += 1
        if self._lost >= LOST_IN_A_ROW:
            self._broken = ModelError(
                f"{who}: {self._lost} requests in a row failed, the last with: {reason}. "
                "What was finished is kept; run again when the server is back, or has less to do."
            )
            return self._broken
        return Failure(reason)


def _read(answer: object, read: Callable[[Any], Result]) -> Result:
    try:
        return read(answer)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the process's event loop for requests; it has a thread of its own, as a notebook's is taken."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="steerclear-endpoint", daemon=True).start()
    return loop


def _close(client: AsyncOpenAI) -> None:
    asyncio.run_coroutine_threadsafe(client.close(), _loop())


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"{variable}: this environment variable is not set, and the endpoint's key is read from there. "
            "Set it, name another with key_variable, or set key_variable to null for a server without a key."
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{variable}: the key in it has characters that no key has. Set it again.")
    return key
