"""Making text from models and files visible: nothing in it may act on the page, the terminal or the reading order."""

from __future__ import annotations

import hashlib
import unicodedata

# Joiners are part of the spelling of Persian, of Indian scripts and of emoji.
_KEPT = "\n\t\u200c\u200d"
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")


class _Written(dict[int, str]):
    """Character -> how it is written, found out once for each; answers by the thousand pass through here."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        acts = unicodedata.category(char) in _ACTING and char not in _KEPT
        self[code] = f"‹U+{code:04X}›" if acts else char
        return self[code]


_WRITTEN = _Written()


def visible(text: str) -> str:
    """Return the text with control, format and reading-direction characters written out.

    >>> visible("bold \\x1b[1m, turned \\u202e, plain")
    'bold ‹U+001B›[1m, turned ‹U+202E›, plain'
    """
    return text.replace("\r\n", "\n").translate(_WRITTEN)


def shortened(text: str, length: int) -> str:
    """Return at most so many characters, with an ellipsis where some are left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def redacted(text: str) -> str:
    """Return what may be said of a text that is not shown.

    >>> redacted("abc")
    '[redacted, 3 characters, sha256 ba7816bf]'
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"[redacted, {len(text)} characters, sha256 {digest[:8]}]"
