"""Toxic prompts from files and from the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.data.files import Table, Values, open_file_or_hub
from steerclear.data.formats import LeftOutError, is_unicode
from steerclear.data.near_duplicates import normalise
from steerclear.data.sources import Problem, faulty, make_row_id
from steerclear.errors import ConfigError, DataError, did_you_mean
from steerclear.records import Prompt

SUITE = "toxic"
"""The suite of the prompts read here."""

CATEGORY, SOURCE = "category", "source"
"""Tags of a prompt: the kind of harm it asks for, empty if not known, and the name of its file or data set."""

LEFT_OUT = ("filtered", "empty", "type", "cells", "duplicate")
"""Why a row is left out: ``where`` does not hold, the field is blank or no text, a CSV row is torn, or it is a repeat."""

_FIRST_HUMAN_TURN = re.compile(r"\s*Human:(.*?)(?:\n\n(?:Assistant|Human):.*)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """A file or data set of toxic prompts."""

    path: str
    """A .jsonl, .json, .csv, .tsv or .parquet file, or the name ``owner/name`` of a data set on the Hub."""
    field: str = "prompt"
    """Which field holds the prompt: ``goal`` in AdvBench, ``transcript`` in hh-rlhf's red-team attempts, of which the first human
    turn is taken."""
    category: str | None = None
    """Which field names the kind of harm: a text, a list of texts, or kinds with true or false as in BeaverTails. Of several the
    first counts. None: not known."""
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values that fields must have; the other rows are left out. In CSV files all values are texts."""
    split: str = "train"
    """Split of a Hub data set; files have none."""
    licence: str = ""
    """What the source says of its licence, for the data card."""
    limit: int | None = None
    """Stop after so many prompts. None: all."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ConfigError("path: is empty; give a file of prompts or a Hub name like owner/name.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, allowed: 1 or more, or null for all.")


@dataclass(frozen=True)
class SourceOfPrompts:
    """What was read from one source."""

    name: str
    """File name without its folder, or the Hub name."""
    sha256: str
    """Hash of the file's bytes, or of the rows of a Hub data set."""
    counts: dict[str, int]
    """``read``, ``kept`` and each of `LEFT_OUT`; ``read`` is the sum of the others."""


@dataclass(frozen=True)
class PromptsRead:
    """What was read from all sources."""

    prompts: list[Prompt]
    """The prompts kept, in the order of the sources. Their ids are distinct, and so are their words."""
    sources: list[SourceOfPrompts]
    problems: list[Problem]
    """The faulty rows, repeats among them, with file and line and without text."""

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all sources together."""
        total = Counter[str]()
        for source in self.sources:
            total.update(source.counts)
        return dict(total)


def read_prompts(sources: Sequence[PromptSource]) -> PromptsRead:
    """Read toxic prompts.

    A prompt keeps its row's own ``id``; without one it is called ``<file stem>-<line>``. Where an id repeats, the line is
    appended. Of prompts that are equal but for case, white space and punctuation the first is kept.

    Raises:
        DataError: a source cannot be read, has no such field, or none of its rows is a prompt.
    """
    read = PromptsRead([], [], [])
    ids: set[str] = set()
    places: dict[str, str] = {}
    for source in sources:
        table = open_file_or_hub(source.path, source.split)
        _check_fields(table, source)
        counts = dict.fromkeys(("read", "kept", *LEFT_OUT), 0)
        for line, values in table.rows({"id", source.field, source.category or source.field, *source.where}):
            if counts["kept"] == source.limit:
                break
            counts["read"] += 1
            place = f"{table.name}:{line}"
            try:
                if isinstance(values, LeftOutError):
                    raise values
                text = _text(values, source)
                words = normalise(text)
                if words in places:
                    raise LeftOutError("duplicate", f"the same prompt as {places[words]}.")
                category = _category(values, source.category)
            except LeftOutError as fault:
                counts[fault.kind] += 1
                if fault.kind != "filtered":
                    read.problems.append(faulty(place, fault))
                continue
            places[words] = place
            counts["kept"] += 1
            name = make_row_id(values.get("id"), f"{Path(table.name).stem}-{line}", line, ids)
            tags = {CATEGORY: category, SOURCE: table.name}
            read.prompts.append(Prompt(id=name, suite=SUITE, prompt=text, tags=tags))
        _refuse_nothing(table, counts, read.problems)
        read.sources.append(SourceOfPrompts(table.name, table.sha256, counts))
    return read


def describe_problems(read: PromptsRead) -> str:
    """Return in a line how many rows are faulty, why, and where the first is; nothing if none is."""
    if not read.problems:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(p.kind for p in read.problems).items()))
    return f"prompts: {len(read.problems)} rows are left out ({kinds}). First: {read.problems[0].message}"


def first_human_turn(text: str) -> str:
    r"""Return what a transcript's human says first; a text of another form as it is.

    >>> first_human_turn("\n\nHuman: Open it.\n\nAssistant: No.\n\nHuman: Please!")
    'Open it.'
    >>> first_human_turn("Open it.")
    'Open it.'
    """
    found = _FIRST_HUMAN_TURN.fullmatch(text)
    return text if found is None else found[1].strip()


def _check_fields(table: Table, source: PromptSource) -> None:
    asked = {"field": [source.field], "category": [source.category] if source.category else [], "where": source.where}
    for option, names in asked.items():
        for name in names:
            if name not in table.columns:
                raise DataError(
                    f"{table.name}: {option}: got {name!r}, the rows have {', '.join(table.columns)}."
                    f"{did_you_mean(name, table.columns)}"
                )


def _text(values: Values, source: PromptSource) -> str:
    if any(name not in values or values[name] != value for name, value in source.where.items()):
        raise LeftOutError("filtered")
    value = values.get(source.field)
    if value is None:
        raise LeftOutError("empty", f"{source.field}: is missing.")
    if not isinstance(value, str) or not is_unicode(value):
        raise LeftOutError("type", f"{source.field}: got no valid text.")
    text = first_human_turn(value)
    if not text.strip():
        raise LeftOutError("empty", f"{source.field}: is empty.")
    return text


def _category(values: Values, name: str | None) -> str:
    value = None if name is None else values.get(name)
    if isinstance(value, dict):
        value = [kind for kind, holds in value.items() if holds is True]
    if isinstance(value, list):
        value = next(iter(value), None)
    if value is None:
        return ""
    if not isinstance(value, str) or not is_unicode(value):
        raise LeftOutError("type", f"{name}: got neither a text, nor texts, nor kinds with true or false.")
    return value.strip()


def _refuse_nothing(table: Table, counts: dict[str, int], problems: list[Problem]) -> None:
    usable = counts["kept"] + counts["duplicate"]  # a source may hold what another one held before
    if not usable:
        why = ", ".join(f"{counts[kind]} {kind}" for kind in LEFT_OUT if counts[kind])
        first = f" Last: {problems[-1].message}" if counts["read"] > counts["filtered"] else ""
        raise DataError(
            f"{table.name}: none of its {counts['read']} rows is a prompt: {why}.{first} Check field and where."
        )
