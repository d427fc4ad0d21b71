"""Puts the recorded results into docs/performance.md, and draws its picture.

    python benchmarks/page.py            # prints the tables of this machine's kind of device
    python benchmarks/page.py --fill     # puts the CPU's tables on the page and draws docs/performance.svg
    python benchmarks/page.py --check    # exits with 1 if the tables on the page are not those of the recorded results

A table stands between the lines ``<!-- NAME -->`` and ``<!-- end -->``; the text around it is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from measure import RESULTS
from steerclear.records import read_jsonl

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

Rows = dict[str, list[dict[str, Any]]]
"""Kind of row -> rows."""


def read_results(device: str) -> Rows:
    """Return all recorded rows of a device, ``cpu`` or ``gpu``, by kind."""
    rows: Rows = {}
    for path in sorted(RESULTS.glob(f"*-{device}.jsonl")):
        for _, row in read_jsonl(path):
            rows.setdefault(row["kind"], []).append(row | {"benchmark": path.stem.rpartition("-")[0]})
    return rows


def table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers and stand right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in body)])


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def _model(rows: list[dict[str, Any]]) -> str:
    """Return a line that names what was trained or asked."""
    return f"Measured: {', '.join(dict.fromkeys(r['model'] for r in rows))}.\n\n"


def losses(rows: Rows, head: str, shape: tuple[int, int, int]) -> str:
    """The losses at one size."""
    chosen = [
        r for r in rows["loss"] if r.get("head") == head and (r["tokens"], r.get("vocabulary"), r.get("width")) == shape
    ]
    order = list(dict.fromkeys(r["objective"] for r in chosen))
    heads = ("objective, implementation", "seconds", "20-80 %", "forward", "backward", "time / reference",
             "extra MiB", "memory / reference", "share of floor")  # fmt: skip
    return table(
        heads,
        (
            (
                f"{r['objective']}, {r['arm']}", number(r["seconds"], 3),
                f"{number(r['seconds_p20'], 3)}-{number(r['seconds_p80'], 3)}", number(r["forward_seconds"], 3),
                number(r["backward_seconds"], 3), number(r["ratio_time"]), number(r["extra_peak_mib"], 1),
                number(r["ratio_memory"], 3), f"{r['share_of_floor']:.0%}",
            )
            for r in sorted(chosen, key=lambda r: (order.index(r["objective"]), r["seconds"]))
        ),
    )  # fmt: skip


def floor(rows: Rows) -> str:
    """What a token must cost."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for r in rows["loss"]:
        if r["arm"] == "streamed" and r["vocabulary"] == 128_256:
            found.setdefault((r["objective"], r["head"]), r)
    return table(
        (
            "objective, head",
            "matrix products",
            "operations a token",
            "bytes a token",
            "streamed: share of the floor's speed",
        ),
        (
            (
                f"{objective}, head {head}",
                str(round(r["operations_per_token"] / (2 * r["vocabulary"] * r["width"]))),
                f"{r['operations_per_token'] / 1e6:,.0f} million",
                f"{r['bytes_per_token'] / 1e3:,.0f} thousand",
                f"{r['share_of_floor']:.0%}",
            )
            for (objective, head), r in found.items()
        ),
    )


def steps(rows: Rows) -> str:
    """The optimizer step."""
    return _model(rows["step"]) + table(
        ("rows to avoid, trainer", "seconds a step", "rows/s", "tokens/s", "time / TRL", "peak MiB", "peak / TRL",
         "above the start, MiB", "that / TRL"),
        (
            (
                f"{r['tuning']}, {r['unsafe_share']:.0%}, {r['arm']}", number(r["seconds"], 3), number(r["rows_per_second"], 1),
                number(r["tokens_per_second"], 0), number(r["ratio_time"]), number(r["peak_mib"], 0), number(r["ratio_peak"]),
                number(r["extra_mib"], 0), number(r["ratio_extra"]),
            )
            for r in rows["step"]
        ),
    )  # fmt: skip


def packing(rows: Rows) -> str:
    """Padded against packed."""
    return _model(rows["packing"]) + table(
        ("batches", "rows/s", "tokens/s", "rows/s / padded"),
        (
            (
                r["arm"],
                number(r["rows_per_second"], 1),
                number(r["tokens_per_second"], 0),
                number(r["ratio_rows_per_second"]),
            )
            for r in rows["packing"]
        ),
    )


def growth(rows: Rows) -> str:
    """The straight lines."""
    return table(
        ("objective, along", "at", "seconds", "seconds per thousand", "intercept", "R²"),
        (
            (
                f"{r['objective']}, {r['along']}", ", ".join(f"{x:,.0f}" for x in r["at"]),
                ", ".join(f"{s:.3g}" for s in r["seconds"]), f"{r['seconds_per_thousand']:.4g}", f"{r['intercept']:.3f}",
                f"{r['r_squared']:.4f}",
            )
            for r in rows["growth"]
        ),
    )  # fmt: skip


def tiles(rows: Rows) -> str:
    """Tile sizes."""
    return table(
        ("tokens x vocabulary", "seconds", "extra MiB"),
        ((r["tiles"], number(r["seconds"], 3), number(r["extra_peak_mib"], 1)) for r in rows["tiles"]),
    )


def generation(rows: Rows) -> str:
    """Answers a second."""
    return _model(rows["generate"]) + table(
        ("decoding", "prompts/s", "speed-up", "against", "identical answers"),
        (
            (
                r["arm"], number(r["prompts_per_second"], 1), number(r["speed_up"], 1), r["against"],
                f"{r['identical_answers']:.0%}",
            )
            for r in rows["generate"]
        ),
    )  # fmt: skip


def machines(rows: Rows) -> str:
    """Where and with what the results were measured."""
    shown = ("python", "torch", "transformers", "trl", "peft")
    return table(
        ("benchmark", "processor", "threads", "commit", "versions"),
        (
            (
                r["benchmark"], r["gpu"] or r["cpu"], str(r["threads"]),
                r["commit"] + (" + changes" if r["changed_files"] else ""),
                ", ".join(f"{name} {r['versions'][name]}" for name in shown),
            )
            for r in rows["machine"]
        ),
    )  # fmt: skip


LARGE, SMALL = (512, 128_256, 512), (2048, 4096, 256)

TABLES: dict[str, Callable[[Rows], str]] = {
    "floor": floor,
    "losses frozen": lambda rows: losses(rows, "frozen", LARGE),
    "losses trains": lambda rows: losses(rows, "trains", LARGE),
    "losses small": lambda rows: losses(rows, "frozen", SMALL),
    "losses bfloat16": lambda rows: losses(rows, "frozen", (512, 8192, 512)),
    "steps": steps,
    "packing": packing,
    "growth": growth,
    "tiles": tiles,
    "generation": generation,
    "machines": machines,
}


def filled(page: str, rows: Rows) -> str:
    """Return the page with every table made anew."""

    def fill(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n{TABLES[found[1]](rows)}\n<!-- end -->"

    return re.sub(r"<!-- ([\w ]+) -->\n.*?<!-- end -->", fill, page, flags=re.DOTALL)


def draw(rows: Rows, path: Path) -> None:
    """Draw time and memory of the losses as bars, streamed beside reference."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "steerclear"
    from matplotlib import pyplot

    chosen = [
        r
        for r in rows["loss"]
        if r.get("head") == "frozen"
        and (r["tokens"], r["vocabulary"], r["width"]) == LARGE
        and r["objective"] != "nlcl"
    ]
    objectives = list(dict.fromkeys(r["objective"] for r in chosen))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, key, title in zip(
        axes,
        ("seconds", "extra_peak_mib"),
        ("forward and backward, seconds", "extra memory at the peak, MiB"),
        strict=True,
    ):
        for offset, (arm, colour) in enumerate((("reference", "#b9b9b9"), ("streamed", "#2a6f97"))):
            values = [next(r[key] for r in chosen if r["objective"] == o and r["arm"] == arm) for o in objectives]
            bars = axis.barh([i + 0.4 * offset for i in range(len(objectives))], values, 0.38, label=arm, color=colour)
            axis.bar_label(bars, fmt=lambda v: f"{v:.2f}" if v < 10 else f"{v:,.0f}", padding=2, fontsize=8)
        axis.set_yticks([i + 0.2 for i in range(len(objectives))], objectives)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(title, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    figure.savefig(path, metadata={"Date": None})


def print_tables(rows: Rows) -> None:
    """Print every table that there are rows for."""
    # A row of an arm that failed has no head.
    measured = dict.fromkeys(
        (r["head"], (r["tokens"], r["vocabulary"], r["width"])) for r in rows["loss"] if "head" in r
    )
    for head, shape in measured:
        n, v, d = shape
        print(f"\nlosses, head {head}: N {n}, V {v}, D {d}\n{losses(rows, head, shape)}")
    makers = {
        "loss": floor,
        "step": steps,
        "packing": packing,
        "growth": growth,
        "tiles": tiles,
        "generate": generation,
        "machine": machines,
    }
    for kind, make in makers.items():
        if kind in rows:
            print(f"\n{make.__doc__}\n{make(rows)}")


def main() -> None:
    """Print, fill or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fill", action="store_true", help="put the CPU's tables on the page and draw its picture")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    arguments = parser.parse_args()
    device = "gpu" if torch.cuda.is_available() and not (arguments.fill or arguments.check) else "cpu"
    rows = read_results(device)
    if "loss" not in rows:
        sys.exit(f"{RESULTS.name}: no results of a {device}. Run benchmarks/bench_losses.py first.")
    if not (arguments.fill or arguments.check):
        print_tables(rows)
        return
    page = PAGE.read_text(encoding="utf-8")
    made = filled(page, rows)
    if arguments.fill:
        PAGE.write_text(made, encoding="utf-8")
        draw(rows, PAGE.with_suffix(".svg"))
    elif made != page:
        sys.exit(f"{PAGE.name}: a table differs from benchmarks/results. Run: python benchmarks/page.py --fill")


if __name__ == "__main__":
    main()
