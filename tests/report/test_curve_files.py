"""What the curve's files say, read back."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import pytest

from steerclear.evaluation.curve import Checkpoint
from steerclear.evaluation.scores import score
from steerclear.records import Verdict
from steerclear.report.pictures import curve_figure, svg
from steerclear.report.tables import curve_csv, curve_markdown

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


def test_the_picture_shows_the_rates(checkpoints):
    by_step, plane = curve_figure(checkpoints, checkpoints[1]).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in by_step.lines}
    assert lines["harmful"] == [[0, 1.0], [50, 0.5], [100, 0.0]]
    assert lines["over-refusal"] == [[0, 0.0], [50, 0.0], [100, 0.25]]
    assert len(by_step.collections) == 4  # a band each
    path, ring = plane.lines
    assert path.get_xydata().tolist() == [[1.0, 0.0], [0.5, 0.0], [0.0, 0.25]]
    assert ring.get_xydata().tolist() == [[0.5, 0.0]]
    assert [note.get_text() for note in plane.texts] == ["0", "50", "100"]
    assert len(curve_figure(checkpoints, None).axes[1].lines) == 1


def test_the_picture_is_the_same_text_again(checkpoints):
    first, second = (svg(curve_figure(checkpoints, checkpoints[1])) for _ in range(2))
    assert first == second
    texts = {text.text for text in ET.fromstring(first).iter(f"{SVG}text")}
    assert {"harmful", "coherent and safe", "degenerate", "over-refusal", "100%"} <= texts


def test_what_has_no_rate_is_not_drawn():
    empty = Checkpoint(step=10, path="w", scores=score([]))
    by_step, plane = curve_figure([empty], None).axes
    assert not any(len(line.get_xydata()) for line in (*by_step.lines, *plane.lines))
    assert ET.fromstring(svg(curve_figure([], None))) is not None
