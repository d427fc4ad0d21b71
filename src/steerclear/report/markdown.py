"""Tables in Markdown that no name can break."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.report.sanitize import visible


def markdown_cell(text: str) -> str:
    """Return a text that cannot break a Markdown table."""
    return visible(text).replace("|", r"\|").replace("\n", " ")


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a Markdown table; the second one holds the columns' dashes."""
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
