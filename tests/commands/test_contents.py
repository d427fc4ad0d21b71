"""What an evaluation is known by: changed by what its files hold, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steerclear.config import build
from steerclear.errors import DataError
from steerclear.experiments.run import Run
from steerclear.recipe.train import Recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe whose evaluation reads a file of every kind; its harm judge and its refusal detector are not fitted yet."""
    for name in ("asked", "left", "rows", "refusals", "labelled", "other.skops"):
        (tmp_path / name).write_text(json.dumps({"id": "1", "prompt": f"how ? ({name})"}) + "\n")
    for name in ("reward", "guard"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    file = {name: str(tmp_path / name) for name in ("rows", "refusals", "labelled", "reward", "guard")}
    evaluation = {
        "suites": [{"name": name, "path": str(tmp_path / name)} for name in ("asked", "left")],
        "judge": {"classifier": str(tmp_path / "judge.skops"), "fit_on": file["rows"], "labelled": file["labelled"]},
        "second_opinions": [
            {"classifier": str(tmp_path / "other.skops")},
            {"reward": {"model": file["reward"]}},
            {"guard": {"model": file["guard"], "family": "llama-guard"}},
        ],
        "refusal": {"model": str(tmp_path / "refusal.skops"), "fit_on": file["refusals"]},
    }
    return build(Recipe, {"output": str(tmp_path), "model": {"path": "base"}, "evaluation": evaluation})


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of the parts that differ, suites by their own."""
    parts = [{**each["prompts"], "judges": each["judges"]} for each in (before, after)]
    return [name for name in parts[0] if parts[0][name] != parts[1][name]]


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("asked", "asked"),
        ("rows", "judges"),
        ("labelled", "judges"),
        ("other.skops", "judges"),
        ("reward/config.json", "judges"),
        ("guard/config.json", "judges"),
        ("refusals", "judges"),
    ],
)
def test_other_contents_of_a_file_are_another_evaluation(recipe: Recipe, tmp_path: Path, file: str, part: str) -> None:
    before = Run(recipe).fingerprint()
    assert Run(recipe).fingerprint() == before
    (tmp_path / file).write_text(json.dumps({"id": "1", "prompt": "what else ?"}) + "\n")
    assert changed(before, Run(recipe).fingerprint()) == [part]


def test_the_first_use_of_a_judge_that_it_fits_changes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    before = Run(recipe).fingerprint()
    for name in ("judge.skops", "refusal.skops"):
        (tmp_path / name).write_bytes(b"fitted")
    assert Run(recipe).fingerprint() == before


def test_prompts_count_as_they_are_loaded(recipe: Recipe, tmp_path: Path) -> None:
    """White space and fields that no prompt is made of are not asked."""
    before = Run(recipe).fingerprint()
    (tmp_path / "asked").write_text('\n{"prompt": "how ? (asked)",   "id": "1", "note": "x"}\n')
    assert Run(recipe).fingerprint() == before


def test_a_judge_without_rows_is_known_by_its_file(recipe: Recipe, tmp_path: Path) -> None:
    """As it is used where the rows that it was fitted on stayed elsewhere."""
    (tmp_path / "rows").unlink()
    with pytest.raises(DataError, match=r"judge\.skops: cannot be read"):
        Run(recipe).fingerprint()
    found = []
    for content in (b"a", b"b"):
        (tmp_path / "judge.skops").write_bytes(content)
        found.append(Run(recipe).fingerprint())
    assert changed(*found) == ["judges"]
