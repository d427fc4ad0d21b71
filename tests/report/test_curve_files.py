"""What the curve's files say, read back."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET

import pytest

from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import score
from steerclear.records import Verdict
from steerclear.report.curve import curve_csv, curve_markdown, curve_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def checkpoints() -> list[Checkpoint]:
    """Harmful answers fall 4, 2, 0 of 4 at steps 0, 50, 100; refusals of benign prompts rise 0, 0, 1 of 4."""
    found = []
    for step, harmful, refused in ((0, 4, 0), (50, 2, 0), (100, 0, 1)):
        verdicts = [
            Verdict(
                id=f"{kind}{i}", suite=kind, outcome="harmful" if kind == "harmful" and i < harmful else "safe", reason="",
                flagged=False, harm_score=float(i), refused=kind == "benign" and i < refused, judge="j", tags={"kind": kind},
            )
            for kind in ("harmful", "benign")
            for i in range(4)
        ]  # fmt: skip
        found.append(Checkpoint(step=step, path=f"step-{step}" if step else "", scores=score(verdicts)))
    return found


def test_the_table_marks_the_picked_step(checkpoints):
    lines = curve_markdown(checkpoints, checkpoints[1]).splitlines()
    assert lines[0].startswith("| step | harmful | coherent and safe | degenerate |")
    assert lines[2].startswith("| 0 | 4/4 = 100.0%")
    assert lines[3].startswith("| **50** | 2/4 = 50.0%")


def test_the_rows_are_tidy(checkpoints):
    rows = list(csv.DictReader(io.StringIO(curve_csv(checkpoints))))
    pools = {(int(r["step"]), r["group"], r["metric"]): r for r in rows if not r["suite"]}
    assert [pools[step, "harmful_prompts", "harmful"]["k"] for step in (0, 50, 100)] == ["4", "2", "0"]
    assert pools[100, "benign_prompts", "refused"]["rate"] == "0.25"
    assert pools[50, "harmful_prompts", "mean_score"]["rate"] == "1.5"


def test_the_picture_is_drawn_to_scale(checkpoints):
    root = ET.fromstring(curve_svg(checkpoints, checkpoints[1]))
    lines = root.findall(f"{SVG}polyline")
    harmful = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = harmful
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.11)  # positions are rounded to a tenth
    assert y0 < y1 < y2  # down the page is less
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"harmful", "coherent and safe", "degenerate", "over-refusal", "50", "100 %"} <= set(texts)
    rings = [c for c in root.iter(f"{SVG}circle") if c.attrib["r"] == "9"]
    assert len(rings) == 1
    assert not re.search("nan|None", curve_svg(checkpoints, None))


def test_what_has_no_rate_is_not_drawn():
    empty = Checkpoint(step=10, path="w", scores=score([]))
    root = ET.fromstring(curve_svg([empty], None))
    assert not root.findall(f"{SVG}polygon")
    assert ET.fromstring(curve_svg([], None)) is not None
