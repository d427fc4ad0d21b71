"""What the columns of a table mean as fields of rows.

`fields_of` and `format_of` look at a table's columns, `raw_row` makes of a row what `steerclear.data.formats` reads.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from steerclear.data.files import Table, Values
from steerclear.data.formats import FORMATS, LeftOutError
from steerclear.data.sources import ROLES
from steerclear.errors import ConfigError, DataError, did_you_mean, one_of

FIELDS = (
    *dict.fromkeys(name.rstrip("?") for kind in FORMATS.values() for name in kind.fields.split(", ")),
    "id",
    "weight",
)
"""What a column can be mapped to."""

SAFE_WORDS = ("true", "1", "yes", "y", "t", "safe")
UNSAFE_WORDS = ("false", "0", "no", "n", "f", "unsafe")
"""Labels that are understood, without case and space around them."""

LABELS = {"triples": "is_safe", "alpaca": "label", "messages": "label", "canonical": "label"}
"""Format -> the field of its label."""

_ONE_WORD = re.compile(r"[\w.+-]{1,20}")
_NAME_LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How the columns of tables become rows."""

    map: dict[str, str] = field(default_factory=dict)
    """Field -> column, for columns that are called otherwise than the field; fields are in `FIELDS`."""
    safe_values: list[str] = field(default_factory=list)
    """Labels that mean safe. Empty: `SAFE_WORDS`, but for those in ``unsafe_values``."""
    unsafe_values: list[str] = field(default_factory=list)
    """Labels that mean unsafe. Empty: `UNSAFE_WORDS`, but for those in ``safe_values``."""
    only: str | None = None
    """``benign`` or ``unsafe``: keep only these. Alpaca rows and conversations without a label are taken as such."""
    format: str | None = None
    """Name of the format, a key of `FORMATS`. None: the one that the columns fit."""
    encoding: str | None = None
    """Encoding of CSV files. None: UTF-8, or UTF-16 if the file begins with its mark."""

    def __post_init__(self) -> None:
        both = {_word(v) for v in self.safe_values} & {_word(v) for v in self.unsafe_values}
        checks = [
            *((name in FIELDS, one_of("map", name, FIELDS) + _turned(name, self.map[name])) for name in self.map),
            (not both, f"safe_values, unsafe_values: got {', '.join(sorted(both))} in both. Name each label once."),
            (self.only in (None, *ROLES), one_of("only", self.only, ROLES)),
            (self.format in (None, *FORMATS), one_of("format", self.format, FORMATS)),
            (_is_encoding(self.encoding), f"encoding: got {self.encoding!r}, allowed: such as utf-8, utf-16, cp1252."),
        ]
        wrong = [message for right, message in checks if not right]
        if wrong:
            raise ConfigError("\n".join(wrong))

    def words(self) -> dict[str, bool]:
        """Return what each label means: true for safe."""
        safe, unsafe = ([_word(value) for value in values] for values in (self.safe_values, self.unsafe_values))
        return {word: True for word in safe or SAFE_WORDS if word not in unsafe} | {
            word: False for word in unsafe or UNSAFE_WORDS if word not in safe
        }


def fields_of(table: Table, mapping: Mapping[str, str]) -> dict[str, str]:
    """Return field -> column: as mapped, and otherwise the column of that name unless it is mapped to another field."""
    for name, column in mapping.items():
        if column not in table.columns:
            raise ConfigError(
                f"map: {name}={column}: {table.name} has no such column, it has {', '.join(map(shown_name, table.columns))}."
                f"{did_you_mean(column, table.columns)}"
            )
    return {name: name for name in FIELDS if name not in mapping.values()} | dict(mapping)


def format_of(table: Table, fields: Mapping[str, str], wanted: str | None) -> str:
    present = {name for name, column in fields.items() if column in table.columns}
    matches = [name for name, kind in FORMATS.items() if present >= set(kind.required)]
    if wanted in matches or (wanted is None and len(matches) == 1):
        return wanted or matches[0]
    got = f"{table.name}: got the columns {', '.join(map(shown_name, table.columns))}"
    if wanted is None and matches:
        raise DataError(f"{got}, which fit several formats: {', '.join(matches)}. Say which: --format {matches[0]}.")
    allowed = {wanted: FORMATS[wanted]} if wanted else FORMATS
    raise DataError(
        f"{got}, which do not fit {'it' if wanted else 'any format'}. Allowed: "
        f"{'; '.join(f'{name} ({kind.fields})' for name, kind in allowed.items())}. Map them with --map FIELD=COLUMN"
        f"{hint(table.columns, present)}. A file without a header row needs one."
    )


def hint(columns: Iterable[str], present: Iterable[str]) -> str:
    """Return the mappings that near names suggest."""
    missing = [name for name in FIELDS if name not in present]
    near = {column: difflib.get_close_matches(column.casefold(), missing, n=1) for column in columns}
    hints = [f"--map {names[0]}={shown_name(column)}" for column, names in near.items() if names]
    return f". Did you mean {' '.join(hints)}?" if hints else ""


def shown_name(column: str) -> str:
    """Return a column's name for a message. A long one may be a text, in a file without a header, and is not shown."""
    return column if len(column) <= _NAME_LENGTH and column.isprintable() else f"(a name of {len(column)} characters)"


def raw_row(values: Values, fields: Mapping[str, str], kind: str, words: Mapping[str, bool]) -> dict[str, Any]:
    """Return a table's row as the format reads it: by fields, with its label true or false.

    Messages written as JSON text, and a weight written as text, are read as what they say.

    Args:
        values: column -> value.
        fields: field -> column, from `fields_of`.
        kind: name of the format, from `format_of`.
        words: what each label means, from `ImportOptions.words`.

    Raises:
        LeftOutError: the row lacks a required field (``fields``), or its label is of unknown meaning (``label``).
    """
    raw = {name: values[column] for name, column in fields.items() if column in values}
    lacking = [name for name in FORMATS[kind].required if name not in raw]
    if lacking:
        raise LeftOutError("fields", f"it has no {' and no '.join(lacking)}.")
    for name, read in (("messages", json.loads), ("weight", float)):
        if isinstance(raw.get(name), str):
            with suppress(ValueError):  # then the format says what it expected
                raw[name] = read(raw[name])
    label = LABELS.get(kind)
    if label in raw:
        raw[label] = _label(raw[label], label, words)
    return raw


def _label(value: object, name: str, words: Mapping[str, bool]) -> bool | None:
    word = "" if value is None else _word(value)
    if not word:
        return None
    if word not in words:
        got = repr(word) if _ONE_WORD.fullmatch(word) else f"a text of {len(word)} characters"
        meanings = (", ".join(w for w in words if words[w] == safe) for safe in (True, False))
        allowed = " and ".join(
            f"{listed} ({means})" for listed, means in zip(meanings, ("safe", "unsafe"), strict=True)
        )
        raise LeftOutError("label", f"{name}: got {got}, allowed: {allowed}. See --safe-values and --unsafe-values.")
    return words[word]


def _word(value: object) -> str:
    """Return a label as it is compared: a number that was read as decimal is a whole one again."""
    return re.sub(r"(\d)\.0+", r"\1", str(value).strip().casefold())


def _turned(name: str, column: str) -> str:
    """Return advice for a mapping written the wrong way round."""
    return f" Write the field first: --map {column}={name}." if column in FIELDS and name not in FIELDS else ""


def _is_encoding(name: str | None) -> bool:
    try:
        "".encode(name or "utf-8")  # unlike codecs.lookup, this refuses base64 and the like
    except LookupError:
        return False
    return True
