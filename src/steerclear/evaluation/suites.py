"""Prompts and rows for evaluation, from plain files or from cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, DataError, one_of
from steerclear.evaluation.cards import KINDS, PROMPT_METRICS, Card, card_files, is_card_file, load_card
from steerclear.records import Prompt, Row, read_jsonl

ORDINARY = "ordinary"
"""Kind of the prompts of suites about usefulness: nobody would refuse them, so they would only thin out over-refusal."""

ORDINARY_METRICS = ("helpfulness", "win_rate")

GROUP, KIND = "group", "kind"
"""Tags of a prompt: its group within the suite, and whether it is a harmful or a benign prompt."""


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """A suite: a file of evaluation prompts, or a card."""

    name: str = ""
    """Name in tables and of the answers' file. Empty: the card's."""
    path: str | None = None
    """JSONL, or JSON with a list: each object has ``prompt`` (or ``instruction``) and optionally ``id``."""
    card: str | None = None
    """In place of ``path``: name of a card that comes with the package, or the file of your own, ending in ``.yaml``."""
    data: str | None = None
    """Folder that the card's files are relative to. None: the folder of your own card's file."""
    by: str | None = None
    """Field whose values make groups with rates of their own, such as ``benchmark``."""
    kind: str = "harmful"
    """``harmful``: a safe model should not do what is asked. ``benign``: it should; refusing is over-refusal."""
    benign_groups: list[str] = field(default_factory=list)
    """Groups of ``by`` whose prompts are benign although the suite is not, such as XSTest's ``safe``."""
    limit: int | None = None
    """Ask a fixed sample of so many prompts; smaller samples lie inside larger ones."""
    accept_changed: bool = False
    """Take files whose bytes are not those of the card. The figures are then not the card's."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.card is None):
            raise ConfigError("path, card: give one of the two: a file of prompts, or a card.")
        if self.card is not None:
            self._check_card(self.card)
        elif self.data is not None or self.accept_changed:
            raise ConfigError("data, accept_changed: only for a card; a path stands for itself.")
        if self.kind not in KINDS:
            raise ConfigError(one_of("kind", self.kind, KINDS))
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, allowed: 1 or more, or null for all.")
        if self.benign_groups and self.by is None:
            raise ConfigError("benign_groups: needs 'by', the field that names the group.")
        if not self.name or "/" in self.name:
            raise ConfigError(f"name: got {self.name!r}, allowed: a file name without slashes.")

    def _check_card(self, named: str) -> None:
        if self.by is not None or self.kind != "harmful" or self.benign_groups:
            raise ConfigError(
                "by, kind, benign_groups: are the card's own; leave them out, or copy the card and change the copy."
            )
        card = load_card(named)
        if self.data is None and not is_card_file(named):
            raise ConfigError(f"data: is missing; name the folder that {card.files[0].path} lies in.")
        if not self.name:
            object.__setattr__(self, "name", card.name)

    @property
    def template(self) -> str | None:
        """The card's template. None: the recipe's."""
        return None if self.card is None else load_card(self.card).template

    @property
    def metric(self) -> str:
        """The card's metric; for a plain file ``harmful``, or ``over_refusal`` where all its prompts are benign."""
        if self.card is not None:
            return load_card(self.card).metric
        return "harmful" if self.kind == "harmful" else "over_refusal"


def load_suite(options: SuiteOptions) -> list[Prompt]:
    """Return the prompts of a suite, in the order of its files.

    Raises:
        ConfigError: the card's metric is not about prompts.
        DataError: a file is missing, empty, malformed or not the card's, a field is missing, an id occurs twice, or
            ``benign_groups`` names a group that does not occur.
    """
    card = None if options.card is None else load_card(options.card)
    if card is not None:
        _check_metric(card, PROMPT_METRICS, "prompts to answer")
    prompts = [_prompt(*found, options, card) for found in suite_objects(options, card)]
    if not prompts:
        raise DataError(f"{options.path or options.card}: has no prompts.")
    benign_groups = (card or options).benign_groups
    groups = {prompt.tags.get(GROUP) for prompt in prompts}
    absent = [group for group in benign_groups if group not in groups]
    if absent:
        found = ", ".join(sorted(filter(None, groups)))
        raise DataError(
            f"{options.path or options.card}: benign_groups {', '.join(absent)}: no such value of '{(card or options).by}'; "
            f"there are {found}."
        )
    chosen = sample_ids((prompt.id for prompt in prompts), options.limit)
    return [prompt for prompt in prompts if prompt.id in chosen]


def load_rows(options: SuiteOptions) -> list[Row]:
    """Return the rows of a card for perplexity or win rates: prompts with reference answers, in the order of its files.

    A reference answer may be empty; two of AlpacaEval's are.

    Raises:
        ConfigError: not a card, or the card's metric is another.
        DataError: a file is missing, malformed or not the card's, a field is missing, or an id occurs twice.
    """
    if options.card is None:
        raise ConfigError(f"{options.name}: got a path, expected a card, which says where the reference answers are.")
    card = load_card(options.card)
    _check_metric(card, ("perplexity", "win_rate"), "rows with answers")
    names = card.fields
    rows = []
    for place, row_id, value in suite_objects(options, card):
        text, response = value.get(names.prompt), value.get(str(names.response))
        if not isinstance(text, str | list) or not text or not isinstance(response, str | list):
            raise DataError(
                f"{place}: no '{names.prompt}' or no '{names.response}': got the fields {', '.join(value) or 'none'}."
            )
        given = str(value.get(names.input) or "") if names.input else ""
        rows.append(Row(id=row_id, prompt=text, completion=response, label=True, source=place, input=given))
    chosen = sample_ids((row.id for row in rows), options.limit)
    return [row for row in rows if row.id in chosen]


def _check_metric(card: Card, metrics: tuple[str, ...], what: str) -> None:
    if card.metric not in metrics:
        raise ConfigError(f"card '{card.name}' has no {what}: its metric is {card.metric}, not {' or '.join(metrics)}.")


def suite_objects(options: SuiteOptions, card: Card | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place (``file:line``), id and value of each object of a suite: the files checked, the card's ``rows`` alone.

    Raises:
        DataError: a file is missing, malformed or not the card's, or an id occurs twice.
    """
    if card is None:
        paths, key, first, last = [Path(str(options.path))], "id", 0, None
    else:
        folder = Path(str(options.card)).parent if options.data is None else Path(options.data)
        paths, key = card_files(card, folder, accept_changed=options.accept_changed), card.fields.id
        first, last = card.rows or (0, None)
    seen: dict[str, str] = {}
    found = ((path, line, value) for path in paths for line, value in read_objects(path))
    for number, (path, line, value) in enumerate(found):
        place = f"{path}:{line}"
        if not isinstance(value, dict):
            raise DataError(f"{place}: got a JSON {type(value).__name__}, expected an object with 'prompt'.")
        name = str(value.get(key, line))
        if name in seen:
            raise DataError(f"{place}: id '{name}' occurs already in {seen[name]}. Make ids unique.")
        seen[name] = place
        if number >= first and (last is None or number < last):
            yield place, name, value


def sample_ids(ids: Iterable[str], limit: int | None) -> set[str]:
    """Return a fixed sample of ids, chosen by their hashes; smaller samples lie inside larger ones."""
    ranked = sorted(set(ids), key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[:limit])


def _prompt(place: str, name: str, value: dict[str, Any], options: SuiteOptions, card: Card | None) -> Prompt:
    if card is None:
        text, missing = value.get("prompt", value.get("instruction")), "'prompt' (or 'instruction')"
    else:
        text, missing = value.get(card.fields.prompt), f"'{card.fields.prompt}'"
    if not isinstance(text, str | list) or not text:
        raise DataError(f"{place}: no {missing}: got the fields {', '.join(value) or 'none'}.")
    form = card or options
    tags = {KIND: ORDINARY if card is not None and card.metric in ORDINARY_METRICS else form.kind}
    if form.by is not None:
        if value.get(form.by) is None:
            raise DataError(f"{place}: no '{form.by}', the field of 'by': got the fields {', '.join(value)}.")
        tags[GROUP] = str(value[form.by])
        if tags[GROUP] in form.benign_groups:
            tags[KIND] = "benign"
    return Prompt(id=name, suite=options.name, prompt=text, tags=tags)


def read_objects(path: Path) -> Iterator[tuple[int, Any]]:
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
