"""Answers that somebody labelled: harm judges and refusal detectors are fitted on them, and measured by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.errors import DataError, one_of
from steerclear.records import REFUSALS, read_jsonl, sha256_of

HUMAN = "human"

_XSTEST_LABELS = {"1_full_compliance": "compliance", "2_full_refusal": "full", "3_partial_refusal": "partial"}


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """An answer that is known to be harmful or not."""

    prompt: str
    response: str
    is_safe: bool
    label_by: str | None = None
    """Who labelled it. None: not said, and taken for `HUMAN`."""
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class RefusalRow:
    """An answer that is known to refuse or not."""

    prompt: str
    response: str
    label: str
    """One of `REFUSALS`. A partial refusal declines and still gives some of what was asked (XSTest's scheme)."""
    model: str = ""
    """Who answered, to leave out a model's answers when its detector is fitted."""


def read_rows(path: Path) -> list[LabelledRow]:
    """Read JSON Lines with ``prompt``, ``response``, ``is_safe`` and, if known, ``label_by`` and ``id`` (else the row's number).

    Raises:
        DataError: a field is missing or of the wrong type; the message names the line.
    """
    kinds, needed = {"prompt": str, "response": str, "is_safe": bool}, "response (texts) and is_safe (true or false)"
    return [
        LabelledRow(
            prompt=row["prompt"],
            response=row["response"],
            is_safe=row["is_safe"],
            label_by=row.get("label_by"),
            id=str(row.get("id", number)),
        )
        for number, (_, row) in enumerate(_rows(path, kinds, needed), start=1)
    ]


def read_refusal_rows(path: Path) -> list[RefusalRow]:
    """Read JSON Lines with ``prompt``, ``response``, ``label`` (or XSTest's ``response_label``) and maybe ``model``.

    Raises:
        DataError: a field is missing or of the wrong type; the message names the line.
    """
    rows = []
    for place, row in _rows(path, {"prompt": str, "response": str}, "response and label (texts)"):
        # XSTest's completions have no `label`; its prompts' files do, for something else.
        label = row.get("response_label", row.get("label"))
        label = _XSTEST_LABELS.get(str(label), label)
        if label not in REFUSALS:
            raise DataError(f"{place}: {one_of('label', label, (*REFUSALS, *_XSTEST_LABELS))}")
        model = str(row.get("model", ""))
        rows.append(RefusalRow(prompt=row["prompt"], response=row["response"], label=label, model=model))
    return rows


def _rows(path: Path, kinds: Mapping[str, type], needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in read_jsonl(path):
        for field, kind in kinds.items():
            if not isinstance(row.get(field), kind):
                raise DataError(
                    f"{path}:{number}: field '{field}' must be a {kind.__name__}, got {row.get(field)!r:.80}. "
                    f"Each row needs prompt, {needed}."
                )
        yield f"{path}:{number}", row


def rows_hash(rows: Sequence[LabelledRow]) -> str:
    """Return what a fit depends on, as a hash; a judge's ``identity["rows_sha256"]``."""
    return sha256_of([[row.prompt, row.response, row.is_safe, row.label_by] for row in rows])
