"""What a person decided, as labelled rows to fit a judge on or to import for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.review.decisions import Decision
from steerclear.review.items import Item


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """An answer that a person called safe or unsafe."""

    id: str
    prompt: str
    response: str
    is_safe: bool
    source: str
    label_by: str = "human"


@dataclass(frozen=True)
class Exported:
    """Labelled rows, and how many items are not among them."""

    rows: list[LabelledRow]
    left_out: dict[str, int]
    """``broken``, ``unsure`` and ``undecided`` -> number of items."""
    judged: list[bool | None]
    """For each row whether the judges called it unsafe. None: they did not say."""


def labelled_rows(items: Sequence[Item], decisions: Mapping[str, Decision]) -> Exported:
    """Return the items that are decided safe or unsafe as rows, in the file's order."""
    rows, judged, left_out = [], [], Counter(broken=0, unsure=0, undecided=0)
    for item in items:
        word = decisions[item.key].decision if item.key in decisions else "undecided"
        if word not in ("safe", "unsafe"):
            left_out[word] += 1
            continue
        rows.append(
            LabelledRow(
                id=item.id, prompt=item.asked, response=item.response, is_safe=word == "safe", source=item.source
            )
        )
        judged.append(item.judged == "unsafe" if item.judged in ("safe", "unsafe") else None)
    return Exported(rows, dict(left_out), judged)
