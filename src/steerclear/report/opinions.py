"""Other judges beside the first one, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.evaluation.scores import cell_text
from steerclear.report.comparison import NO_VALUE, RunScores
from steerclear.report.markdown import markdown_cell, markdown_table


def opinions_markdown(runs: Sequence[RunScores]) -> str:
    """Return a Markdown table of the other judges' rates and their agreement with the first; nothing without any."""
    lines = [["run", "judge", "flagged (raw)", "harmful", "answers scored by both", "same flag", "kappa"]]
    lines.append(["---", "---", *["---:"] * 5])
    for run in runs:
        for opinion in run.scores.get("second_opinions", ()):
            pool, same = opinion["scores"]["harmful_prompts"], opinion["agreement"]
            rates = [NO_VALUE] * 2 if pool is None else [cell_text(pool[metric]) for metric in ("flagged", "harmful")]
            alike = NO_VALUE if same["agreement"] is None else f"{100 * same['agreement']:.1f}%"
            kappa = NO_VALUE if same["kappa"] is None else f"{same['kappa']:.2f}"
            if same["lower"] is not None and same["upper"] is not None:
                kappa += f" ({same['lower']:.2f}-{same['upper']:.2f})"
            lines.append(
                [markdown_cell(run.name), markdown_cell(opinion["judge"]), *rates, str(same["n"]), alike, kappa]
            )
    if len(lines) == 2:
        return ""
    return (
        "\nOther judges on the same answers, and how far their flags agree with the first judge's:\n\n"
        + markdown_table(lines)
    )
