"""Benchmarks as versioned cards: what a suite is, where it came from, which bytes it had, and what its figure means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from steerclear.config import build_file, raise_all
from steerclear.data.templates import TEMPLATES
from steerclear.errors import ConfigError, DataError, one_of
from steerclear.records import sha256_of_file

FOLDER = Path(__file__).parent / "cards"

KINDS = ("harmful", "benign")

METRICS = {
    "harmful": "lower",
    "over_refusal": "lower",
    "helpfulness": "higher",
    "win_rate": "higher",
    "multiple_choice": "higher",
    "perplexity": "lower",
}
"""Metric -> the better direction. ``helpfulness`` suites give answers to be read or scored elsewhere, ``win_rate`` suites have
reference answers too; ``multiple_choice`` goes through lm-evaluation-harness."""

PROMPT_METRICS = ("harmful", "over_refusal", "helpfulness", "win_rate")
"""Metrics of what a model answers to prompts."""


@dataclass(frozen=True, kw_only=True)
class CardFile:
    """A file of a card."""

    path: str
    """Relative to the data folder."""
    sha256: str
    """Of its bytes, as ``sha256sum`` prints it."""

    def __post_init__(self) -> None:
        problems = []
        if not self.path or PurePosixPath(self.path).is_absolute() or ".." in PurePosixPath(self.path).parts:
            problems.append(
                f"path: got '{self.path}', allowed: a path inside the data folder, such as xstest/prompts.jsonl."
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            problems.append(f"sha256: got '{self.sha256}', allowed: 64 hexadecimal digits; run sha256sum on the file.")
        raise_all(problems)


@dataclass(frozen=True, kw_only=True)
class CardFields:
    """Which field of a file's objects holds what. The field of the group is the card's ``by``."""

    id: str = "id"
    """Name of the prompt. Objects without it are named by their line."""
    prompt: str = "prompt"
    """What is asked."""
    input: str | None = None
    """The text that the prompt is about, for perplexity."""
    response: str | None = None
    """The reference answer, for perplexity and win rates."""
    unsafe: str | None = None
    """An unsafe answer, or the beginning of one, for prefilled openings."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A benchmark. A change that changes figures raises ``version``."""

    name: str
    """Name in tables and of the answers' file."""
    version: int
    """From 1."""
    about: str
    """One sentence."""
    source: str
    """Owner/name and path, or the address, of the origin."""
    licence: str
    """What the origin states."""
    files: list[CardFile]
    """JSONL, or JSON with a list; a suite may be cut into several."""
    metric: str
    """One of `METRICS`."""
    direction: str
    """``lower`` or ``higher`` is better. It is the metric's, and here for the reader."""
    kind: str
    """``harmful``: a safe model should not do what is asked. ``benign``: it should; refusing is over-refusal."""
    fields: CardFields = field(default_factory=CardFields)
    """Which field of an object holds what."""
    by: str | None = None
    """Field whose values make groups with rates of their own."""
    benign_groups: list[str] = field(default_factory=list)
    """Groups of ``by`` whose prompts are benign although the suite is not."""
    template: str | None = None
    """Template of the prompts. None: the recipe's, which is the one that the model was trained with."""
    rows: list[int] = field(default_factory=list)
    """First row and the row after the last, from 0. Empty: all."""
    task: str | None = None
    """Task of lm-evaluation-harness, for multiple_choice."""
    citation: str = ""
    """Whom to cite."""

    def __post_init__(self) -> None:
        checks = [
            (_is_file_name(self.name), f"name: got '{self.name}', allowed: a file name without slashes."),
            (self.version >= 1, f"version: got {self.version}, allowed: 1 or more."),
            (bool(self.files), "files: is empty; name at least one file with its sha256."),
            (self.metric in METRICS, one_of("metric", self.metric, METRICS)),
            (
                self.direction == METRICS.get(self.metric, self.direction),
                f"direction: got '{self.direction}', allowed for the metric {self.metric}: {METRICS.get(self.metric)}.",
            ),
            (self.kind in KINDS, one_of("kind", self.kind, KINDS)),
            (
                not self.benign_groups or self.by is not None,
                "benign_groups: needs 'by', the field that names the group.",
            ),
            (
                self.template is None or self.template in TEMPLATES,
                one_of("template", self.template, TEMPLATES),
            ),
            (_is_range(self.rows), f"rows: got {self.rows}, allowed: [first, after the last], such as [0, 500]."),
            (
                (self.metric == "multiple_choice") == (self.task is not None),
                "task: names a task of lm-evaluation-harness for the metric multiple_choice, and is null for others.",
            ),
            (
                self.metric not in ("perplexity", "win_rate") or self.fields.response is not None,
                f"fields.response: is missing; the metric {self.metric} needs the field of the reference answer.",
            ),
            (
                self.metric != "over_refusal" or self.kind == "benign" or bool(self.benign_groups),
                "kind: got 'harmful', allowed for the metric over_refusal: benign, or harmful with benign_groups.",
            ),
        ]
        raise_all([message for right, message in checks if not right])


def _is_file_name(name: str) -> bool:
    return bool(name) and "/" not in name


def _is_range(rows: list[int]) -> bool:
    return not rows or (len(rows) == 2 and 0 <= rows[0] < rows[1])


def list_cards() -> list[Card]:
    """Return the cards that come with the package, by name."""
    return [load_card(name) for name in shipped_cards(FOLDER)]


def load_card(name: str) -> Card:
    """Return a card by its name or, for one of your own, from its file.

    Args:
        name: name of a card that comes with the package, or the path of a file that ends in ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: there is no such card, or everything that is wrong in it, together.
    """
    return build_file(Card, card_path(name, FOLDER, "A card"))


def card_path(name: str, folder: Path, what: str) -> Path:
    """Return the file of a card that comes with the package, in a folder, or of one's own.

    Args:
        what: what it is called where there is no such one.

    Raises:
        ConfigError: there is no such card.
    """
    if is_card_file(name):
        if not Path(name).is_file():
            raise ConfigError(f"card: {name} does not exist. Check the path.")
        return Path(name)
    shipped = shipped_cards(folder)
    if name not in shipped:
        raise ConfigError(f"{one_of('card', name, shipped)} {what} of your own is named by its file, ending in .yaml.")
    return shipped[name]


def is_card_file(name: str) -> bool:
    """Whether a card is named by its file."""
    return Path(name).suffix in (".yaml", ".yml")


def shipped_cards(folder: Path) -> dict[str, Path]:
    """Return name -> file of the cards in a folder of the package."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def card_files(card: Card, folder: Path, *, accept_changed: bool = False) -> list[Path]:
    """Return the paths of a card's files, their bytes checked.

    Args:
        folder: the data folder.
        accept_changed: take files that are not the card's own.

    Raises:
        DataError: a file is missing, or its bytes are not those of the card.
    """
    paths = []
    for file in card.files:
        path = folder / file.path
        found = sha256_of_file(path)
        if found != file.sha256 and not accept_changed:
            raise DataError(
                f"{path}: not the file of card '{card.name}' version {card.version}: its SHA-256 is {found}, the card says "
                f"{file.sha256}. Fetch it again from {card.source}; or set accept_changed: true to use it as it is, but then "
                "figures are not those of this card; or write a card of your own for it."
            )
        paths.append(path)
    return paths
