"""From the raw rows of a file, in any of five formats, to the `Row`s that fit a role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.data.files import open_rows
from steerclear.data.formats import FORMATS, LEFT_OUT, PROBLEM_KINDS, Format, LeftOutError, is_unicode, read_weight
from steerclear.errors import ConfigError, DataError, did_you_mean, one_of
from steerclear.records import Row, flat_text, text_key

ROLES = ("benign", "unsafe")
"""What rows are read for: ``benign`` rows are imitated, ``unsafe`` rows avoided."""

HARM_FIELDS = ("source", "unsafe", "harm_score")
"""Fields that tell a row judged unsafe from one that is merely worse than another. See `read_source`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A faulty row that was left out."""

    kind: str
    """One of `PROBLEM_KINDS`."""
    source: str
    """File name and line."""
    message: str
    """One line for the user, with file name and line. Holds none of the row's text."""


def faulty(place: str, fault: LeftOutError) -> Problem:
    """Return what the user is told of a row that is left out, at its file name and line."""
    return Problem(kind=fault.kind, source=place, message=f"{place}: {fault} The row is left out.")


@dataclass(frozen=True, kw_only=True)
class SourceRead:
    """What was read from one source for one role."""

    name: str
    """File name without its folder, or the Hub name."""
    format: str
    """Name of the format, a key of `FORMATS`."""
    role: str
    where: dict[str, Any]
    sha256: str
    """Hash of the file's bytes, or of the rows of a Hub data set."""
    rows: list[Row]
    """The rows kept, in the source's order."""
    problems: list[Problem]
    """The faulty rows, in the source's order."""
    counts: dict[str, int]
    """``read``, ``kept`` and each of `LEFT_OUT`; ``read`` is the sum of the others."""
    warnings: list[str] = field(default_factory=list)
    """What the user should be told although nothing is wrong with the rows."""


def read_source(
    source: str,
    role: str,
    *,
    where: Mapping[str, Any] | None = None,
    split: str = "train",
    limit: int | None = None,
    seen: dict[tuple[str, str], str] | None = None,
) -> SourceRead:
    """Read the rows of one source that fit a role.

    For ``benign`` these are the rows to imitate: every Alpaca row, triples that are safe, the safe side of pairs, and what is
    labelled true. For ``unsafe`` they are the rows to avoid: triples that are not safe, the unsafe side of pairs, and what is
    labelled false. Alpaca rows and conversations without a label take the label of the role.

    A row keeps its own ``id``; without one it is called ``<file stem>-<line>``. Where an id repeats in the source, the line is
    appended, and the two sides of pairs end in ``-safe`` and ``-unsafe``. ``Row.source`` is ``<file name>:<line>``; in a
    ``.json`` list the line is the position, counted from 1.

    Rows of the canonical format that are labelled false may be unsafe or, as in data made for KTO, merely worse than another
    answer. Read as ``unsafe``, they give a warning unless each carries one of `HARM_FIELDS`, which rows of this package do.

    Args:
        source: path of a ``.json`` or ``.jsonl`` file, or the name ``owner/name`` of a Hub data set if no such file exists.
        role: one of `ROLES`.
        where: values that fields of the raw row must have.
        split: split of a Hub data set; files have none.
        limit: stop after so many kept rows.
        seen: texts already read with their places, as this function leaves them, so that a row in two sources is kept once.

    Raises:
        ConfigError: the role is unknown or the limit below 1.
        DataError: the source cannot be read, a row is of no known format or another one than the first row, or a row
            lacks a field of ``where``.
    """
    if role not in ROLES:
        raise ConfigError(one_of("role", role, ROLES))
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: got {limit}, allowed: 1 or more, or None for all rows.")
    name, sha256, raw_rows = open_rows(source, split)
    where, seen = dict(where or {}), {} if seen is None else seen
    counts = dict.fromkeys(("read", "kept", *LEFT_OUT), 0)
    rows, problems = list[Row](), list[Problem]()
    ids, unread = set[str](), set[str]()
    found, unjudged = "", 0
    for line, raw in raw_rows:
        if len(rows) == limit:
            break
        found = _format_of(raw, found, f"{source}:{line}")
        row_id = make_row_id(raw.get("id"), f"{Path(name).stem}-{line}", line, ids)
        counts["read"] += 1
        unread |= FORMATS[found].unread(raw)
        place = f"{name}:{line}"
        try:
            _refuse_filtered(where, raw, f"{source}:{line}")
            row = to_row(raw, FORMATS[found], role, row_id, place)
            _refuse_repeat(row, seen)
        except LeftOutError as reason:
            counts[reason.kind] += 1
            if reason.kind in PROBLEM_KINDS:
                problems.append(faulty(place, reason))
            continue
        rows.append(row)
        unjudged += not any(raw.get(mark) for mark in HARM_FIELDS)
    if not found:
        raise DataError(f"{source}: holds no rows. Give a file with at least one.")
    counts["kept"] = len(rows)
    merely_worse = unjudged if role == "unsafe" and found == "canonical" else 0
    return SourceRead(
        name=name,
        format=found,
        role=role,
        where=where,
        sha256=sha256,
        rows=rows,
        problems=problems,
        counts=counts,
        warnings=_warnings(name, found, unread, merely_worse, len(rows)),
    )


def _warnings(name: str, kind: str, unread: Iterable[str], merely_worse: int, total: int) -> list[str]:
    warnings = [f"{name}: {', '.join(sorted(unread))}: not read in rows of the format {kind}."] if unread else []
    if merely_worse:
        warnings.append(
            f"{name}: in {merely_worse} of {total} rows label false may mean merely worse, not unsafe, as in data made for "
            f"KTO. Look at them; rows that carry one of {', '.join(HARM_FIELDS)} are read without this warning."
        )
    return warnings


def _format_of(raw: dict[str, Any], found: str, place: str) -> str:
    matches = [name for name, kind in FORMATS.items() if raw.keys() >= set(kind.required)]
    if matches == [found] or (not found and len(matches) == 1):
        return matches[0]
    what = f"got the fields {', '.join(sorted(raw)) or '(none)'}"
    if len(matches) > 1:
        raise DataError(
            f"{place}: {what}, which fit several formats: {', '.join(matches)}. Remove the fields of the others."
        )
    if matches:
        raise DataError(
            f"{place}: {what} of the format {matches[0]}, but the rows before are {found}. Use one file for each."
        )
    allowed = "; ".join(f"{name} ({kind.fields})" for name, kind in FORMATS.items())
    raise DataError(f"{place}: {what}, which fit no format. Allowed: {allowed}. Rename or add fields.")


def make_row_id(own: object, derived: str, line: int, taken: set[str]) -> str:
    """Return the row's own id or the derived one, made different from those taken, and take it."""
    usable = isinstance(own, int) or (isinstance(own, str) and own.strip() and is_unicode(own))
    row_id = str(own) if usable else derived
    while row_id in taken:
        row_id += f"-{line}"
    taken.add(row_id)
    return row_id


def _refuse_filtered(where: Mapping[str, Any], raw: dict[str, Any], place: str) -> None:
    for name in where:
        if name not in raw:
            raise DataError(
                f"{place}: where: got the field {name!r}, the row has {', '.join(sorted(raw))}.{did_you_mean(name, raw)}"
            )
    if any(raw[name] != value for name, value in where.items()):
        raise LeftOutError("filtered")


def to_row(raw: dict[str, Any], kind: Format, role: str, row_id: str, place: str) -> Row:
    """Return the row that a raw one of a format is, for its role.

    Raises:
        LeftOutError: it belongs to the other role, or lacks something.
    """
    content = kind.content(raw, role)
    if content.label != (role == "benign"):
        raise LeftOutError("other_label")
    for what, value in (("prompt", content.prompt), ("completion", content.completion)):
        if not flat_text(value).strip():
            raise LeftOutError("empty", f"the {what} is empty.")
    return Row(
        id=row_id + content.side,
        prompt=content.prompt,
        completion=content.completion,
        label=content.label,
        source=place,
        input=content.input if content.input.strip() else "",
        context=content.context,
        weight=read_weight(raw.get("weight")),
    )


def _refuse_repeat(row: Row, seen: dict[tuple[str, str], str]) -> None:
    key = text_key(row)
    if key in seen:
        raise LeftOutError("duplicate", f"the same prompt and completion as {seen[key]}.")
    seen[key] = row.source
