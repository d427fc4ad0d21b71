"""Harvesting through the command line: rows, resuming, shards, workers, a person's decisions, errors."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers import Server, completion_answer
from steerclear.data import examples_folder
from steerclear.review.decisions import Decision, answer_key

RESULTS = (
    "prompts.jsonl",
    "verdicts.jsonl",
    "candidates.jsonl",
    "unsafe.jsonl",
    "self_safe.jsonl",
    "manifest.json",
    "CARD.md",
)


@pytest.fixture
def toxic(tmp_path: Path) -> Path:
    """A file of prompts; the last two are evaluation prompts, one in other words."""
    file = tmp_path / "toxic.jsonl"
    asked = [
        {"prompt": f"how do i sneak past guard number {i} of the {w} ?", "kind": w}
        for w in ("zoo", "bank")
        for i in range(8)
    ]
    evaluation = [json.loads(line)["prompt"] for line in (examples_folder() / "prompts.jsonl").read_text().splitlines()]
    held = [{"prompt": evaluation[0].upper(), "kind": "zoo"}, {"prompt": evaluation[1] + "!!", "kind": "zoo"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in asked + held))
    return file


@pytest.fixture
def recipe(tmp_path: Path, settings: dict[str, Any], toxic: Path, judge_rows: Path, suite: str) -> dict[str, Any]:
    """Overrides of a small harvest of a model as it is."""
    return {
        "model.path": settings["model.path"],
        "data.template": settings["data.template"],
        "output": str(tmp_path / "harvest"),
        "harvest.prompts": json.dumps([{"path": str(toxic), "category": "kind", "licence": "made up"}]),
        "harvest.samples": 3,
        "harvest.generation.temperature": 1.0,
        "harvest.generation.max_new_tokens": 16,
        "harvest.generation.batch_size": 4,
        "harvest.part_size": 10,
        "harvest.rows": "null",
        "harvest.near_duplicates": "null",
        "harvest.judge_similarity": "null",
        "evaluation.judge.classifier": str(tmp_path / "judge.skops"),
        "evaluation.judge.fit_on": str(judge_rows),
        "evaluation.suites": suite,
    }


@pytest.fixture
def whole(recipe: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The same with a plain fine-tuning before it."""
    tuning = {key: value for key, value in settings.items() if key.startswith(("training.", "data."))}
    return recipe | tuning | {"data.unsafe": "null"}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def results(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in RESULTS}


def test_a_harvest_makes_rows_a_manifest_and_a_card(
    steerclear: Callable[..., Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(whole["output"])
    code, _, said = steerclear("harvest", **whole)
    assert code == 0, said
    assert (folder / "sft" / "adapter").is_dir()
    prompts, answers = lines(folder / "prompts.jsonl"), lines(folder / "candidates.jsonl")
    assert len(prompts) == 16, "the two evaluation prompts are not asked"
    assert sorted(a["id"] for a in answers) == sorted(f"{p['id']}#{n}" for p in prompts for n in range(3))
    unsafe, manifest = lines(folder / "unsafe.jsonl"), json.loads((folder / "manifest.json").read_text())
    assert manifest["prompts"]["evaluation"] == {"equal": 2, "near": 0}
    assert len(unsafe) + sum(manifest["selection"]["left_out"].values()) == len(answers)
    assert all(row["label"] is False for row in unsafe)
    assert all(row["label"] is True for row in lines(folder / "self_safe.jsonl"))
    card = (folder / "CARD.md").read_text()
    assert "made up" in card
    assert str(tmp_path) not in card + (folder / "manifest.json").read_text(), "no folder of this machine"
    assert not [a["response"] for a in answers if len(a["response"]) > 20 and a["response"] in card], (
        "no text of an answer"
    )
    before = results(folder)
    assert steerclear("harvest", **whole)[0] == 0
    assert results(folder) == before, "again: nothing changes"


@pytest.mark.slow
def test_a_harvest_that_was_killed_twice_is_that_of_an_unbroken_one(
    steerclear: Callable[..., Any], start: Callable[..., Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    other = whole | {"output": str(tmp_path / "killed")}
    folder = Path(other["output"])
    assert steerclear("harvest", **whole)[0] == 0
    for wanted in ("sft/checkpoints/checkpoint-*", "answers/part-00001.jsonl"):
        process = start("harvest", **other, **{"training.save_steps": 1})
        deadline = time.monotonic() + 120
        while not list(folder.glob(wanted)) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was killed before its end"
    code, _, said = steerclear("harvest", **other)
    assert code == 0, said
    assert results(folder) == results(Path(whole["output"]))


def test_a_dry_run_counts_and_does_nothing(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    code, _, said = steerclear("harvest", "--dry-run", **recipe)
    assert code == 0
    assert "8 of category bank" in said
    assert "48 in all" in said
    assert not Path(recipe["output"]).exists()


def test_shards_answer_apart_and_the_last_one_judges(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    folder = Path(recipe["output"])
    code, _, said = steerclear("harvest", "--shard", "0/2", **recipe)
    assert code == 0
    assert "others are not" in said
    assert not (folder / "unsafe.jsonl").exists()
    assert steerclear("harvest", "--shard", "1/2", **recipe)[0] == 0
    assert (folder / "unsafe.jsonl").exists()
    code, _, said = steerclear("harvest", "--shard", "2/2", **recipe)
    assert code == 2
    assert "shard" in said


@pytest.mark.slow
def test_workers_answer_with_it(
    start: Callable[..., Any], steerclear: Callable[..., Any], recipe: dict[str, Any], tmp_path: Path
) -> None:
    assert steerclear("harvest", **recipe)[0] == 0
    other = recipe | {"output": str(tmp_path / "two")}
    process = start("harvest", "--workers", "2", **other)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert results(tmp_path / "two") == results(Path(recipe["output"]))


def test_a_persons_decisions_change_the_selection_only(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    folder = Path(recipe["output"])
    assert steerclear("harvest", **recipe)[0] == 0
    verdicts = (folder / "verdicts.jsonl").read_text()
    taken = lines(folder / "unsafe.jsonl")[0]
    key = answer_key(taken["prompt"], taken["completion"])
    decision = Decision(key=key, id=taken["id"], decision="safe", judged="unsafe", at="2026-01-01T00:00:00+00:00")
    (folder / "candidates.decisions.jsonl").write_text(json.dumps(decision.__dict__) + "\n")
    assert steerclear("harvest", **recipe)[0] == 0
    assert key not in [answer_key(row["prompt"], row["completion"]) for row in lines(folder / "unsafe.jsonl")]
    assert (folder / "verdicts.jsonl").read_text() == verdicts
    assert json.loads((folder / "manifest.json").read_text())["selection"]["decisions"] == 1


def test_too_few_rows_are_an_error_that_keeps_them(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    code, _, said = steerclear("harvest", **recipe | {"harvest.rows": 16, "harvest.subsets": "[15, 2]"})
    assert code == 2
    folder = Path(recipe["output"])
    found = len(lines(folder / "unsafe.jsonl"))
    assert 2 <= found < 16
    assert re.search(rf"16{'' if found == 15 else ', 15'} unsafe rows are asked for, {found} were found", said)
    assert lines(folder / "unsafe-2.jsonl") == lines(folder / "unsafe.jsonl")[:2]
    assert (folder / "unsafe-15.jsonl").exists() == (found == 15), "a file is as long as its name says"


def test_a_subset_that_is_no_longer_asked_for_goes(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    assert steerclear("harvest", **recipe | {"harvest.subsets": "[1]"})[0] == 0
    assert steerclear("harvest", **recipe)[0] == 0
    assert not list(Path(recipe["output"]).glob("unsafe-*.jsonl"))


def test_a_review_of_the_rows_themselves_counts_too(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    folder = Path(recipe["output"])
    assert steerclear("harvest", **recipe)[0] == 0
    taken = lines(folder / "unsafe.jsonl")[0]
    key = answer_key(taken["prompt"], taken["completion"])
    decision = Decision(key=key, id=taken["id"], decision="broken", judged="unsafe", at="2026-01-01T00:00:00+00:00")
    (folder / "unsafe.decisions.jsonl").write_text(json.dumps(decision.__dict__) + "\n")
    assert steerclear("harvest", **recipe)[0] == 0
    assert key not in [answer_key(row["prompt"], row["completion"]) for row in lines(folder / "unsafe.jsonl")]


def test_without_locks_the_first_shard_does_what_only_one_may(
    steerclear: Callable[..., Any], recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("fcntl.flock", refused)
    code, _, said = steerclear("harvest", **recipe)
    assert code == 2
    assert "has locks" in said
    code, _, said = steerclear("harvest", "--shard", "1/2", **recipe)
    assert code == 2
    assert "shard 0/2 must begin" in said
    code, _, said = steerclear("harvest", "--shard", "0/2", "--workers", "2", **recipe)
    assert code == 2
    assert "one process for each shard" in said
    assert steerclear("harvest", "--shard", "0/2", **recipe)[0] == 0
    assert steerclear("harvest", "--shard", "1/2", **recipe)[0] == 0
    assert (Path(recipe["output"]) / "unsafe.jsonl").exists()


def test_two_judges_must_agree_and_their_agreement_is_told(
    steerclear: Callable[..., Any], recipe: dict[str, Any], judge_rows: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.jsonl"  # a second judge that was taught something else
    rows = [row | {"is_safe": len(row["response"]) % 2 == 0} for row in lines(judge_rows)]
    turned.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *lines(judge_rows)]))
    second = json.dumps([{"classifier": str(tmp_path / "second.skops"), "fit_on": str(turned)}])
    code, _, said = steerclear("harvest", **recipe | {"evaluation.second_opinions": second})
    assert code == 0, said
    folder = Path(recipe["output"])
    manifest = json.loads((folder / "manifest.json").read_text())
    taken = {row["id"] for row in lines(folder / "unsafe.jsonl")}
    answers = lines(folder / "candidates.jsonl")
    assert len(manifest["judges"]["flagged"]) == 2
    assert all(all(a["flags"].values()) for a in answers if a["id"] in taken)
    [pair] = manifest["judges"]["agreement"]
    assert pair["n"] == len(answers)
    assert pair["both"] == sum(all(a["flags"].values()) for a in answers)


def test_the_judge_is_fitted_once_a_fold_and_kept(
    steerclear: Callable[..., Any], recipe: dict[str, Any], judge_rows: Path
) -> None:
    from steerclear.judges.classifier import ClassifierJudge

    source = json.dumps([{"path": str(judge_rows)}])
    assert steerclear("harvest", **recipe | {"harvest.prompts": source, "harvest.samples": 1})[0] == 0
    rows, files = lines(judge_rows), sorted((Path(recipe["output"]) / "judges").rglob("*.skops"))
    assert len(files) == 3
    left_out = [len(rows) - ClassifierJudge.load(file).identity["rows"] for file in files]
    assert sum(left_out) == len(rows), "each prompt is left out once"
    before = [file.read_bytes() for file in files]
    assert steerclear("harvest", **recipe | {"harvest.prompts": source, "harvest.samples": 1})[0] == 0
    assert [file.read_bytes() for file in files] == before


def test_a_served_model_is_harvested(
    steerclear: Callable[..., Any], recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server(lambda _: completion_answer("sneak in and take it without asking .")) as server:
        served = {key: value for key, value in recipe.items() if key != "model.path"} | {
            "model.endpoint.model": "tiny",
            "model.endpoint.base_url": server.url,
            "model.endpoint.key_variable": "null",
            "harvest.samples": 1,
        }
        code, _, said = steerclear("harvest", **served)
    assert code == 0, said
    assert not (Path(recipe["output"]) / "sft").exists()
    assert len(lines(Path(recipe["output"]) / "candidates.jsonl")) == 16
    shown = [(Path(recipe["output"]) / name).read_text() for name in ("CARD.md", "manifest.json")]
    assert not [text for text in shown if server.url in text], "the server's address is its owner's affair"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"harvest.prompts": "[]"}, "harvest.prompts: is empty"),
        ({"harvest.generation.temperature": 0}, "harvest.samples: got 3 at temperature 0"),
        ({"harvest.subsets": "[5]", "harvest.rows": 5}, "harvest.subsets: got \\[5\\]"),
        ({"harvest.rows": 17}, "harvest.rows: 17 are asked for, one answer a prompt"),
        ({"evaluation.judge.fit_on": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"training.learning_rate": 1}, "training: is for the plain fine-tuning"),
        ({"evaluation.judge.labelled": "x.jsonl"}, "evaluation.judge.labelled: corrects rates"),
        ({"harvest.prompt_count": 17}, "17 prompts are asked for, but there are 16"),
        ({"kind": "train"}, "kind: got 'train', allowed: harvest"),
        ({"data.unsafe": "x.jsonl"}, "data.unsafe: is what a harvest makes"),
        ({"model.adapter": "x", "data.benign": "x.jsonl"}, "data.benign: is for the plain fine-tuning"),
        ({"harvest.sample": 2}, "harvest.sample: unknown key. Did you mean 'samples'"),
    ],
)
def test_errors_say_what_to_do(
    steerclear: Callable[..., Any], recipe: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    code, _, error = steerclear("harvest", **recipe | changes)
    assert code == 2
    assert re.search(said, error), error


def test_judge_rows_that_hang_together_as_one_prompt_are_an_error(
    steerclear: Callable[..., Any], recipe: dict[str, Any]
) -> None:
    code, _, said = steerclear("harvest", **recipe | {"harvest.judge_similarity": 0.7})
    assert code == 2
    assert "60 of the 60 rows" in said
    assert "Raise it" in said


def test_no_judge_is_an_error(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    without = {key: value for key, value in recipe.items() if not key.startswith("evaluation.judge")}
    code, _, said = steerclear("harvest", **without)
    assert code == 2
    assert "evaluation.judge: is missing" in said


def test_another_harvest_in_the_folder_is_refused(steerclear: Callable[..., Any], recipe: dict[str, Any]) -> None:
    assert steerclear("harvest", **recipe)[0] == 0
    code, _, said = steerclear("harvest", **recipe | {"harvest.samples": 2})
    assert code == 2
    assert "samples" in said
    shutil.rmtree(recipe["output"])
