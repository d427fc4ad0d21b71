"""Other judges beside the first one, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from steerclear.report.comparison import NO_VALUE, RunScores, rate_text
from steerclear.report.markdown import rows_markdown


def opinions_markdown(runs: Sequence[RunScores]) -> str:
    """Return a Markdown table of the other judges' rates and their agreement with the first; nothing without any."""
    about = "Other judges on the same answers, and how far their flags agree with the first judge's:"
    return rows_markdown(opinion_rows(runs), names=2, about=about)


def opinion_rows(runs: Sequence[RunScores]) -> list[list[str]]:
    """Return the headings and a line a run and other judge, as text; nothing without any."""
    rows = [["run", "judge", "flagged (raw)", "harmful", "answers scored by both", "same flag", "kappa"]]
    for run in runs:
        for opinion in run.scores.second_opinions:
            pool, same = opinion.scores.harmful_prompts, opinion.agreement
            rates = [None, None] if pool is None else [pool.flagged, pool.harmful]
            alike = NO_VALUE if same.agreement is None else f"{100 * same.agreement:.1f}%"
            kappa = NO_VALUE if same.kappa is None else f"{same.kappa:.2f}"
            if same.lower is not None and same.upper is not None:
                kappa += f" ({same.lower:.2f}-{same.upper:.2f})"
            rows.append([run.name, opinion.judge, *map(rate_text, rates), str(same.n), alike, kappa])
    return rows if len(rows) > 1 else []
