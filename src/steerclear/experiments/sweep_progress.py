"""How far a sweep is: a table that is drawn again and again, and a line for each change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from steerclear.experiments.cells import Cell
from steerclear.report.comparison import duration
from steerclear.sanitize import shortened, visible
from steerclear.store.status import DONE, FAILED, STAGES, WAITING, Status
from steerclear.table import NO_VALUE

_FRAME_LINES = 8
"""Lines of the terminal that are not rows: title, headings, caption, and some room."""

_ERROR_LENGTH = 90


class Progress:
    """Looks at the status of cells, and remembers since when it has been what it is."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._status = {cell.id: cell.status() for cell in cells}
        self._since = dict.fromkeys(self._status, time.monotonic())
        self._start = time.monotonic()
        self._done_before = self._count(DONE)

    def look(self) -> list[str]:
        """Read every cell's status, and return a line for each that changed."""
        news = []
        for cell in self._cells:
            before, now = self._status[cell.id], cell.status()
            if now.stage != before.stage:
                self._status[cell.id], self._since[cell.id] = now, time.monotonic()
                news.append(f"[{self._count(DONE)}/{len(self._cells)}] {visible(cell.name)}: {_told(now)}")
        return news

    def table(self, height: int) -> Group:
        """Return the cells that fit into so many lines: the running ones first, then failed, finished, waiting."""
        order = {**dict.fromkeys(STAGES, 0), FAILED: 1, DONE: 2, WAITING: 3}
        cells = sorted(self._cells, key=lambda cell: order[self._status[cell.id].stage])
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("cell", "id", "stage", "time", ""):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        for cell in cells[: max(1, height - _FRAME_LINES)]:
            status = self._status[cell.id]
            error = shortened(visible(status.error or ""), _ERROR_LENGTH).replace("\n", " ")
            texts = (visible(cell.name), cell.id[:6], status.stage, self._time(cell, status), error)
            table.add_row(*map(Text, texts))
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        """Return how many cells are where, and how long the rest takes if it goes on as before."""
        stages = Counter(status.stage for status in self._status.values())
        running = sum(stages[stage] for stage in STAGES)
        done = stages[DONE] - self._done_before
        left = running + stages[WAITING]
        parts = [f"{stages[DONE]} of {len(self._cells)} done", f"{running} running", f"{stages[WAITING]} waiting"]
        parts += [f"{stages[FAILED]} failed"] if stages[FAILED] else []
        parts += [f"about {duration((time.monotonic() - self._start) / done * left)} left"] if done and left else []
        return ", ".join(parts)

    def _time(self, cell: Cell, status: Status) -> str:
        if status.stage in STAGES:
            return duration(time.monotonic() - self._since[cell.id])
        return duration(sum(status.seconds.values())) if status.seconds else NO_VALUE

    def _count(self, stage: str) -> int:
        return sum(status.stage == stage for status in self._status.values())


def _told(status: Status) -> str:
    if status.stage == FAILED:
        return f"FAILED in {status.failed_in}: {visible(status.error or '')}"
    if status.stage == DONE:
        return f"done in {duration(sum(status.seconds.values()))}"
    return status.stage
