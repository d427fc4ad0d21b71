"""What exactly a model was trained on, as one JSON object for the run's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steerclear.data.formats import LEFT_OUT
from steerclear.data.sources import SourceRead
from steerclear.records import SCHEMA_VERSION, Row, sha256_of


def build_manifest(
    reads: Sequence[SourceRead],
    rows: Mapping[str, Sequence[Row]],
    *,
    selection: Mapping[str, Any],
    evaluation_prompts: int,
    contaminated: int,
) -> dict[str, Any]:
    """Return the manifest: JSON-ready, without a folder name or a row's text.

    Args:
        reads: every source as it was read.
        rows: the final rows of each part: ``benign``, ``added``, ``unsafe``, ``heldout``.
        selection: the options that chose them: seed, counts, template.
        evaluation_prompts: how many evaluation prompts the rows were checked against.
        contaminated: how many rows were left out because they hold one.

    The keys ``sampling`` and ``tokens`` are empty: training fills in how rows are drawn, and what tokenization counted.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "sources": [_source(read) for read in reads],
        "selection": dict(selection),
        "contamination": {"evaluation_prompts": evaluation_prompts, "rows_left_out": contaminated},
        "rows": {part: len(chosen) for part, chosen in rows.items()},
        "sha256": {part: hash_rows(chosen) for part, chosen in rows.items()},
        "sampling": {},
        "tokens": {},
    }


def hash_rows(rows: Sequence[Row]) -> str:
    """Return the SHA-256 over all that training sees of the rows, in their order; where they came from makes no difference."""
    return sha256_of(
        [[r.id, r.prompt, r.input, r.completion, r.label, r.weight, *([r.context] if r.context else [])] for r in rows]
    )


def _source(read: SourceRead) -> dict[str, Any]:
    return {
        "name": read.name,
        "format": read.format,
        "role": read.role,
        "where": read.where,
        "sha256": read.sha256,
        "rows_read": read.counts["read"],
        "rows_kept": read.counts["kept"],
        "left_out": {kind: read.counts[kind] for kind in LEFT_OUT if read.counts[kind]},
    }
