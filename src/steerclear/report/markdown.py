"""Tables in Markdown that no name can break."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steerclear.sanitize import visible

_ACTING = re.compile(r"[\\|\[\]`*]|<(?=[A-Za-z/!?])")
"""What begins a link, an element, code or emphasis, or ends a cell."""


def markdown_cell(text: str) -> str:
    r"""Return a text that is text: it breaks no table, and is no link, picture or element.

    >>> markdown_cell("a|b ![x](y) <img>")
    'a\\|b !\\[x\\](y) &lt;img>'
    """
    return _ACTING.sub(lambda found: "&lt;" if found[0] == "<" else "\\" + found[0], visible(text).replace("\n", " "))


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a Markdown table; the second one holds the columns' dashes."""
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def rows_markdown(rows: Sequence[Sequence[str]], *, names: int | None = 1, about: str = "") -> str:
    """Return rows of plain text, the headings first, as a table below a line about it; nothing without rows.

    Args:
        names: how many columns are names; the others are figures, and stand on the right. None: all are names.
    """
    if not rows:
        return ""
    headings, *lines = [list(map(markdown_cell, row)) for row in rows]
    left = len(headings) if names is None else names
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    return (f"\n{about}\n\n" if about else "") + markdown_table([headings, rule, *lines])
