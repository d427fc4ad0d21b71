"""Training rows from files and from the Hugging Face Hub, in any of five formats, as `Row`s."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.data.formats import FORMATS, LEFT_OUT, PROBLEM_KINDS, Format, LeftOutError, is_unicode, read_weight
from steerclear.errors import ConfigError, DataError, did_you_mean, one_of
from steerclear.records import Messages, Row, read_jsonl, sha256_of_file

ROLES = ("benign", "unsafe")
"""What rows are read for: ``benign`` rows are imitated, ``unsafe`` rows avoided."""

HARM_FIELDS = ("source", "unsafe", "harm_score")
"""Fields that tell a row judged unsafe from one that is merely worse than another. See `read_source`."""

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""What the name of a data set on the Hub looks like."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A faulty row that was left out."""

    kind: str
    """One of `PROBLEM_KINDS`."""
    source: str
    """File name and line."""
    message: str
    """One line for the user, with file name and line. Holds none of the row's text."""


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
    name, sha256, raw_rows = _open(source, split)
    where, seen = dict(where or {}), {} if seen is None else seen
    counts = dict.fromkeys(("read", "kept", *LEFT_OUT), 0)
    rows: list[Row] = []
    problems: list[Problem] = []
    ids: set[str] = set()
    found, unjudged = "", 0
    unread: set[str] = set()
    for line, raw in raw_rows:
        if len(rows) == limit:
            break
        found = _format_of(raw, found, f"{source}:{line}")
        holds = _holds(where, raw, f"{source}:{line}")
        row_id = make_row_id(raw.get("id"), f"{Path(name).stem}-{line}", line, ids)
        counts["read"] += 1
        unread |= FORMATS[found].unread(raw)
        place = f"{name}:{line}"
        try:
            if not holds:
                raise LeftOutError("filtered")
            row = to_row(raw, FORMATS[found], role, row_id, place)
            _refuse_repeat(row, seen)
        except LeftOutError as reason:
            counts[reason.kind] += 1
            if reason.kind in PROBLEM_KINDS:
                message = f"{place}: {reason} The row is left out."
                problems.append(Problem(kind=reason.kind, source=place, message=message))
            continue
        rows.append(row)
        unjudged += not any(raw.get(mark) for mark in HARM_FIELDS)
    if not found:
        raise DataError(f"{source}: holds no rows. Give a file with at least one.")
    counts["kept"] = len(rows)
    warnings = [f"{name}: {', '.join(sorted(unread))}: not read in rows of the format {found}."] if unread else []
    if role == "unsafe" and found == "canonical" and unjudged:
        warnings.append(
            f"{name}: in {unjudged} of {len(rows)} rows label false may mean merely worse, not unsafe, as in data made for "
            f"KTO. Look at them; rows that carry one of {', '.join(HARM_FIELDS)} are read without this warning."
        )
    return SourceRead(
        name=name,
        format=found,
        role=role,
        where=where,
        sha256=sha256,
        rows=rows,
        problems=problems,
        counts=counts,
        warnings=warnings,
    )


def _open(source: str, split: str) -> tuple[str, str, Iterable[tuple[int, dict[str, Any]]]]:
    """Return the source's name, its hash, and its rows with their lines."""
    path = Path(source)
    if path.suffix == ".jsonl":
        return path.name, sha256_of_file(path), read_jsonl(path)
    if path.suffix == ".json":
        return path.name, sha256_of_file(path), read_json(path)
    if path.is_file() or not HUB_NAME.fullmatch(source):
        raise DataError(
            f"{source}: got neither a .json or .jsonl file nor a Hub name like owner/name. "
            "Check the path; convert other file types."
        )
    return source, *read_hub(source, split)


def read_json(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return ``(number, object)`` of a JSON file that holds a list of objects, numbered from 1.

    Raises:
        DataError: it is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(
            f"{path}: not valid JSON ({error}). Mend the file, or name it .jsonl if it has one object a line."
        ) from error
    if not isinstance(values, list):
        raise DataError(f"{path}: got a JSON {type(values).__name__}, expected a list of objects.")
    for position, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(f"{path}:{position}: got a JSON {type(value).__name__}, expected an object like {{...}}.")
    return list(enumerate(values, start=1))


def read_hub(name: str, split: str) -> tuple[str, list[tuple[int, dict[str, Any]]]]:
    """Return the hash of a Hub data set's rows, and the rows with their numbers from 1.

    Raises:
        DataError: it cannot be loaded.
    """
    import datasets  # takes a second, and only this reader needs it

    try:
        rows = [dict(row) for row in datasets.load_dataset(name, split=split)]
    except Exception as error:  # the Hub's client raises errors of many kinds: network, name, rights, split
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"{name}: there is no such file, so it was taken as the name of a Hub data set, and its split {split!r} could not be "
            f"loaded ({reason}). Check the path or the name, and the network; offline, give a .json or .jsonl file."
        ) from error
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest(), list(enumerate(rows, start=1))


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


def _holds(where: Mapping[str, Any], raw: dict[str, Any], place: str) -> bool:
    for name in where:
        if name not in raw:
            raise DataError(
                f"{place}: where: got the field {name!r}, the row has {', '.join(sorted(raw))}.{did_you_mean(name, raw)}"
            )
    return all(raw[name] == value for name, value in where.items())


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


def text_key(row: Row) -> tuple[str, str]:
    """Return what two rows with the same texts share: prompt with input, and the whole answer, without case and white space."""
    prompt = f"{flat_text(row.prompt)}\n{row.input}"
    return " ".join(prompt.casefold().split()), " ".join((row.context + flat_text(row.completion)).casefold().split())


def flat_text(text: str | Messages) -> str:
    """Return a text as it is, and the messages of a conversation one below the other."""
    return text if isinstance(text, str) else "\n".join(turn["content"] for turn in text)
