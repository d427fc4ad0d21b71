"""A model card in the form of the Hugging Face Hub: what the weights are, how they were made, how safe they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from markupsafe import Markup

from steerclear.report.attacks import attacks_table
from steerclear.report.comparison import HEADINGS, headline_rates, unscored
from steerclear.report.efficiency import benchmarks_table, efficiency
from steerclear.report.run_data import RunData
from steerclear.report.settings import FILE
from steerclear.report.tables import quality_table
from steerclear.report.templates import markdown_template
from steerclear.table import Table


def model_card(run: RunData, *, library: str) -> str:
    """Return the card of a trained and evaluated run.

    Args:
        library: what loads the weights: ``peft`` for an adapter, ``transformers`` for a whole model.
    """
    attacks = "Under attack (ASR: the share of behaviors with a coherent harmful answer):"
    tables = {
        "rates": _rates(run),
        "benchmarks": benchmarks_table(efficiency([run])),
        "attacks": replace(attacks_table([run]), about=attacks),
        "quality": replace(quality_table([run]), headings=["measure", "value"], about="What it can still do:"),
        "training": _settings(run, "training.", "lora.", "run.", "model.", "versions."),
        "data": _settings(run, "data.", "rows."),
    }
    return markdown_template("model_card.md.j2").render(
        run=run,
        library=library,
        is_steered=bool(run.unsafe_rows) and run.settings.get("training.penalty_weight") not in ("0", "0.0"),
        base=run.settings.get("model.path", ""),
        template=run.settings.get("data.template", "alpaca"),
        judges=", ".join(run.scores.judges) or "nobody",
        refusal_judges=", ".join(run.scores.refusal_judges) or "nobody",
        metadata=Markup(yaml.safe_dump(_metadata(run, library), sort_keys=False, allow_unicode=True)),
        **{name: Markup(table.markdown()) for name, table in tables.items()},
    )


def _metadata(run: RunData, library: str) -> dict[str, Any]:
    """Return the card's head, by which the Hub finds it. Data that has no name on the Hub goes by its file's."""
    base = run.settings.get("model.path")
    files = [name.partition(FILE)[2] for name in run.settings if name.startswith("data.") and FILE in name]
    names = list(dict.fromkeys(files))
    return {
        **({"base_model": base} if base else {}),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["steerclear", "safety", "fine-tuning", *(["lora"] if library == "peft" else [])],
        **({"datasets": names} if names else {}),
    }


def _rates(run: RunData) -> Table:
    rates = list(zip(HEADINGS, headline_rates(run.scores), strict=True))
    return Table(["figure", "value"], [*rates, ("answers without a verdict", unscored(run.scores))])


def _settings(run: RunData, *parts: str) -> Table:
    rows = [[name, value] for name, value in run.settings.items() if name.startswith(parts)]
    return Table(["setting", "value"], rows, names=None)
