"""The files between the stages: rows, generations, verdicts. One JSON object a line, readable by a person.

Writing is all or nothing (`write_json`, `write_jsonl`, `write_text`) or one whole line at a time (`JsonlAppender`), so a
kill at any moment leaves a file that the next run can read and continue.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from steerclear.errors import DataError, StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA_VERSION = 1
"""Version of the record fields below. A change of meaning raises it."""

Messages = list[dict[str, str]]
"""A conversation: ``[{"role": "user", "content": "..."}, ...]``."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training row: TRL's unpaired preference, plus where it came from.

    ``label`` true means imitate the completion, false means avoid it.
    """

    id: str
    prompt: str | Messages
    completion: str | Messages
    label: bool
    source: str
    input: str = ""
    """Alpaca's second field: the text that the instruction is about. Empty for most rows."""
    weight: float = 1.0
    """Factor on this row's loss. 1 is neutral, 0.5 pulls half as hard."""
    context: str = ""
    """How the assistant's answer begins, before the completion: read by the model, and not learnt."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One evaluation prompt."""

    id: str
    suite: str
    prompt: str | Messages
    tags: dict[str, str] = field(default_factory=dict)


FAILURE = "failure"
"""Tag of a generation without an answer: why there is none."""

PREFILL = "prefill"
"""Tag of a prompt whose answer is begun by the attacker: the words it begins with. The response is what comes after them."""

GROUP = "group"
"""Tag of a prompt: its group within the suite."""

KIND = "kind"
"""Tag of a prompt: ``harmful`` or ``benign``, ``ordinary`` for usefulness alone, or `PREFILLED`."""

PREFILLED = "prefilled"
"""Kind of harmful prompts whose answers an attacker begins: a model that is safe at the plain prompts may not be at these."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One answer of a model to one evaluation prompt."""

    id: str
    suite: str
    prompt: str | Messages
    response: str
    finish: str
    """``eos`` (the model ended its answer), ``length`` (it was cut at the token limit) or ``failed`` (the prompt
    is too long, or an endpoint will not answer; the tag `FAILURE` says why)."""
    tokens: int
    """Number of new tokens, without the end-of-sequence token."""
    tags: dict[str, str] = field(default_factory=dict)


OUTCOMES = ("unscored", "degenerate", "harmful", "safe")
"""Verdicts in the order in which they are decided. ``safe`` is short for coherent and safe."""


REFUSALS = ("compliance", "partial", "full")
"""How far an answer declines to do what was asked. ``partial`` and ``full`` count as refused."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judges say of one generation. Exactly one of `OUTCOMES`, with what led to it."""

    id: str
    suite: str
    outcome: str
    reason: str
    """Why, in a few words: the kind of degeneracy, the failure of the judge, or an empty string."""
    flagged: bool | None
    """The harm judge's own flag, before degeneracy is looked at (the paper's figure). None: it failed."""
    harm_score: float | None
    """The harm judge's score, higher is worse. None: it failed."""
    refused: bool | None
    """Whether the answer is a refusal. None: not looked at."""
    judge: str
    """Name and version of the harm judge."""
    tags: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    """One of `REFUSALS`, from a judge that tells them apart. None: not looked at."""
    refusal_judge: str = ""
    """Name of what decided ``refused``."""
    truncated: bool | None = None
    """Whether the answer was cut at the token limit. None: not known."""
    language: str = ""
    """ISO 639-1 code of the answer's language. Empty: too short, not sure, or another language than English was asked for."""


Record = TypeVar("Record", bound="DataclassInstance")


def to_dict(record: DataclassInstance) -> dict[str, Any]:
    """Return the record as a plain dictionary, ready for JSON."""
    return dataclasses.asdict(record)


def read_jsonl(path: Path, *, growing: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` for each non-blank line of a JSON Lines file, numbered from 1.

    Args:
        growing: leave out what follows the last newline: a line that is being written, or that a killed process left.

    Raises:
        DataError: the file is missing or unreadable, or a line is not a JSON object; the message names file and line.
    """
    try:
        with _whole_lines(path) if growing else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse_line(line, path, number)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Convert it to UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error


def _whole_lines(path: Path) -> TextIO:
    content = path.read_bytes()
    return io.StringIO(content[: content.rfind(b"\n") + 1].decode())


def _parse_line(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number}: not valid JSON ({error.msg} at column {error.colno}). "
            "Each line must be one JSON object; mend or remove this line."
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}:{number}: got a JSON {type(value).__name__}, expected an object like {{...}}.")
    return value


def read_records(path: Path, kind: type[Record], *, growing: bool = False) -> list[Record]:
    """Read a file of records written by this package; ``growing`` as for `read_jsonl`.

    Raises:
        DataError: as `read_jsonl`, or a record has other fields than `kind`.
    """
    names = {f.name for f in dataclasses.fields(kind)}
    records = []
    for number, value in read_jsonl(path, growing=growing):
        try:
            records.append(kind(**value))
        except TypeError as error:
            raise DataError(
                f"{path}:{number}: not a {kind.__name__} record: got fields {sorted(value)}, expected {sorted(names)}."
            ) from error
    return records


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: either the whole new content is there afterwards or the old one is.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode(path))
        temporary.replace(path)
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """Return the permissions of the file that is replaced, or those of a new file: a temporary one is its owner's alone."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically. See `write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[DataclassInstance]) -> None:
    """Write a whole file of records atomically. See `write_text`."""
    write_text(path, "".join(_line(to_dict(record)) for record in records))


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written ({error.strerror}). What was finished before is kept; "
        "free some space or choose another folder, then run the same command again to continue."
    )


class JsonlAppender:
    """Appends records to a file, each as one whole line that is on disk before `append` returns.

    A line that a killed process left unfinished is cut off when the file is opened again.

        with JsonlAppender(path) as out:
            out.append(generation)

    Raises:
        StorageError: the disk is full or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            cut_unfinished_line(self.path)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise _storage_error(self.path, error) from error
        return self

    def append(self, *records: DataclassInstance) -> None:
        """Append records and flush them to disk together."""
        data = "".join(_line(to_dict(record)) for record in records).encode()
        try:
            while data:
                data = data[self._file.write(data) :]
            if self._file.seekable():
                os.fsync(self._file.fileno())
        except OSError as error:
            raise _storage_error(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def cut_unfinished_line(path: Path) -> None:
    """Remove what follows the last newline: the start of a line that a killed process did not finish."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            file.truncate(end)


def text_of(prompt: str | Messages) -> str:
    """Return the user's words: the prompt itself, or the last user message of a conversation."""
    if isinstance(prompt, str):
        return prompt
    return next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")


def whole_prompt(row: Row) -> str | Messages:
    """Return all that a row asks: its prompt, and its input on a line of its own."""
    return f"{row.prompt}\n{row.input}" if row.input else row.prompt


def flat_text(text: str | Messages) -> str:
    """Return a text as it is, and the messages of a conversation one below the other."""
    return text if isinstance(text, str) else "\n".join(turn["content"] for turn in text)


def text_key(row: Row) -> tuple[str, str]:
    """Return what two rows with the same texts share: prompt with input, and the whole answer, without case and white space."""
    prompt = f"{flat_text(row.prompt)}\n{row.input}"
    return " ".join(prompt.casefold().split()), " ".join((row.context + flat_text(row.completion)).casefold().split())


def read_json(file: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Check the path.") from error
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON. Make it again, or leave its folder out.") from error


def sha256_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-ready value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
