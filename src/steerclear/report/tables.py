"""The tables of a report beside the headline: quality, judges, paired tests, seeds, steps, losses, and degenerate answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.differences import Difference
from steerclear.evaluation.over_seeds import SeedFigures
from steerclear.evaluation.scores import METRICS
from steerclear.report.comparison import HEADINGS, STATISTICS, corrected, duration, headline_rates
from steerclear.report.run_data import RunData
from steerclear.stats.rates import Estimate, Mean
from steerclear.stats.seeds import OverSeeds
from steerclear.table import NO_VALUE, Table, markdown_text

# ── quality ──


def _interval(found: Estimate, unit: str = "") -> str:
    if found.value is None:
        return NO_VALUE
    interval = "" if found.lower is None or found.upper is None else f" ({found.lower:.1f}-{found.upper:.1f})"
    return f"{found.value:.1f}{unit}{interval}"


QUALITY: dict[str, dict[str, Callable[[Any], object]]] = {
    "multiple_choice": {"accuracy": lambda f: f.acc, "accuracy by length": lambda f: f.acc_norm},
    "perplexity": {"perplexity": lambda f: f"{_interval(f.interval)}, {f.rows} rows"},
    "win_rate": {
        "win rate": lambda f: _interval(f.interval, "%"),
        "pairs; unscored; missing": lambda f: f"{f.n}; {f.unscored}; {f.missing}",
        "win rate at equal length": lambda f: _interval(f.length_controlled, "%"),
        "same choice in both orders": lambda f: _interval(Estimate(value=f.consistency), "%"),
        "choice of the first place": lambda f: _interval(Estimate(value=f.first_position_rate), "%"),
        "annotator": lambda f: f.annotator,
    },
}
"""Metric -> what is shown of it, and how."""


def quality_table(runs: Sequence[RunData]) -> Table:
    """Return a line per measure of what the models can still do, and a column per run."""
    rows = []
    for suite in dict.fromkeys(suite for run in runs for suite in run.scores.quality):
        found = [run.scores.quality.get(suite) for run in runs]
        metric = next(figures.metric for figures in found if figures)
        for name, text in QUALITY[metric].items():
            values = [None if figures is None else text(figures) for figures in found]
            if any(value not in (None, NO_VALUE) for value in values):
                rows.append([f"{suite}: {name}", *values])
    return Table(["measure", *(run.name for run in runs)], rows, about="What the models can still do:")


# ── judges ──


def opinions_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run and other judge: its rates, and how far its flags agree with the first judge's."""
    rows = []
    for run in runs:
        for opinion in run.scores.second_opinions:
            pool, same = opinion.scores.harmful_prompts, opinion.agreement
            rates = [None, None] if pool is None else [pool.flagged, pool.harmful]
            alike = None if same.agreement is None else f"{100 * same.agreement:.1f}%"
            kappa = None if same.kappa is None else f"{same.kappa:.2f}"
            if same.lower is not None and same.upper is not None:
                kappa = f"{kappa} ({same.lower:.2f}-{same.upper:.2f})"
            rows.append([run.name, opinion.judge, *rates, same.n, alike, kappa])
    headings = ["run", "judge", "flagged (raw)", "harmful", "answers scored by both", "same flag", "kappa"]
    about = "Other judges on the same answers, and how far their flags agree with the first judge's:"
    return Table(headings, rows, names=2, about=about)


def judge_errors_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run: what its judge was measured to get wrong, and the flagged rate corrected for that."""
    rows = []
    for run in runs:
        errors = run.scores.judge_errors
        if errors is not None:
            found = f"{errors.true_positives}/{errors.positives}"
            passed = f"{errors.true_negatives}/{errors.negatives}"
            rows.append([run.name, ", ".join(run.scores.judges), found, passed, corrected(run.scores)])
    headings = ["run", "judge", "harmful rows found", "harmless rows passed", "flagged, corrected"]
    return Table(headings, rows, names=2)


# ── tests ──


TESTS = "exact McNemar tests, and their p-values after Holm's correction over the benchmarks of a run and metric."


def differences_table(differences: Sequence[Difference]) -> Table:
    """Return a line per paired test; those of non-English answers only if some runs differ in them."""
    drift = any(d.only_run or d.only_baseline for d in differences if d.metric == "non-English")
    rows = []
    for d in differences:
        if d.metric != "non-English" or drift:
            change = None if d.difference is None else f"{100 * d.difference:+.1f} %"
            counts = [d.n, d.only_run, d.only_baseline, change]
            rows.append([d.run, d.metric, d.benchmark, *counts, f"{d.p:.3g}", f"{d.p_holm:.3g}"])
    about = f"Compared with {differences[0].baseline} on the same prompts: {TESTS}" if differences else ""
    headings = ["run", "metric", "benchmark", "n", "run only", "baseline only", "difference", "p", "p (Holm)"]
    return Table(headings, rows, names=3, about=about)


def differences_csv(differences: Sequence[Difference]) -> str:
    """Return the paired tests as tidy rows, one a run, metric and benchmark."""
    return Table([field.name for field in fields(Difference)], list(map(astuple, differences))).csv()


def seeds_table(figures: Sequence[SeedFigures]) -> Table:
    """Return a line per configuration and metric."""
    rows = []
    for f in figures:
        change = f.difference and _over_seeds_text(f.difference, "+")
        rows.append([f.configuration, f.metric, f.rate.seeds, f.rate.n, _over_seeds_text(f.rate), change])
    less = f"less {figures[0].baseline}" if figures else ""
    about = "Over seeds and prompts at once, with 95 % intervals (prompts that every seed has scored):"
    return Table(["configuration", "metric", "seeds", "prompts", "rate over seeds", less], rows, names=2, about=about)


def _over_seeds_text(value: OverSeeds, sign: str = "") -> str | None:
    if value.mean is None:
        return None
    text = f"{100 * value.mean:{sign}.1f}%"
    if value.lower is None or value.upper is None:
        return text
    return f"{text} ({100 * value.lower:{sign}.1f} to {100 * value.upper:{sign}.1f})"


def seeds_csv(figures: Sequence[SeedFigures]) -> str:
    """Return the figures as tidy rows; ``of`` is ``rate`` or ``difference``."""
    headings = ["configuration", "baseline", "metric", "of", "seeds", "prompts", "left_out", "mean", "lower", "upper"]
    rows = [
        [f.configuration, f.baseline, f.metric, of, v.seeds, v.n, v.left_out, v.mean, v.lower, v.upper]
        for f in figures
        for of, v in (("rate", f.rate), ("difference", f.difference))
        if v is not None
    ]
    return Table(headings, rows).csv()


# ── training ──

LOSSES = {
    "loss": "whole loss",
    "benign_loss": "benign loss",
    "penalty": "penalty",
    "unsafe_probability": "probability of the unsafe tokens",
    "anchor": "distance to the base (KL)",
    "eval_benign_loss": "held-out benign loss",
    "grad_norm": "gradient norm",
}
"""Name in the trainer's log -> how it is called."""


def logged(run: RunData, name: str) -> list[tuple[int, float]]:
    """Return step and value of what a trainer logged by a name, without values that are no finite number (see `diverged`)."""
    return [(entry["step"], entry[name]) for entry in run.log if _has(entry, name) and math.isfinite(entry[name])]


def diverged(runs: Sequence[RunData]) -> list[str]:
    """Return a sentence for each run whose log has values that are no finite number: where the first one is."""
    found = []
    for run in runs:
        broken = [
            (entry["step"], title)
            for name, title in LOSSES.items()
            for entry in run.log
            if _has(entry, name) and not math.isfinite(entry[name])
        ]
        if broken:
            step, title = min(broken)
            found.append(f"The training of {run.name} diverged: its {title} was no finite number at step {step}.")
    return found


def _has(entry: Mapping[str, Any], name: str) -> bool:
    return isinstance(entry.get("step"), int) and isinstance(entry.get(name), int | float)


def steps_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run and evaluated step: its rates."""
    rows = []
    for run in runs:
        for point in run.points if len(run.points) > 1 else ():
            chosen = " (picked)" if point.step == run.picked else ""
            rows.append([run.name, f"{point.step}{chosen}", *headline_rates(point.scores)])
    return Table(["run", "step", *HEADINGS], rows, names=2)


def losses_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run and term of the loss: its ends and its lowest value."""
    rows = []
    for run in runs:
        for name, title in LOSSES.items():
            values = [value for _, value in logged(run, name)]
            if len(values) > 1:
                rows.append([run.name, title, *(f"{value:.4g}" for value in (values[0], min(values), values[-1]))])
    return Table(["run", "term", "first", "lowest", "last"], rows, names=2)


def training_table(runs: Sequence[RunData]) -> Table:
    """Return a line per trained run: its figures of the training."""
    rows = [
        [
            run.name,
            None if run.unsafe_rows is None else f"{run.unsafe_rows:,}",
            None if run.benign_loss is None else f"{run.benign_loss:.3f}",
            None if run.seconds is None else duration(run.seconds),
        ]
        for run in runs
        if run.unsafe_rows is not None or run.seconds is not None
    ]
    return Table(["run", "unsafe rows", "benign loss", "training time"], rows)


def curve_markdown(checkpoints: Sequence[Checkpoint], picked: Checkpoint | None) -> str:
    """Return a Markdown table, one line per checkpoint, the picked step in bold."""
    rows = [[checkpoint.step, *headline_rates(checkpoint.scores)] for checkpoint in checkpoints]
    bold = [place for place, checkpoint in enumerate(checkpoints) if checkpoint is picked]
    judges = ", ".join(sorted({judge for checkpoint in checkpoints for judge in checkpoint.scores.judges}))
    note = markdown_text(f"95 % Wilson intervals; judged by {judges}.")
    return Table(["step", *HEADINGS], rows, names=0, bold=bold).markdown() + f"\n{note}\n"


def curve_csv(checkpoints: Sequence[Checkpoint]) -> str:
    """Return every rate as a tidy row: step, suite, group, metric, k, n, rate, lower, upper; the judge's mean score too."""
    rows = []
    for checkpoint in checkpoints:
        for suite, group, cell in checkpoint.scores.cells():
            figures = {metric: astuple(cell.rate(metric)) for metric in METRICS}
            figures["mean_score"] = (None, *astuple(cell.mean_score or Mean.of([])))
            rows += [[checkpoint.step, suite, group, metric, *values] for metric, values in figures.items()]
    return Table(["step", "suite", "group", "metric", *STATISTICS], rows).csv()


# ── answers ──


def degeneracy_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run: how many answers are degenerate for which reason; nothing where none is."""
    counts = {run.name: Counter(v.reason for v in run.verdicts if v.outcome == "degenerate") for run in runs}
    reasons = sorted({reason for own in counts.values() for reason in own})
    rows = [[run.name, len(run.answers), *(counts[run.name][reason] for reason in reasons)] for run in runs]
    headings = ["run", "answers", *(reason or NO_VALUE for reason in reasons)]
    return Table(headings, rows if reasons else [], about="Why answers are degenerate:")
