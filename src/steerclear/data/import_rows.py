"""`steerclear import`: logs and labelled tables become the row files that recipes read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from steerclear.data.columns import ImportOptions, fields_of, format_of, hint, raw_row, shown_name
from steerclear.data.files import Table, open_table
from steerclear.data.formats import FORMATS, LeftOutError
from steerclear.data.import_report import SHOWN_LINES, SHOWN_ROWS, Imported, LeftOut, SourceCounts, describe
from steerclear.data.sources import HARM_FIELDS, ROLES, Problem, faulty, make_row_id, to_row
from steerclear.errors import ConfigError, DataError, StorageError
from steerclear.records import SCHEMA_VERSION, JsonlAppender, Row, sha256_of, sha256_of_file, text_key, write_json

RECORD = "import.json"
PROBLEMS = "left_out.jsonl"
FILES = {True: "benign.jsonl", False: "unsafe.jsonl"}
"""Label -> the file of the rows that have it."""

_BATCH = 1000


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Return field -> column of texts like ``prompt=question``.

    Raises:
        ConfigError: a text has no ``=``, or a field is mapped twice.
    """
    mapping: dict[str, str] = {}
    for text in texts:
        name, sign, column = (part.strip() for part in text.partition("="))
        if not (name and sign and column):
            raise ConfigError(f"map: got {text!r}, expected FIELD=COLUMN such as prompt=question.")
        if name in mapping:
            raise ConfigError(f"map: got two columns for {name}: {mapping[name]}, {column}. Name one.")
        mapping[name] = column
    return mapping


def import_rows(files: Sequence[Path], output: Path, options: ImportOptions) -> Imported | None:
    """Write the rows of tables to a folder: `FILES`, the rows left out to `PROBLEMS`, and `RECORD`; all of it or nothing.

    Files are read twice, so that of rows with the same texts the first is kept, and none where their labels differ. A
    hash of every row is held in memory, and of a ``.json`` file all of it.

    Returns:
        None if the folder holds this very import already.

    Raises:
        ConfigError: the folder holds something else, or the mapping names an unknown column.
        DataError: a file cannot be read, fits no format, or there is no row to keep.
        StorageError: the folder cannot be written.
    """
    tables, imported = _open(files, options)
    import_id = _import_id(imported, options)
    if _is_there(output, import_id):
        return None
    output = output.resolve()  # so that it has a name where it was given as a dot
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(unfinished, _decided(tables, imported, options))
        _refuse_nothing(imported)
        write_json(unfinished / RECORD, _record(imported, options, import_id, unfinished))
        if output.exists():
            output.rmdir()
        unfinished.rename(output)
    except OSError as error:
        raise StorageError(
            f"{output}: cannot be written ({error.strerror}). Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return imported


def preview(files: Sequence[Path], options: ImportOptions) -> Imported:
    """Return what `import_rows` would do; nothing is written.

    Raises:
        SteerClearError: as `import_rows`.
    """
    tables, imported = _open(files, options)
    for _ in _decided(tables, imported, options):
        pass
    _refuse_nothing(imported)
    return imported


def _open(files: Sequence[Path], options: ImportOptions) -> tuple[list[Table], Imported]:
    if not files:
        raise ConfigError("files: got none, expected a CSV, JSON, JSON Lines or Parquet file.")
    tables = [open_table(path, options.encoding) for path in files]
    sources = []
    for table in tables:
        fields = fields_of(table, options.map)
        kind = format_of(table, fields, options.format)
        known = {name: column for name, column in fields.items() if column in table.columns}
        unused = [shown_name(column) for column in table.columns if column and column not in known.values()]
        sources.append(SourceCounts(table.name, table.sha256, kind, known, unused))
    return tables, Imported(sources)


@dataclass(frozen=True)
class _Read:
    """One row of a table, taken apart."""

    source: int
    """Which table it is from."""
    line: int
    rows: list[Row]
    """One row for most formats; of a pair both sides."""
    faults: list[LeftOutError]
    judged: bool
    """Whether it carries one of `HARM_FIELDS`."""


def _reads(tables: Sequence[Table], imported: Imported, options: ImportOptions) -> Iterator[_Read]:
    words, ids = options.words(), set[str]()
    for number, (table, source) in enumerate(zip(tables, imported.sources, strict=True)):
        fields = fields_of(table, options.map)
        stem = Path(table.name).stem
        for line, values in table.rows({*fields.values(), *HARM_FIELDS}):
            place, judged, rows, faults = f"{table.name}:{line}", False, list[Row](), list[LeftOutError]()
            try:
                if isinstance(values, LeftOutError):
                    raise values
                judged = any(values.get(mark) for mark in HARM_FIELDS)
                raw = raw_row(values, fields, source.format, words)
                row_id = make_row_id(raw.get("id"), f"{stem}-{line}", line, ids)
                rows, faults = _sides(raw, source.format, row_id, place, options.only)
            except LeftOutError as fault:
                faults.append(fault)
            yield _Read(number, line, rows, faults, judged)


def _sides(
    raw: dict[str, Any], kind: str, row_id: str, place: str, only: str | None
) -> tuple[list[Row], list[LeftOutError]]:
    """Read a raw row for both roles; a fault that both find is one, and that a row is of the other role is none."""
    unlabelled = "label?" in FORMATS[kind].fields and raw.get("label") is None
    if unlabelled and only is None:
        what = "it has no label. Map a column to label, or say with --only what all such rows are."
        raise LeftOutError("unlabelled", what)
    rows, faults = [], {}
    for role in (only,) if unlabelled and only else ROLES:
        try:
            rows.append(to_row(raw, FORMATS[kind], role, row_id, place))
        except LeftOutError as fault:
            faults[str(fault)] = fault
    return rows, [fault for fault in faults.values() if fault.kind != "other_label"]


def _decided(tables: Sequence[Table], imported: Imported, options: ImportOptions) -> Iterator[Row | Problem]:
    """Yield every row to keep and every problem, in the order of the files, and count them."""
    first, disputed = _survey(tables, imported, options)
    for read in _reads(tables, imported, options):
        source = imported.sources[read.source]
        source.read += 1
        faults = list(read.faults)
        for row in read.rows:
            key, role = _key(row), "benign" if row.label else "unsafe"
            number, line, _ = first[key]
            if key in disputed:
                faults.append(
                    LeftOutError("conflict", "the same prompt and completion is labelled both safe and unsafe.")
                )
            elif (number, line) != (read.source, read.line):
                where = f"{tables[number].name}:{line}"
                faults.append(LeftOutError("duplicate", f"the same prompt and completion as {where}."))
            elif options.only not in (None, role):
                faults.append(LeftOutError("other_label"))
            else:
                _count(imported, source, row, judged=read.judged)
                yield row
        for fault in faults:
            rows = source.left_out.setdefault(fault.kind, LeftOut(first=str(fault)))
            rows.count += 1
            rows.lines += [read.line] if rows.count <= SHOWN_LINES else []
            if fault.kind != "other_label":
                yield faulty(f"{source.name}:{read.line}", fault)


def _count(imported: Imported, source: SourceCounts, row: Row, *, judged: bool) -> None:
    if row.label:
        source.benign += 1
    else:
        source.unsafe += 1
        source.unjudged += source.format == "canonical" and not judged
    if len(imported.first[row.label]) < SHOWN_ROWS:
        imported.first[row.label].append(row)


def _survey(
    tables: Sequence[Table], imported: Imported, options: ImportOptions
) -> tuple[dict[bytes, tuple[int, int, bool]], set[bytes]]:
    """Return where each text is first, as source, line and label, and the texts that are labelled both ways."""
    first: dict[bytes, tuple[int, int, bool]] = {}
    disputed = set()
    for read in _reads(tables, imported, options):
        for row in read.rows:
            key = _key(row)
            if first.setdefault(key, (read.source, read.line, row.label))[2] != row.label:
                disputed.add(key)
    return first, disputed


def _key(row: Row) -> bytes:
    return bytes.fromhex(sha256_of(text_key(row)))[:16]


def _refuse_nothing(imported: Imported) -> None:
    if not any(imported.rows.values()):
        hints = "".join(hint(source.unused, source.fields) for source in imported.sources)
        raise DataError(
            f"{describe(imported)}\nThere is no row to keep{hints}. Map the column of labels with --map, and say what its words "
            "mean with --safe-values and --unsafe-values. Where all rows are of one kind and none has a label, read them as "
            "Alpaca rows: --map instruction=COLUMN --map output=COLUMN --only unsafe."
        )


def _write(folder: Path, items: Iterator[Row | Problem]) -> None:
    """Write rows and problems to their files in the folder; files that would be empty are not there."""
    names = (*FILES.values(), PROBLEMS)
    with ExitStack() as stack:
        files = {name: stack.enter_context(JsonlAppender(folder / name)) for name in names}
        while batch := list(islice(items, _BATCH)):
            for name, file in files.items():
                file.append(*(item for item in batch if _file_of(item) == name))
    for name in names:
        if not (folder / name).stat().st_size:
            (folder / name).unlink()


def _file_of(item: Row | Problem) -> str:
    return FILES[item.label] if isinstance(item, Row) else PROBLEMS


def _import_id(imported: Imported, options: ImportOptions) -> str:
    """Return the hash of all that decides what is written."""
    sources = [[source.name, source.sha256] for source in imported.sources]
    return sha256_of([SCHEMA_VERSION, sources, asdict(options)])


def _record(imported: Imported, options: ImportOptions, import_id: str, folder: Path) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "id": import_id,
        "options": asdict(options),
        "rows": imported.rows,
        "sources": [asdict(source) for source in imported.sources],
        "files": {file.name: sha256_of_file(file) for file in sorted(folder.iterdir())},
        "warnings": imported.warnings,
    }


def _is_there(output: Path, import_id: str) -> bool:
    """Whether the folder holds this import. False: it is empty or absent."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"output: {output} is no empty folder and holds no import. Choose another folder.") from None
    if not isinstance(record, dict) or record.get("id") != import_id:
        raise ConfigError(
            f"output: {output} holds an import of other files or with other options. Choose another folder, or remove it."
        )
    for name, sha256 in record["files"].items():
        if not (output / name).is_file() or sha256_of_file(output / name) != sha256:
            raise ConfigError(
                f"output: {output / name} was changed since it was imported. Choose another folder, or remove it."
            )
    return True
