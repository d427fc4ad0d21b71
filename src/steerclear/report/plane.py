"""Geometry of the trade-off plane: harmful answers against over-refusal, one mark a run, crosses for the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from steerclear.report.comparison import RunScores
from steerclear.sanitize import shortened, visible

WIDTH, HEIGHT = 480, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 468, 14, 346
LABEL_LENGTH = 26
CHARACTER, LINE = 6.9, 15
"""Width and height of a label's character, in the drawing's units."""


@dataclass(frozen=True)
class Mark:
    """A run in the plane, in the drawing's units."""

    name: str
    number: int
    """Place of the run among all runs; it chooses the colour."""
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Plane:
    """What the page draws."""

    marks: list[Mark]
    x_ticks: list[tuple[float, int]]
    """Position and percentage."""
    y_ticks: list[tuple[float, int]]


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0) * max(high, 0)

    @property
    def outside(self) -> float:
        return (
            max(LEFT - self.left, 0)
            + max(self.right - RIGHT, 0)
            + max(TOP - self.top, 0)
            + max(self.bottom - BOTTOM, 0)
        )


def trade_off_plane(runs: Sequence[RunScores]) -> Plane | None:
    """Place the runs that have both rates; None where no run has.

    Both axes start at 0 % and end at the first round percentage that no interval passes.
    """
    rated = [
        (number, run.name, asdict(run.scores.harmful_prompts.harmful), asdict(run.scores.benign_prompts.refused))
        for number, run in enumerate(runs)
        if run.scores.harmful_prompts and run.scores.benign_prompts
    ]
    rated = [entry for entry in rated if entry[2]["rate"] is not None and entry[3]["rate"] is not None]
    if not rated:
        return None
    x_ticks = ticks(max(harmful["upper"] for *_, harmful, _ in rated))
    y_ticks = ticks(max(refused["upper"] for *_, refused in rated))

    def x(rate: float) -> float:
        return round(LEFT + 100 * rate / x_ticks[-1] * (RIGHT - LEFT), 1)

    def y(rate: float) -> float:
        return round(BOTTOM - 100 * rate / y_ticks[-1] * (BOTTOM - TOP), 1)

    names = [shortened(visible(name), LABEL_LENGTH) for _, name, *_ in rated]
    labels = _labels(names, [(x(harmful["rate"]), y(refused["rate"])) for *_, harmful, refused in rated])
    marks = [
        Mark(
            name=name,
            number=number,
            x=x(harmful["rate"]),
            y=y(refused["rate"]),
            x_low=x(harmful["lower"]),
            x_high=x(harmful["upper"]),
            y_low=y(refused["lower"]),
            y_high=y(refused["upper"]),
            label_x=label[0],
            label_y=label[1],
        )
        for name, label, (number, _, harmful, refused) in zip(names, labels, rated, strict=True)
    ]
    return Plane(marks, [(x(t / 100), t) for t in x_ticks], [(y(t / 100), t) for t in y_ticks])


def ticks(highest: float) -> list[int]:
    """Return percentages from 0 to the first round one at or above the highest rate, in four to six steps."""
    end = next(limit for limit in (5, 10, 20, 25, 50, 75, 100) if highest * 100 <= limit + 1e-9)
    step = {5: 1, 10: 2, 20: 5, 25: 5, 50: 10, 75: 15, 100: 20}[end]
    return list(range(0, end + 1, step))


def _labels(names: Sequence[str], points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where each label's text begins (left end of its base line), beside its mark and clear of the others."""
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    placed = []
    for name, (x, y) in zip(names, points, strict=True):
        width = CHARACTER * len(name)
        places = [
            _Box(left, top, left + width, top + LINE)
            for away in range(len(names))
            for top in (y - 4 - (away + 1) * LINE, y + 4 + away * LINE)
            for left in (x + 8, x - 8 - width)
        ]
        best = min(places, key=lambda box: sum(box.overlap(other) for other in taken) + 100 * box.outside)
        taken.append(best)
        placed.append((round(best.left, 1), round(best.bottom - 4, 1)))
    return placed
