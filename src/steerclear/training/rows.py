"""From rendered rows to a trainer's data set of tokens and signed labels, counting what is cut."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, concatenate_datasets

from steerclear.data.tokenization import AvoidTokens, NothingLeftError, tokenize_row
from steerclear.errors import DataError
from steerclear.records import Row

logger = logging.getLogger(__name__)


def to_dataset(rendered: Sequence[Row], added: Sequence[Row] = ()) -> Dataset:
    """Return rows as a data set for a trainer, the added ones last; ids name file and line for errors.

    Args:
        rendered: rows as `steerclear.data.templates.render_row` returns them.
        added: more of them, to be drawn by a share of their own.
    """
    return Dataset.from_list(
        [
            {
                "prompt": row.prompt,
                "completion": row.completion,
                "label": row.label,
                "weight": row.weight,
                "id": f"{row.id} ({row.source})",
                "added": is_added,
            }
            for part, is_added in ((rendered, False), (added, True))
            for row in part
        ]
    )


def tokenize_rows(
    dataset: Dataset, tokenizer: Any, avoid: AvoidTokens, args: Any, name: str
) -> tuple[Dataset, dict[str, int]]:
    """Return the rows as ``input_ids``, signed ``labels`` and ``added``, and how many were cut, by how many tokens, and left out.

    Benign rows without an answer token within ``max_length`` are left out and told in the log.

    Args:
        avoid: which tokens of an unsafe answer are avoided.
        args: the trainer's arguments.
        name: of the data set, in errors.

    Raises:
        DataError: a column is missing, a label is no boolean, or an unsafe row or every row has no answer token left.
    """
    missing = [column for column in ("prompt", "completion", "label") if column not in dataset.column_names]
    if missing:
        raise DataError(
            f"{name}: column {', '.join(missing)} is missing: got {', '.join(dataset.column_names)}; "
            "needed are prompt, completion and label (true: imitate, false: avoid)."
        )

    def tokenize(row: dict[str, Any], index: int) -> dict[str, Any]:
        row_id = str(row.get("id") or f"{name} row {index}")
        if not isinstance(row["label"], bool):
            raise DataError(f"{row_id}: label: got {row['label']!r}, allowed: true (imitate) or false (avoid).")
        weight = row.get("weight")
        try:
            tokenized = tokenize_row(
                tokenizer,
                row["prompt"],
                row["completion"],
                row["label"],
                avoid=avoid,
                weight=1.0 if weight is None else weight,
                max_length=args.max_length,
                row_id=row_id,
            )
        except NothingLeftError:
            if not row["label"]:
                # How many unsafe rows there are is what experiments vary: none may vanish.
                raise
            return {"input_ids": [], "labels": [], "cut": 0, "controls": 0, "merges": False, "added": False}
        return vars(tokenized) | {"added": bool(row.get("added"))}

    tokenized = dataset.map(
        tokenize,
        with_indices=True,
        remove_columns=dataset.column_names,
        num_proc=args.dataset_num_proc,
        desc=f"Tokenizing {name} dataset",
    )
    ids = dataset["id"] if "id" in dataset.column_names else [f"row {index}" for index in range(len(dataset))]
    return _log_what_was_found(tokenized, ids, args.max_length, name)


def _log_what_was_found(
    tokenized: Dataset, ids: list[str], max_length: int | None, name: str
) -> tuple[Dataset, dict[str, int]]:
    """Count and report rows that were cut, left out, or are read otherwise than they look; return those that stay."""
    cut = tokenized["cut"]
    kept = tokenized.filter(lambda row: len(row["input_ids"]) > 0, desc=f"Checking {name} dataset")
    counts = {"rows": sum(c > 0 for c in cut), "tokens": sum(cut), "rows_left_out": len(cut) - len(kept)}
    if counts["rows"] or counts["rows_left_out"]:
        logger.warning(
            "%s: of %d rows, %d are longer than max_length=%s and lose %d tokens at their ends; %d benign rows whose prompt "
            "alone is longer are left out.",
            *(name, len(cut), counts["rows"], max_length, counts["tokens"], counts["rows_left_out"]),
        )
    if controls := sum(count > 0 for count in tokenized["controls"]):
        logger.warning(
            "%s: %d of %d rows spell control tokens such as <bos> in their text, which the model reads as such. Remove them "
            "where they are not meant.",
            *(name, controls, len(cut)),
        )
        counts["rows_with_controls"] = controls
    if merges := sum(tokenized["merges"]):
        first = ids[tokenized["merges"].index(True)]
        logger.warning(
            "%s: in %d of %d rows the end of the prompt and the beginning of the answer would be one token (first: %s), as where "
            "a prompt ends in a space. They are tokenized apart, as in generation; better move the space to the answer.",
            *(name, merges, len(cut), first),
        )
        counts["rows_merging"] = merges
    if not len(kept):
        raise DataError(f"{name}: no answer token is left in any row. Raise max_length (got {max_length}).")
    return kept.remove_columns(["cut", "controls", "merges"]), counts


def fill_batches(rows: Dataset, args: Any, nothing: Callable[[dict[str, Any]], dict[str, Any]]) -> Dataset:
    """Return held-out rows, filled up until the batches of all ranks are full; else accelerate would count some rows twice.

    Args:
        args: the trainer's arguments.
        nothing: what makes a copy of a row one that counts nothing.
    """
    missing = -len(rows) % (args.world_size * args.eval_batch_size) if args.world_size > 1 else 0
    return concatenate_datasets([rows, rows.select([0] * missing).map(nothing)]) if missing else rows
