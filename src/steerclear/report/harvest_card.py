"""The data card of a harvest, from its manifest; no text of a prompt or an answer is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steerclear.report.markdown import markdown_cell, markdown_table

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
    lines = [
        ("rows of the sources", prompts["read"]),
        ("prompts that can be used", prompts["kept"]),
        ("of them evaluation prompts, left out", sum(prompts["evaluation"].values())),
        ("prompts asked", prompts["asked"]),
        ("answers", answers["all"]),
        *((f"answers: {name}", count) for name, count in answers["outcomes"].items()),
        *((f"no unsafe row: {reason}", count) for reason, count in selection["left_out"].items()),
        ("**unsafe rows**", manifest["rows"]["unsafe"]),
        ("of them confirmed by a person", selection["confirmed"]),
        ("**self-safe rows**", manifest["rows"]["self_safe"]),
    ]
    return markdown_table([("stage", "number"), ("---", "---:"), *((name, f"{count:,}") for name, count in lines)])


def _sources(manifest: Mapping[str, Any]) -> str:
    rows = [
        (
            markdown_cell(source["name"]),
            str(source["counts"]["kept"]),
            markdown_cell(licence or "not stated"),
            source["sha256"][:12],
        )
        for source, licence in zip(manifest["sources"], manifest["licences"], strict=True)
    ]
    note = (
        "\nThe prompts keep their sources' licences; the answers stand under the licence of the model that gave them and of the "
        "data it was trained on.\n"
    )
    return markdown_table([("source", "prompts", "licence", "SHA-256"), ("---", "---:", "---", "---"), *rows]) + note


def _judges(judges: Mapping[str, Any], answers: int) -> str:
    rows = [
        (markdown_cell(name), f"{count} ({_percent(count, answers)})", str(judges["unscored"][name]))
        for name, count in judges["flagged"].items()
    ]
    table = markdown_table([("judge", "flagged", "unscored"), ("---", "---:", "---:"), *rows])
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
    rows = [
        (markdown_cell(name) or "(none)", str(counts["prompts"]), str(counts["unsafe_rows"]))
        for name, counts in categories.items()
    ]
    table = markdown_table([("category", "prompts", "unsafe rows"), ("---", "---:", "---:"), *rows])
    return "## Categories\n\n" + table


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
