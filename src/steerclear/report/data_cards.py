"""Cards of the rows that a harvest or a contrast made, from their manifests; no text of a prompt or an answer is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steerclear.table import Table

NOTES = """\
**The unsafe rows are harmful on purpose**: examples of what a model must not say, to be trained away from (`label: false`).
Never imitate them, and keep the files from people who do not need them. `self_safe.jsonl` holds what the judges call harmless
(`label: true`), one answer a prompt; nobody has checked that it is right or useful. Labels are the judges', and judges err;
`steerclear review candidates.jsonl` lets a person confirm or overturn them.
"""


def funnel(manifest: Mapping[str, Any]) -> str:
    """Return in one line what became of the answers."""
    answers, rows = manifest["answers"], manifest["rows"]
    outcomes = ", ".join(f"{count} {name}" for name, count in answers["outcomes"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in manifest["selection"]["left_out"].items())
    return (
        f"{answers['all']} answers ({outcomes}): {rows['unsafe']} unsafe rows, {rows['self_safe']} self-safe rows; "
        f"no unsafe rows: {left_out or 'none'}"
    )


def harvest_card(manifest: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    parts = [
        "# Unsafe answers of a model\n",
        f"{manifest['rows']['unsafe']} answers of `{manifest['model']['name']}` to toxic prompts, all judged harmful.\n",
        NOTES,
        "## From prompts to rows\n\n" + _funnel_table(manifest),
        "## Sources of the prompts\n\n" + _sources(manifest),
        "## Judges\n\n" + _judges(manifest["judges"], manifest["answers"]["all"]),
        _categories(manifest["categories"]),
        "## What made it\n\n" + _facts(manifest),
    ]
    return "\n".join(part for part in parts if part)


def _funnel_table(manifest: Mapping[str, Any]) -> str:
    prompts, answers, selection = manifest["prompts"], manifest["answers"], manifest["selection"]
    rows = [
        ("rows of the sources", prompts["read"]),
        ("prompts that can be used", prompts["kept"]),
        ("of them evaluation prompts, left out", sum(prompts["evaluation"].values())),
        ("prompts asked", prompts["asked"]),
        ("answers", answers["all"]),
        *((f"answers: {name}", count) for name, count in answers["outcomes"].items()),
        *((f"no unsafe row: {reason}", count) for reason, count in selection["left_out"].items()),
        ("unsafe rows", manifest["rows"]["unsafe"]),
        ("of them confirmed by a person", selection["confirmed"]),
        ("self-safe rows", manifest["rows"]["self_safe"]),
    ]
    bold = [place for place, (name, _) in enumerate(rows) if name in ("unsafe rows", "self-safe rows")]
    return Table(["stage", "number"], [(name, f"{count:,}") for name, count in rows], bold=bold).markdown()


def _sources(manifest: Mapping[str, Any]) -> str:
    rows = [
        (source["name"], source["counts"]["kept"], licence or "not stated", source["sha256"][:12])
        for source, licence in zip(manifest["sources"], manifest["licences"], strict=True)
    ]
    note = (
        "\nThe prompts keep their sources' licences; the answers stand under the licence of the model that gave them and of the "
        "data it was trained on.\n"
    )
    return Table(["source", "prompts", "licence", "SHA-256"], rows).markdown() + note


def _judges(judges: Mapping[str, Any], answers: int) -> str:
    rows = [
        (name, f"{count} ({_percent(count, answers)})", judges["unscored"][name])
        for name, count in judges["flagged"].items()
    ]
    table = Table(["judge", "flagged", "unscored"], rows).markdown()
    pairs = [
        f"- {pair['first']} and {pair['second']} agree on {_share(pair['agreement'])} of {pair['n']} answers; Cohen's kappa "
        f"{_number(pair['kappa'])} ({_number(pair['lower'])} to {_number(pair['upper'])})."
        for pair in judges["agreement"]
    ]
    return table + (
        "\n" + "\n".join(pairs) + "\n" if pairs else "\nOne judge: nothing tells how far its word can be trusted.\n"
    )


def _categories(categories: Mapping[str, Mapping[str, int]]) -> str:
    if set(categories) == {""}:
        return ""
    rows = [(name or "(none)", counts["prompts"], counts["unsafe_rows"]) for name, counts in categories.items()]
    return "## Categories\n\n" + Table(["category", "prompts", "unsafe rows"], rows).markdown()


def _facts(manifest: Mapping[str, Any]) -> str:
    facts = {
        "model": manifest["model"],
        "template": manifest["template"],
        "samples a prompt": manifest["samples"],
        "decoding": manifest["generation"],
        "refusals by": manifest["refusal_judges"],
        "languages of the answers": manifest["answers"]["languages"],
        "selection": {key: value for key, value in manifest["selection"].items() if key != "left_out"},
        "rows, SHA-256": manifest["sha256"],
        "versions": manifest["versions"],
    }
    return "".join(f"- {name}: `{json.dumps(value, ensure_ascii=False)}`\n" for name, value in facts.items())


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f}%" if of else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def contrast_card(manifest: Mapping[str, Any], words: list[str]) -> str:
    """Return the card as Markdown, from the manifest that `steerclear.harvest.contrast` writes and the toxic words."""
    counts, made = manifest["counts"], manifest["made_by"]
    languages = {name or "not sure": count for name, count in manifest["languages"].items()}
    return f"""\
# Contrastive rows

Benign rows (label true): harmless prompts that contain words of toxic prompts, with answers judged to be harmless.
Paper: section 4.3.6, after Cui et al. 2024 (OR-Bench). There such rows made models less safe; measure it.

{_counts("stage", counts)}
{_counts("left out", manifest["left_out"])}
{_counts("language of the rows", languages)}
- Writer of the prompts: {made["writer"]}
- Answers: {made["answers"]}
- Harm judge: {", ".join(made["judges"])}
- Refusals: {", ".join(made["refusal_judges"])}
- Rows: SHA-256 {manifest["sha256"]}
- Licence of the toxic prompts: {"; ".join(manifest["licences"])}; of the rows also that of the benign rows' source and of
  the models that wrote and answered.

Words, the most toxic first: {", ".join(words)}.
"""


def _counts(heading: str, counts: Mapping[str, int]) -> str:
    return Table([heading, "n"], list(counts.items()) or [("nothing", 0)]).markdown()
