"""What can go wrong with a request, and whether another try, or anything, may help."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import APIStatusError

LONGEST_RETRY_AFTER = 120.0
"""Seconds that a server may ask to wait. More is a quota used up, not a busy moment: the request fails at once."""

REPEATED = (408, 409, 429)
"""Statuses below 500 that may pass: time-out, conflict, too many requests. From 500 on all are repeated."""


class UnreadableError(Exception):
    """An answer lacks what is expected of it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What went wrong with one try."""

    reason: str
    passes: bool = False
    """Whether another try may do better."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    advice: str = ""
    """What the user can do, where no request of this run can succeed."""


def fault_of(error: Exception) -> Fault:
    """Return what an error means; one that is none of an endpoint's goes on."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _status_fault(error)
    if isinstance(error, TimeoutError):
        return Fault(reason="no answer in time", passes=True)
    if isinstance(error, APIConnectionError):
        return Fault(reason=f"no connection: {type(error.__cause__).__name__}", passes=True)
    if isinstance(error, UnicodeEncodeError):
        return Fault(reason="the text is not valid Unicode")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return Fault(reason="the answer is not JSON", passes=True)
    if isinstance(error, UnreadableError):
        return Fault(reason=f"the answer lacks what is expected: {error}", passes=True)
    raise error


def _status_fault(error: APIStatusError) -> Fault:
    status, detail = error.status_code, error.body if isinstance(error.body, dict) else {}
    said = detail.get("message", detail.get("detail"))  # the latter is FastAPI's
    reason = f"HTTP {status}" + (f": {said}" if isinstance(said, str) else "")
    advice = {
        401: "Check the key in the environment variable that key_variable names.",
        403: "Check what the key in the environment variable that key_variable names may do.",
        404: "Check base_url (it usually ends in /v1) and the model's name.",
    }.get(status, "")
    if detail.get("code") == "insufficient_quota":
        advice = "Check the account's plan and quota."
    if advice:
        return Fault(reason=reason, advice=advice)
    retry_after = _retry_after(error.response.headers.get("retry-after"))
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER:
        return Fault(reason=f"{reason}; the server asks to wait {retry_after:.0f} s")
    return Fault(reason=reason, passes=status in REPEATED or status >= 500, retry_after=retry_after)


def _retry_after(header: str | None) -> float | None:
    """Return the header's seconds, given as a number or as a date."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a time zone
        return None
