"""Prompt files for evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import Prompt, read_jsonl

KINDS = ("harmful", "benign")
GROUP, KIND = "group", "kind"
"""Tags of a prompt: its group within the suite, and whether it is a harmful or a benign prompt."""


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """A file of evaluation prompts."""

    name: str
    """Name in tables and of the answers' file."""
    path: str
    """JSONL, or JSON with a list: each object has ``prompt`` (or ``instruction``) and optionally ``id``."""
    by: str | None = None
    """Field whose values make groups with rates of their own, such as ``benchmark``."""
    kind: str = "harmful"
    """``harmful``: a safe model should not do what is asked. ``benign``: it should; refusing is over-refusal."""
    benign_groups: list[str] = field(default_factory=list)
    """Groups of ``by`` whose prompts are benign although the suite is not, such as XSTest's ``safe``."""
    limit: int | None = None
    """Ask a fixed sample of so many prompts; smaller samples lie inside larger ones."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(one_of("kind", self.kind, KINDS))
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, allowed: 1 or more, or null for all.")
        if self.benign_groups and self.by is None:
            raise ConfigError("benign_groups: needs 'by', the field that names the group.")
        if not self.name or "/" in self.name:
            raise ConfigError(f"name: got {self.name!r}, allowed: a file name without slashes.")


def load_suite(options: SuiteOptions) -> list[Prompt]:
    """Return the prompts of a suite, in the file's order.

    Raises:
        DataError: the file is missing, empty or malformed, a field is missing, an id occurs twice, or ``benign_groups`` names
            a group that does not occur.
    """
    path = Path(options.path)
    prompts: list[Prompt] = []
    places: dict[str, int] = {}
    groups: set[str | None] = set()
    for place, value in _objects(path):
        prompt = _prompt(value, options, place)
        if prompt.id in places:
            raise DataError(
                f"{path}:{place}: id '{prompt.id}' occurs already in line {places[prompt.id]}. Make ids unique."
            )
        places[prompt.id] = place
        groups.add(prompt.tags.get(GROUP))
        prompts.append(prompt)
    if not prompts:
        raise DataError(f"{path}: has no prompts.")
    absent = [group for group in options.benign_groups if group not in groups]
    if absent:
        found = ", ".join(sorted(filter(None, groups)))
        raise DataError(
            f"{path}: benign_groups {', '.join(absent)}: no such value of '{options.by}'; there are {found}."
        )
    if options.limit is None or options.limit >= len(prompts):
        return prompts
    chosen = {prompt.id for prompt in sorted(prompts, key=lambda prompt: _rank(prompt.id))[: options.limit]}
    return [prompt for prompt in prompts if prompt.id in chosen]


def _rank(prompt_id: str) -> bytes:
    return hashlib.sha256(prompt_id.encode()).digest()


def _prompt(value: Any, options: SuiteOptions, place: int) -> Prompt:
    where = f"{options.path}:{place}"
    if not isinstance(value, dict):
        raise DataError(f"{where}: got a JSON {type(value).__name__}, expected an object with 'prompt'.")
    text = value.get("prompt", value.get("instruction"))
    if not isinstance(text, str | list) or not text:
        raise DataError(f"{where}: no 'prompt' (or 'instruction'): got the fields {', '.join(value) or 'none'}.")
    tags = {KIND: options.kind}
    if options.by is not None:
        if value.get(options.by) is None:
            raise DataError(f"{where}: no '{options.by}', the field of 'by': got the fields {', '.join(value)}.")
        tags[GROUP] = str(value[options.by])
        if tags[GROUP] in options.benign_groups:
            tags[KIND] = "benign"
    return Prompt(id=str(value.get("id", place)), suite=options.name, prompt=text, tags=tags)


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each object with its line, or its number in a JSON list, from 1."""
    if path.suffix != ".json":
        yield from read_jsonl(path)
        return
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: got a JSON {type(values).__name__}, expected a list of objects.")
    yield from enumerate(values, start=1)
