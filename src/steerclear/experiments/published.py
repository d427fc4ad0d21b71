"""What the paper printed: the numbers of its tables, and what its text says of its figures, which have none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from steerclear.config import Tree, build, load_yaml
from steerclear.errors import ConfigError, one_of

PAPER = "ICLR 2025, arXiv 2412.06843"

FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One number, and what it is about."""

    value: float
    """In the table's unit."""
    method: str
    """``sft``, ``kto``, ``nlcl``, ``emd`` or ``stl``."""
    model: str = ""
    """As its preset is called, such as ``llama-7b``. Empty: the paper does not say."""
    benchmark: str = ""
    """What was measured, as the paper calls it. Empty: nothing was, as in Table 4."""
    unsafe_rows: int | None = None
    """Number of unsafe training rows, for STL of safe ones. None: the table does not say."""
    note: str = ""
    """What is to be known about this number."""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of the paper, in long form. Of a figure there are notes alone."""

    id: str
    """Such as ``table2``, ``figure5`` or ``attack``."""
    title: str
    section: str
    """Of the paper."""
    unit: str = ""
    """``count`` (of harmful responses), ``%``, or ``weight`` (λ). Empty for a figure."""
    rows: list[str] = field(default_factory=list)
    """Fields of `PublishedValue` that the rows stand for, as printed."""
    columns: list[str] = field(default_factory=list)
    """And those that the columns stand for."""
    values: list[PublishedValue] = field(default_factory=list)
    """Row by row."""
    notes: list[str] = field(default_factory=list)
    """What the text adds, or claims."""

    @property
    def source(self) -> str:
        """Where it was published."""
        numbered = re.fullmatch(r"(table|figure)(\d+)", self.id)
        label = f"{numbered[1].capitalize()} {numbered[2]}" if numbered else f"the {self.id} table"
        return f"{PAPER}, {label} (section {self.section})"

    def names(self, name: str) -> list[Any]:
        """Return the different values of a field of its numbers, in the table's order."""
        return list(dict.fromkeys(getattr(value, name) for value in self.values))

    def find(self, **wanted: Any) -> PublishedValue | None:
        """Return the number with these fields; None where the table has none.

        >>> published_table("table2").find(model="llama-7b", method="nlcl", unsafe_rows=100, benchmark="I-CoNa").value
        42.0
        """
        return next((v for v in self.values if all(getattr(v, name) == got for name, got in wanted.items())), None)


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Return tables, figures and the attack table by their ids, in the paper's order."""
    return {id: _read(id, tree) for id, tree in load_yaml(FILE).items()}


def published_table(id: str) -> PublishedTable:
    """Return one of them.

    Raises:
        ConfigError: there is none of that id.
    """
    tables = published_tables()
    if id not in tables:
        raise ConfigError(one_of("table", id, tables))
    return tables[id]


def _read(id: str, tree: Tree) -> PublishedTable:
    levels = [*tree.get("rows", []), *tree.get("columns", [])]
    remarks = tree.get("remarks", [])
    values = [fields | {"note": _note(fields, remarks)} for fields in _flat(tree.get("values"), levels)]
    kept = {key: value for key, value in tree.items() if key != "remarks"}
    return build(PublishedTable, kept | {"id": id, "values": values})


def _flat(values: Any, levels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield each number of a nested mapping, with the names of its levels; nothing for None."""
    if isinstance(values, Mapping):
        for name, below in values.items():
            yield from ({levels[0]: name, **fields} for fields in _flat(below, levels[1:]))
    elif values is not None:
        yield {"value": values}


def _note(fields: Mapping[str, Any], remarks: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(remark["note"] for remark in remarks if remark["where"].items() <= fields.items())
