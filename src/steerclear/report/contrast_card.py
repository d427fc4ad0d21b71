"""The card of a set of contrastive rows: what they are, made by whom, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steerclear.report.markdown import markdown_cell, markdown_table


def contrast_card(manifest: Mapping[str, Any], words: list[str]) -> str:
    """Return the card as Markdown, from the manifest that `steerclear.harvest.contrast` writes and the toxic words."""
    counts, made = manifest["counts"], manifest["made_by"]
    languages = {name or "not sure": count for name, count in manifest["languages"].items()}
    return f"""\
# Contrastive rows

Benign rows (label true): harmless prompts that contain words of toxic prompts, with answers judged to be harmless.
Paper: section 4.3.6, after Cui et al. 2024 (OR-Bench). There such rows made models less safe; measure it.

{_table("stage", counts)}
{_table("left out", manifest["left_out"])}
{_table("language of the rows", languages)}
- Writer of the prompts: {made["writer"]}
- Answers: {made["answers"]}
- Harm judge: {", ".join(made["judges"])}
- Refusals: {", ".join(made["refusal_judges"])}
- Rows: SHA-256 {manifest["sha256"]}
- Licence of the toxic prompts: {"; ".join(manifest["licences"])}; of the rows also that of the benign rows' source and of
  the models that wrote and answered.

Words, the most toxic first: {", ".join(words)}.
"""


def _table(heading: str, counts: Mapping[str, int]) -> str:
    rows = [(markdown_cell(name), str(count)) for name, count in counts.items()] or [("nothing", "0")]
    return markdown_table([(heading, "n"), ("---", "---:"), *rows])
