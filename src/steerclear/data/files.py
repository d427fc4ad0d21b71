"""From a file or a Hub name to numbered raw rows: the one reader of what users bring.

`open_rows` reads rows as recipes take them, with all their fields; `open_table` reads any kind of file by its columns, a row at a
time where the kind allows it: CSV, JSON Lines, JSON and Parquet give the same rows.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from steerclear.data.formats import LeftOutError
from steerclear.errors import DataError
from steerclear.records import read_jsonl, sha256_of_file

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Names of the files that are read end so."""

LOOKED_AT = 1000
"""Rows of a JSON file whose fields make up its columns."""

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""What the name of a data set on the Hub looks like."""

_LONGEST_CELL = 2**31 - 1
_BATCH = 256
_DELIMITERS = ",;\t"

Values = dict[str, Any]
"""A row: column -> value. An empty CSV cell, a null and a NaN are None."""


@dataclass(frozen=True)
class Table:
    """A file with rows and columns."""

    name: str
    """File name without its folder."""
    sha256: str
    """Hash of the file's bytes."""
    columns: list[str]
    """Names of the columns in the file's order; of a JSON file the fields of its first `LOOKED_AT` rows."""
    rows: Callable[[Collection[str]], Iterator[tuple[int, Values | LeftOutError]]]
    """Takes the columns wanted; yields a line number, from 1, and those of the row that it has, or why it cannot be read.

    The line of a Parquet row or of one in a ``.json`` list is its position. Each call reads the file anew.
    """


def open_rows(source: str, split: str) -> tuple[str, str, Iterable[tuple[int, dict[str, Any]]]]:
    """Return the name of a ``.json`` or ``.jsonl`` file or Hub data set, its hash, and its rows with their lines.

    Args:
        source: path of the file, or the name ``owner/name`` of a data set if there is no such file.
        split: split of a Hub data set; files have none.

    Raises:
        DataError: it cannot be read; of a ``.jsonl`` file, while its rows are read.
    """
    path = Path(source)
    if path.suffix in (".json", ".jsonl"):
        return path.name, sha256_of_file(path), read_objects(path)
    _refuse_no_hub_name(source, "a .json or .jsonl file")
    return source, *read_hub(source, split)


def open_file_or_hub(source: str, split: str) -> Table:
    """Open a file as `open_table` does, or load a split of a Hub data set, whose lines are positions, counted from 1.

    Raises:
        DataError: it cannot be loaded, or has no rows.
    """
    path = Path(source)
    if path.suffix.lower() in SUFFIXES:
        return open_table(path)
    _refuse_no_hub_name(source, f"a file of prompts ({', '.join(SUFFIXES)})")
    sha256, rows = read_hub(source, split)
    if not rows:
        raise DataError(f"{source}: its split {split!r} holds no rows. Name another split.")
    return Table(source, sha256, _fields_of(rows), partial(_chosen, rows))


def _refuse_no_hub_name(source: str, expected: str) -> None:
    if Path(source).is_file() or not HUB_NAME.fullmatch(source):
        raise DataError(
            f"{source}: got neither {expected} nor a Hub name like owner/name. Check the path; convert other file types."
        )


def open_table(path: Path, encoding: str | None = None) -> Table:
    """Open a file by its suffix, one of `SUFFIXES`.

    The cells of a CSV file are parted by commas, semicolons or tabs, whichever part its first line, the header, into most
    columns; quotes inside quoted cells are doubled. Text stays text: ``007`` is no number.

    Args:
        path: the file.
        encoding: that of a CSV file. None: UTF-8, or UTF-16 if the file begins with its mark.

    Raises:
        DataError: the file cannot be read, is of no known kind, has no rows or two columns of one name. While rows are
            read: a part of the file is not valid CSV, JSON or Parquet.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: got a file of the kind {path.suffix!r}, allowed: {', '.join(SUFFIXES)}. Convert it.")
    rows: Callable[[Collection[str]], Iterator[tuple[int, Values | LeftOutError]]]
    sha256 = sha256_of_file(path)
    if suffix == ".parquet":
        columns, rows = _parquet_columns(path), partial(_parquet_rows, path)
    elif suffix in (".csv", ".tsv"):
        columns = [name.strip() for name in next(_csv_lines(path, encoding), (1, []))[1]]
        rows = partial(_csv_rows, path, encoding, columns)
    elif suffix == ".jsonl":
        columns, rows = _fields_of(read_jsonl(path)), lambda wanted: _chosen(read_jsonl(path), wanted)
    else:
        columns, rows = _fields_of(whole := read_json(path)), partial(_chosen, whole)
    if not any(columns):
        raise DataError(f"{path}: holds no rows. Give a file with at least one.")
    for position, name in enumerate(columns, start=1):
        if name and name in columns[position:]:
            second = columns.index(name, position) + 1
            raise DataError(f"{path}: columns {position} and {second} have the same name. Rename one of them.")
    return Table(path.name, sha256, columns, rows)


def read_objects(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """Return each object of a ``.json`` list with its number, or of a file of JSON Lines with its line, from 1.

    Raises:
        DataError: the file cannot be read; of JSON Lines, while they are read.
    """
    return read_json(path) if path.suffix.lower() == ".json" else read_jsonl(path)


def read_json(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return ``(number, object)`` of a JSON file that holds a list of objects, numbered from 1.

    Raises:
        DataError: it is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
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


def _fields_of(rows: Iterable[tuple[int, Values]]) -> list[str]:
    return list(dict.fromkeys(name for _, values in islice(rows, LOOKED_AT) for name in values))


def _chosen(rows: Iterable[tuple[int, Values]], wanted: Collection[str]) -> Iterator[tuple[int, Values]]:
    for line, values in rows:
        yield line, {name: _value(values[name]) for name in wanted if name in values}


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv_rows(
    path: Path, encoding: str | None, columns: list[str], wanted: Collection[str]
) -> Iterator[tuple[int, Values | LeftOutError]]:
    places = {name: place for place, name in enumerate(columns) if name in wanted}
    for line, cells in islice(_csv_lines(path, encoding), 1, None):
        if len(cells) == len(columns):
            yield line, {name: cells[place] or None for name, place in places.items()}
        else:
            yield line, LeftOutError("cells", f"got {len(cells)} cells, the header has {len(columns)}.")


def _csv_lines(path: Path, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, the header first, with the line on which it begins."""
    csv.field_size_limit(_LONGEST_CELL)  # the default, 128 KiB, is less than long answers
    line = 1
    try:
        with path.open(encoding=encoding or _encoding(path), newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
    except UnicodeError as error:
        used = encoding or "UTF-8"
        raise DataError(
            f"{path}: not {used} text. Say how it is encoded: --encoding cp1252 (Excel in Western Europe), utf-16 ..."
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path}:{line}: not valid CSV in the row that begins here ({error}). Put cells with commas, quotes or line ends in "
            'quotes, and double the quotes inside: "so ""called""".'
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _parquet_columns(path: Path) -> list[str]:
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def _parquet_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[int, Values]]:
    line = 0
    with _parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if name in wanted]
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            for values in batch.to_pylist():
                line += 1
                yield line, {name: _value(value) for name, value in values.items()}


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa  # type: ignore[import-untyped]  # takes a while, and only this reader needs it
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: not a whole Parquet file ({reason}). Check the file.") from error
