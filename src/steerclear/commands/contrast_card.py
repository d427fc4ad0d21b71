"""The card of a set of contrastive rows: what they are, made by whom, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def contrast_card(manifest: Mapping[str, Any], words: list[str]) -> str:
    """Return the card as Markdown, from the manifest that `steerclear.commands.contrast` writes and the toxic words."""
    counts, made = manifest["counts"], manifest["made_by"]
    lines = [
        "# Contrastive rows",
        "",
        "Benign rows (label true): harmless prompts that contain words of toxic prompts, with answers judged to be harmless.",
        "Paper: section 4.3.6, after Cui et al. 2024 (OR-Bench). There such rows made models less safe; measure it.",
        "",
        *_table("stage", counts),
        "",
        *_table("left out", manifest["left_out"]),
        "",
        *_table("language of the rows", {name or "not sure": n for name, n in manifest["languages"].items()}),
        "",
        f"- Writer of the prompts: {made['writer']}",
        f"- Answers: {made['answers']}",
        f"- Harm judge: {', '.join(made['judges'])}",
        f"- Refusals: {', '.join(made['refusal_judges'])}",
        f"- Rows: SHA-256 {manifest['sha256']}",
        f"- Licence of the toxic prompts: {'; '.join(manifest['licences'])}; of the rows also that of the benign rows' source "
        "and of the models that wrote and answered.",
        "",
        f"Words, the most toxic first: {', '.join(words)}.",
    ]
    return "\n".join(lines) + "\n"


def _table(heading: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count} |" for name, count in counts.items()] or ["| nothing | 0 |"]
    return [f"| {heading} | n |", "|---|---:|", *rows]
