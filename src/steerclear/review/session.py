"""A review under way: the items of a file, what was decided of them, and the file to which every decision is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from steerclear.errors import DataError, StorageError, one_of
from steerclear.records import JsonlAppender
from steerclear.review.decisions import DECISIONS, UNDECIDED, Decision, decisions_file, read_decisions
from steerclear.review.items import Item, read_items

LABELS = ("unsafe", "safe", "broken")
"""Decisions that say something of an answer; ``unsure`` does not."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How far a review is."""

    total: int
    decided: int
    compared: int
    """Answers with a label of the judges and one of the person; ``agree`` of them have the same."""
    agree: int


def tally(items: Sequence[Item], decisions: Mapping[str, Decision]) -> Tally:
    """Return how many items are decided, and on how many the person and the judges agree."""
    words = [(item.judged, decisions[item.key].decision) for item in items if item.key in decisions]
    compared = [(judged, decided) for judged, decided in words if judged and decided in LABELS]
    agree = sum(judged == decided for judged, decided in compared)
    return Tally(total=len(items), decided=len(words), compared=len(compared), agree=agree)


class ChangedMeanwhileError(Exception):
    """An item was decided elsewhere, such as in a second tab, since the page read it."""


class Review:
    """The one process that decides on a file. Use as a context manager; a second one on the same file is refused.

    Raises:
        DataError: the file cannot be reviewed, or a review of it is open already.
        StorageError: the decisions cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.items = read_items(path)
        self.by_key = {item.key: item for item in self.items}
        self.output = decisions_file(path)
        self.decisions: dict[str, Decision] = {}

    def __enter__(self) -> Self:
        lock = FileLock(self.output.with_name(f".{self.output.name}.lock"), timeout=0)
        with ExitStack() as opened:
            try:
                opened.enter_context(lock)
            except Timeout as error:
                raise DataError(
                    f"{self.path}: a review of it is open already. Use its page, or stop it first (Ctrl-C where it runs)."
                ) from error
            except OSError as error:
                raise StorageError(
                    f"{self.output}: cannot be written ({error.strerror}). Copy the file to review into a folder of yours."
                ) from error
            self._out = opened.enter_context(JsonlAppender(self.output))
            self.decisions = read_decisions(self.output)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def decided(self, key: str) -> str:
        """Return the decision on an item, or `UNDECIDED`."""
        return self.decisions[key].decision if key in self.decisions else UNDECIDED

    def decide(self, key: str, decision: str, *, was: str) -> None:
        """Add a decision to the file; it is on disk when this returns.

        Args:
            key: of the item.
            decision: one of `DECISIONS`, or `UNDECIDED` to take one back.
            was: the decision that the person saw when deciding.

        Raises:
            DataError: there is no such item or decision.
            ChangedMeanwhileError: the item's decision is no longer ``was``.
            StorageError: it cannot be written; the decision is as before.
        """
        item = self.by_key.get(key)
        if item is None:
            raise DataError(f"key: got {key!r:.80}, which is no item of {self.path.name}. Reload the page.")
        if decision not in (*DECISIONS, UNDECIDED):
            raise DataError(one_of("decision", decision, (*DECISIONS, UNDECIDED)))
        if self.decided(key) != was:
            raise ChangedMeanwhileError
        at = datetime.now(UTC).isoformat(timespec="seconds")
        made = Decision(key=key, id=item.id, decision=decision, judged=item.judged, at=at)
        try:
            self._out.append(made)
        except StorageError:
            self._out.__exit__(None, None, None)
            self._out.__enter__()  # cuts what a full disk left of the line off, or the next one would join it
            raise
        if decision == UNDECIDED:
            self.decisions.pop(key, None)
        else:
            self.decisions[key] = made

    def first_undecided(self) -> int:
        """Return the position of the first item without a decision; 0 where all have one."""
        return next((i for i, item in enumerate(self.items) if item.key not in self.decisions), 0)
