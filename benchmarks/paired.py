"""Two families of runs of one comparison against each other, at every number of unsafe rows: paired on the same prompts.

    python benchmarks/paired.py runs/objectives-study --run recovered --baseline emd

Runs are folders ``FAMILY-ROWS/seed-N``, as `steerclear compare recipes/objectives_study.yaml` makes them. Where both have several
seeds, the interval of a difference is over seeds and prompts (`steerclear.stats.seeds`); with one seed it is of the prompts
alone (Wald, for paired shares). The p-value is the exact McNemar test on the first seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from steerclear.evaluation.differences import RESPECTS
from steerclear.evaluation.over_seeds import over_seeds
from steerclear.evaluation.scores import HOLDS
from steerclear.records import KIND, Verdict, read_records
from steerclear.stats.rates import mcnemar

SHOWN = ("harmful", "coherent and safe", "over-refusal")
"""Which of `RESPECTS`."""

Runs = dict[int, list[Verdict]]
"""Seed -> verdicts."""


def read_runs(folder: Path) -> Runs:
    """Return the verdicts of each seed that was evaluated."""
    return {
        int(scores.parent.name.removeprefix("seed-")): [
            verdict
            for file in sorted((scores.parent / "verdicts").glob("*.jsonl"))
            for verdict in read_records(file, Verdict)
        ]
        for scores in sorted(folder.glob("seed-*/scores.json"))
    }


def difference(runs: Runs, baseline: Runs, respect: str) -> tuple[float, float, float, float, float]:
    """Return the baseline's rate, the run's, and the difference with its 95 % interval, over the seeds that both have."""
    common = sorted(runs.keys() & baseline.keys())
    if len(common) > 1:
        of = {"baseline": {s: baseline[s] for s in common}, "run": {s: runs[s] for s in common}}
        base, own = (f for f in over_seeds(of) if f.metric == respect)
        assert own.difference is not None
        return base.rate.mean, own.rate.mean, own.difference.mean, own.difference.lower, own.difference.upper  # type: ignore[return-value]
    pairs = paired(runs[common[0]], baseline[common[0]], respect)
    n, only_run, only_baseline = len(pairs), pairs.count((True, False)), pairs.count((False, True))
    mean = (only_run - only_baseline) / n
    half = 1.96 * math.sqrt(max(0.0, only_run + only_baseline - n * mean * mean)) / n
    return sum(b for _, b in pairs) / n, sum(a for a, _ in pairs) / n, mean, mean - half, mean + half


def paired(run: Sequence[Verdict], baseline: Sequence[Verdict], respect: str) -> list[tuple[bool, bool]]:
    """Return whether it holds for the run and for the baseline, on the prompts that both have scored."""
    kind, metric = RESPECTS[respect]
    held = [
        {(v.suite, v.id): HOLDS[metric](v) for v in verdicts if v.tags.get(KIND) == kind}
        for verdicts in (run, baseline)
    ]
    mine, theirs = ({key: value for key, value in one.items() if value is not None} for one in held)
    return [(mine[key], theirs[key]) for key in mine if key in theirs]


def lines(folder: Path, run: str, baseline: str) -> Iterator[str]:
    """Yield the table's lines."""
    yield f"| unsafe rows | seeds | respect | {baseline} | {run} | difference | p |"
    yield "|---:|---:|---|---:|---:|---:|---:|"
    sizes = [path.name.rpartition("-")[2] for path in folder.glob(f"{run}-*")]
    for size in sorted(int(size) for size in sizes if size.isdecimal()):
        runs, others = (read_runs(folder / f"{name}-{size}") for name in (run, baseline))
        common = sorted(runs.keys() & others.keys())
        for respect in SHOWN if common else ():
            theirs, own, mean, lower, upper = difference(runs, others, respect)
            p = mcnemar(*zip(*paired(runs[common[0]], others[common[0]], respect), strict=True))
            rates = f"{theirs:.3f} | {own:.3f} | {mean:+.3f} ({lower:+.3f} to {upper:+.3f})"
            yield f"| {size} | {len(common)} | {respect} | {rates} | {p:.2g} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--baseline", required=True)
    given = parser.parse_args()
    print("\n".join(lines(given.folder, given.run, given.baseline)))


if __name__ == "__main__":
    main()
