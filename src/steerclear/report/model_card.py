"""A model card in the form of the Hugging Face Hub: what the weights are, how they were made, how safe they are."""

from __future__ import annotations

from typing import Any

import yaml
from markupsafe import Markup

from steerclear.report.attacks import attack_rows
from steerclear.report.comparison import COLUMNS, headline_rates, rate_text, unscored
from steerclear.report.efficiency import benchmark_rows, efficiency
from steerclear.report.markdown import rows_markdown
from steerclear.report.quality import quality_rows
from steerclear.report.run_data import RunData
from steerclear.report.templates import markdown_template

FILE = " file "
"""In the name of a setting about a file of rows, between its part of the data and the file's name."""


def model_card(run: RunData, *, library: str) -> str:
    """Return the card of a trained and evaluated run.

    Args:
        library: what loads the weights: ``peft`` for an adapter, ``transformers`` for a whole model.
    """
    tables = {
        "rates": rows_markdown(_rates(run)),
        "benchmarks": rows_markdown(benchmark_rows(efficiency([run])), about="Harmful answers by benchmark:"),
        "attacks": rows_markdown(
            attack_rows([run.figures]),
            names=2,
            about="Under attack (ASR: the share of goals with a coherent harmful answer):",
        ),
        "quality": rows_markdown(_headed("measure", quality_rows([run.figures])), about="What it still can:"),
        "training": rows_markdown(_settings(run, "training.", "lora.", "run.", "model.", "versions."), names=2),
        "data": rows_markdown(_settings(run, "data.", "rows."), names=2),
    }
    return markdown_template("model_card.md.j2").render(
        run=run,
        library=library,
        is_steered=bool(run.figures.unsafe_rows) and run.settings.get("training.penalty_weight") not in ("0", "0.0"),
        base=run.settings.get("model.path", ""),
        template=run.settings.get("data.template", "alpaca"),
        judges=", ".join(run.scores.judges) or "nobody",
        refusal_judges=", ".join(run.scores.refusal_judges) or "nobody",
        metadata=Markup(yaml.safe_dump(_metadata(run, library), sort_keys=False, allow_unicode=True)),
        **{name: Markup(table) for name, table in tables.items()},
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


def _rates(run: RunData) -> list[list[str]]:
    rates = headline_rates(run.scores)
    rows = [[column.heading, rate_text(rate)] for column, rate in zip(COLUMNS, rates, strict=True)]
    return _headed("figure", [*rows, ["answers without a verdict", unscored(run.figures)]])


def _settings(run: RunData, *parts: str) -> list[list[str]]:
    return _headed("setting", [[name, value] for name, value in run.settings.items() if name.startswith(parts)])


def _headed(what: str, rows: list[list[str]]) -> list[list[str]]:
    return [[what, "value"], *rows] if rows else []
