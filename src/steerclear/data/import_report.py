"""What an import found, as text for the terminal; nothing of the rows' text unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from steerclear.data.columns import shown_name
from steerclear.data.sources import HARM_FIELDS, ROLES
from steerclear.records import Row
from steerclear.sanitize import redacted, shortened, visible

SHOWN_ROWS = 10
SHOWN_LINES = 20
SHOWN_TEXT = 200


@dataclass
class LeftOut:
    """Rows left out for the same reason."""

    first: str
    """What is said of the first one; empty if it is not faulty, but of the kind not asked for."""
    count: int = 0
    lines: list[int] = field(default_factory=list)
    """The first `SHOWN_LINES` lines."""


@dataclass
class SourceCounts:
    """What became of the rows of one file."""

    name: str
    sha256: str
    format: str
    fields: dict[str, str]
    """Field -> the column it is read from."""
    unused: list[str]
    """Columns that nothing is read from."""
    read: int = 0
    benign: int = 0
    unsafe: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """Reason -> the rows left out for it."""
    unjudged: int = 0
    """Unsafe rows of TRL's format that nothing tells to be unsafe rather than merely worse."""


@dataclass
class Imported:
    """What an import wrote or would write."""

    sources: list[SourceCounts]
    first: dict[bool, list[Row]] = field(default_factory=lambda: {True: [], False: []})
    """The first `SHOWN_ROWS` rows of each label."""

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each role."""
        return {role: sum(getattr(source, role) for source in self.sources) for role in ROLES}

    @property
    def warnings(self) -> list[str]:
        """What the user should be told although nothing is wrong with the rows."""
        return [
            f"{source.name}: in {source.unjudged} of {source.unsafe} unsafe rows label false may mean merely worse, not unsafe, "
            f"as in data made for KTO. Look at them; columns {', '.join(HARM_FIELDS)} would tell."
            for source in self.sources
            if source.unjudged
        ]


def describe(imported: Imported) -> str:
    """Return counts, columns and what was left out of each file, for the terminal. Holds none of a row's text."""
    lines = []
    for source in imported.sources:
        lines.append(
            f"{source.name} ({source.format}): {source.read} read, {source.benign} benign, {source.unsafe} unsafe"
        )
        used = [
            name if name == column else f"{name} (from {shown_name(column)})" for name, column in source.fields.items()
        ]
        unused = f"; not used: {', '.join(source.unused)}" if source.unused else ""
        lines.append(f"  columns: {', '.join(used)}{unused}")
        for kind, rows in source.left_out.items():
            more = f" and {rows.count - SHOWN_LINES} more" if rows.count > SHOWN_LINES else ""
            first = f". First: {rows.first}" if rows.first else ""
            numbers = ", ".join(map(str, rows.lines))
            lines.append(f"  left out, {kind.replace('_', ' ')}: {rows.count}, on line {numbers}{more}{first}")
    lines += [f"warning: {warning}" for warning in imported.warnings]
    return "\n".join([*lines, ", ".join(f"{count} {role} rows" for role, count in imported.rows.items())])


def describe_rows(imported: Imported, *, reveal: bool = False) -> str:
    """Return `SHOWN_ROWS` of the rows, half of each label where there are enough; their texts only if ``reveal``."""
    unsafe = min(len(imported.first[False]), max(SHOWN_ROWS // 2, SHOWN_ROWS - len(imported.first[True])))
    chosen = imported.first[True][: SHOWN_ROWS - unsafe] + imported.first[False][:unsafe]
    blocks = []
    for row in chosen:
        blocks.append(f"{'benign' if row.label else 'unsafe'}, {row.source}")
        for name, text in _texts(row):
            shown = shortened(visible(text), SHOWN_TEXT).replace("\n", "⏎") if reveal else redacted(text)
            blocks.append(f"  {name}: {shown}")
    return "\n".join(blocks)


def _texts(row: Row) -> Iterator[tuple[str, str]]:
    for name, value in (("prompt", row.prompt), ("input", row.input), ("completion", row.completion)):
        if isinstance(value, str):
            yield from [(name, value)] if value else []
        else:
            yield from ((f"{name}, {turn['role']}", turn["content"]) for turn in value)
