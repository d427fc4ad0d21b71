"""Published figures beside ours: a table of cells, each with what was published and what we measured."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.errors import DataError, one_of
from steerclear.stats.rates import Estimate, Rate
from steerclear.table import NO_VALUE, Table, markdown_text

UNITS = ("count", "%", "score", "weight")


@dataclass(frozen=True, kw_only=True)
class BesideCell:
    """One figure, published and ours."""

    published: float | None
    """In the table's unit. None: not published."""
    ours: Rate | Estimate | float | None
    """A rate, a value in the table's unit with its interval, a bare value, or None: not measured."""


@dataclass(frozen=True, kw_only=True)
class BesideTable:
    """A published table with our figures beside it.

    Raises:
        DataError: an unknown unit, or a row that does not fit the headings.
    """

    title: str
    source: str
    """Where the figures were published."""
    unit: str
    """One of `UNITS`: what the published figures are. A rate of ours is shown as ``k/n`` for ``count``, in per cent for ``%``."""
    row_headings: list[str]
    """What the labels of a row are, such as model and method."""
    columns: list[str]
    rows: list[tuple[list[str], list[BesideCell]]]
    """The row's labels and its cells, one a column."""
    notes: list[str]

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise DataError(one_of("unit", self.unit, UNITS))
        for labels, cells in self.rows:
            if len(labels) != len(self.row_headings) or len(cells) != len(self.columns):
                raise DataError(
                    f"{self.title}: the row {labels} has {len(labels)} labels and {len(cells)} cells, expected "
                    f"{len(self.row_headings)} and {len(self.columns)}."
                )


def published_text(cell: BesideCell) -> str:
    """Return the published figure as it was printed."""
    return NO_VALUE if cell.published is None else f"{cell.published:.12g}"


def ours_text(cell: BesideCell, unit: str) -> str:
    """Return our figure with its 95 % interval, where there is one.

    >>> [ours_text(BesideCell(published=1, ours=Rate.of(3, 100)), unit) for unit in ("count", "%")]
    ['3/100 (1.0-8.5%)', '3.0 (1.0-8.5)']
    """
    ours = cell.ours
    if ours is None:
        return NO_VALUE
    if isinstance(ours, int | float):
        return f"{ours:.4g}"
    if isinstance(ours, Estimate):
        return _with_interval(ours.value, ours.lower, ours.upper, 1)
    if ours.rate is None or ours.lower is None or ours.upper is None:
        return f"{ours.k}/{ours.n}"
    if unit == "count":
        return f"{ours.k}/{ours.n} ({100 * ours.lower:.1f}-{100 * ours.upper:.1f}%)"
    return _with_interval(ours.rate, ours.lower, ours.upper, 100)


def _with_interval(value: float | None, lower: float | None, upper: float | None, factor: float) -> str:
    if value is None:
        return NO_VALUE
    digits = 1 if factor == 100 or abs(value) >= 10 else 2
    text = f"{factor * value:.{digits}f}"
    return (
        text if lower is None or upper is None else f"{text} ({factor * lower:.{digits}f}-{factor * upper:.{digits}f})"
    )


def beside_table(table: BesideTable) -> Table:
    """Return the table with two columns, published and ours, for each of its own."""
    headings = [*table.row_headings, *["published", "ours"] * len(table.columns)]
    rows = [
        [*labels, *(text for cell in cells for text in (published_text(cell), ours_text(cell, table.unit)))]
        for labels, cells in table.rows
    ]
    groups = [(column, 2) for column in table.columns]
    return Table(headings, rows, names=len(table.row_headings), groups=groups)


def beside_markdown(table: BesideTable) -> str:
    """Return the table in Markdown, with its source and notes."""
    head = f"\n## {markdown_text(table.title)}\n\n{markdown_text(_about(table))}\n\n"
    return head + beside_table(table).markdown() + "".join(f"\n{markdown_text(note)}\n" for note in table.notes)


def beside_latex(table: BesideTable) -> str:
    """Return the table in LaTeX, with its source and notes in the caption."""
    return beside_table(table).latex(" ".join([f"{table.title}.", _about(table), *table.notes]))


def _about(table: BesideTable) -> str:
    return f"Published: {table.source}. Unit: {unit_text(table)}."


def unit_text(table: BesideTable) -> str:
    """Return what the published figures are, in words."""
    counted = "number of answers; ours with 95 % intervals of the share"
    return {"count": counted, "weight": "penalty weight"}.get(table.unit, table.unit)
