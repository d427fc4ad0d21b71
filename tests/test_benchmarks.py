"""The benchmarks run, and the page shows what they recorded."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [n for part in (value.values() if isinstance(value, dict) else value) for n in numbers(part)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        pytest.param("bench_losses.py", {"loss", "growth", "tiles"}, marks=pytest.mark.slow),
        pytest.param("bench_step.py", {"step", "packing"}, marks=pytest.mark.slow),
        ("bench_generate.py", {"generate"}),
        ("bench_report.py", {"report"}),
        pytest.param("bench_tune.py", {"tune"}, marks=pytest.mark.slow),
    ],
)
def test_a_smoke_run_prints_finite_rows_and_records_nothing(script: str, kinds: set[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")}
    rows = [json.loads(line) for line in run(script, "--smoke").splitlines() if line.startswith("{")]
    assert {row["kind"] for row in rows} == kinds
    assert all(math.isfinite(n) for row in rows for n in numbers(row))
    assert {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")} == before


def test_the_page_shows_the_recorded_results() -> None:
    run("page.py", "--check")


def test_the_reach_and_the_readmes_figures_are_those_of_the_record() -> None:
    """A large vocabulary on a CPU, head frozen."""
    lines = (BENCHMARKS / "results" / "losses-float32-cpu.jsonl").read_text(encoding="utf-8").splitlines()
    streamed = {
        row["objective"]: row
        for row in map(json.loads, lines)
        if row.get("arm") == "streamed" and row["head"] == "frozen" and row["vocabulary"] == 128_256
    }
    assert streamed["emd clipped"]["ratio_time"] <= 0.80
    assert streamed["emd cosine"]["ratio_time"] <= 0.80
    assert streamed["emd_bound"]["ratio_time"] <= 1.10
    assert all(row["ratio_memory"] <= 0.10 for row in streamed.values())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, objective in (("clipped EMD", "emd clipped"), ("EMD bound", "emd_bound"), ("the benign term", "nll")):
        row = streamed[objective]
        assert f"| {name} | {row['ratio_time']:.2f} | {row['ratio_memory']:.3f} |" in readme


@pytest.mark.parametrize("script", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_script_still_finds_what_it_imports(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Those too that no smoke run starts."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    if script == "draw_objectives":
        pytest.importorskip("matplotlib")
    assert importlib.import_module(script).__doc__


@pytest.fixture
def rank_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("rank_world")


def test_mislabelled_rows_take_the_place_of_unsafe_ones(rank_world: Any) -> None:
    cell = rank_world.Cell(objective="sft", settings={}, rows=20, noise=0.3)
    rows = rank_world.unsafe_and_other_rows(cell)
    unsafe = Counter(row.source for row in rows if not row.label)
    assert unsafe == {"demo/harmful": 14, "demo/benign": 6}
    assert len({row.id for row in rows}) == len(rows)


def test_a_ranking_pools_the_seeds_and_shows_each(rank_world: Any, tmp_path: Path) -> None:
    """Cells that are on disk are not run again, so this ends at once."""
    cells = [rank_world.Cell(objective="sft", settings={}, seed=seed, steps=3) for seed in range(2)]
    names = [
        "harmful", "safe", "degenerate", "benign right", "over-refusal",
        *(f"prefilled {words} {outcome}" for words in rank_world.WORDS for outcome in ("harmful", "safe")),
    ]  # fmt: skip
    for cell, count in zip(cells, (1, 3), strict=True):
        result = {"cell": dataclasses.asdict(cell), "counts": {name: [count, 4] for name in names}}
        (tmp_path / "cells").mkdir(exist_ok=True)
        (tmp_path / "cells" / cell.file).write_text(json.dumps(result))
    results = [rank_world.run_cell(cell, tmp_path) for cell in cells]
    row = rank_world.table(results, ("objective",)).splitlines()[2]
    half = "0.50 (0.22-0.78)"
    assert row == f"| sft | {half} | {half} | 0.25 / 0.75 |" + f" {half} |" * 3 + " 0.50 / 0.50 / 0.50 |" * 2


def test_the_reports_limits_and_documented_figures_are_those_of_the_record() -> None:
    lines = (BENCHMARKS / "results" / "report-cpu.jsonl").read_text(encoding="utf-8").splitlines()
    [row] = [row for row in map(json.loads, lines) if row["kind"] == "report"]
    assert (row["runs"], row["prompts"], row["words"]) == (20, 1000, 60)
    assert row["page_mib"] < 12
    assert row["made_cpu_seconds"] < 10
    assert row["opening_seconds"] < 2
    times = [row[f"{what}_seconds"] for what in ("made_cpu", "made", "opening", "first_opening")]
    shown = f"| {row['page_mib']:.1f} MiB | " + " | ".join(f"{seconds:.1f} s" for seconds in times) + " |"
    assert shown in (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
