"""How few unsafe rows do it: harmful answers by number of unsafe rows and benchmark, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steerclear.evaluation.differences import ALL, Key
from steerclear.evaluation.scores import HOLDS
from steerclear.records import GROUP, KIND, Verdict
from steerclear.report.run_data import RunData, by_configuration
from steerclear.stats.rates import Rate
from steerclear.stats.seeds import OverSeeds, rate_over_seeds
from steerclear.table import Table

ROW_AXES = ("rows", "unsafe_rows")
"""Names of a sweep's axis that says how many unsafe rows a cell has."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkFigures:
    """A configuration on one benchmark."""

    harmful: Rate | OverSeeds
    """Over seeds where there are several."""
    flagged: tuple[tuple[int, int], ...]
    """The judge's raw flags, k of n, seed by seed: they alone compare with published counts."""

    @property
    def rate(self) -> float | None:
        """Return the harmful rate; None below 2 prompts."""
        return self.harmful.rate if isinstance(self.harmful, Rate) else self.harmful.mean

    def text(self) -> str:
        """Return the rate with its interval, and the raw flags."""
        flags = ", ".join(f"{k}/{n}" for k, n in self.flagged) + " flagged"
        if self.rate is None:
            return flags
        text = f"{100 * self.rate:.1f}%"
        if self.harmful.lower is not None and self.harmful.upper is not None:
            text += f" ({100 * self.harmful.lower:.1f}-{100 * self.harmful.upper:.1f})"
        return f"{text}, {flags}"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration on every benchmark."""

    name: str
    line: str
    """What it shares with those that differ from it in the number of unsafe rows."""
    unsafe_rows: int | None
    seeds: int
    benchmarks: Mapping[str, BenchmarkFigures]


def efficiency(runs: Sequence[RunData]) -> list[Configuration]:
    """Return every configuration's figures: over all harmful prompts, then by suite, or suite and group where it has groups."""
    axes = _line_axes(runs)
    found = []
    for name, own in by_configuration(runs).items():
        line = " / ".join(own[0].labels[axis] for axis in axes if axis in own[0].labels)
        found.append(
            Configuration(
                name=name,
                line=line or "all runs",
                unsafe_rows=own[0].unsafe_rows,
                seeds=len(own),
                benchmarks=_benchmarks([run.verdicts for run in own]),
            )
        )
    return found


def lines_of(configurations: Sequence[Configuration]) -> dict[str, list[Configuration]]:
    """Return line -> its configurations by number of unsafe rows; empty where no line has two numbers to compare."""
    lines: dict[str, list[Configuration]] = {}
    for configuration in configurations:
        if configuration.unsafe_rows is not None:
            lines.setdefault(configuration.line, []).append(configuration)
    if all(len({c.unsafe_rows for c in own}) < 2 for own in lines.values()):
        return {}
    return {line: sorted(own, key=lambda c: c.unsafe_rows or 0) for line, own in lines.items()}


def benchmarks_table(configurations: Sequence[Configuration]) -> Table:
    """Return a line per configuration: its unsafe rows, then its figures on each benchmark; nothing where there is none."""
    benchmarks = list(dict.fromkeys(name for c in configurations for name in c.benchmarks))
    rows = []
    for c in configurations if benchmarks else ():
        figures = [c.benchmarks[name].text() if name in c.benchmarks else None for name in benchmarks]
        rows.append([c.name, c.seeds, None if c.unsafe_rows is None else f"{c.unsafe_rows:,}", *figures])
    return Table(["run", "seeds", "unsafe rows", *benchmarks], rows, about="Harmful answers by benchmark:")


def _line_axes(runs: Sequence[RunData]) -> list[str]:
    """Return the axes whose values differ between runs and are not the number of unsafe rows."""
    axes = dict.fromkeys(axis for run in runs for axis in run.labels)
    return [
        axis
        for axis in axes
        if axis not in ROW_AXES
        and len({run.labels.get(axis) for run in runs}) > 1
        and not all(run.labels.get(axis) == str(run.unsafe_rows) for run in runs)
    ]


def _benchmarks(runs: Sequence[Sequence[Verdict]]) -> dict[str, BenchmarkFigures]:
    by_benchmark: dict[str, list[dict[Key, Verdict]]] = {}
    for seed, verdicts in enumerate(runs):
        for verdict in verdicts:
            if verdict.tags.get(KIND) == "harmful":
                group = verdict.tags.get(GROUP)
                for name in (ALL, f"{verdict.suite}: {group}" if group else verdict.suite):
                    own = by_benchmark.setdefault(name, [{} for _ in runs])
                    own[seed][verdict.suite, group, verdict.id] = verdict
    if len(by_benchmark) == 2:  # a single one is all there is
        del by_benchmark[ALL]
    return {name: _figures(own) for name, own in by_benchmark.items()}


def _figures(seeds: Sequence[Mapping[Key, Verdict]]) -> BenchmarkFigures:
    def outcomes(metric: str) -> list[list[bool | None]]:
        asked = list(dict.fromkeys(key for verdicts in seeds for key in verdicts))
        return [[HOLDS[metric](own[key]) if key in own else None for key in asked] for own in seeds]

    harmful = outcomes("harmful")
    scored = [held for held in harmful[0] if held is not None]
    counts = [[held for held in own if held is not None] for own in outcomes("flagged")]
    return BenchmarkFigures(
        harmful=rate_over_seeds(harmful) if len(seeds) > 1 else Rate.of(sum(scored), len(scored)),
        flagged=tuple((sum(own), len(own)) for own in counts),
    )
