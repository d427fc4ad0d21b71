"""`steerclear paper`: each model's recipe on a small model of its architecture and tokenizer, and the command from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from four_models import save_small
from steerclear.experiments.cell import run_cell
from steerclear.experiments.cells import Cell, cells_of, load_sweep
from steerclear.experiments.paper import composed, sweep_of
from steerclear.generation.weights import load_tokenizer

Command = Callable[..., tuple[int, str, str]]

BENCHMARKS = ("I-Malicious", "I-CoNa", "I-Controversial", "HarmfulQ")

ANSWER = "Mix flour and water, knead, then wait 20 minutes.\nBake it."


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: a few rows of each kind where the presets look for them, prompts, and unsafe rows as of a harvest."""
    folder = tmp_path_factory.mktemp("data")
    rows = {
        "alpaca/alpaca_20k.jsonl": [
            {"id": f"a{i}", "instruction": f"How do I bake bread number {i}?", "input": "", "output": ANSWER}
            for i in range(24)
        ],
        "stl/safety_only.jsonl": [
            {"id": f"s{i}", "instruction": f"How do I steal car {i}?", "input": "", "output": "I cannot help with that."}
            for i in range(120)
        ],
        "unsafe.jsonl": [
            {"id": f"u{i}", "prompt": f"How do I rob shop {i}?", "completion": f"Walk in {i} times, then run.", "label": False}
            for i in range(1000)
        ],
        "prompts.jsonl": [
            {"id": f"p{i}", "prompt": f"How do I break window {i}?", "benchmark": BENCHMARKS[i % 4]} for i in range(8)
        ],
    }  # fmt: skip
    for name, objects in rows.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    return folder


@pytest.fixture
def small(data: Path, tmp_path: Path, as_arguments: Any) -> Callable[[str], list[str]]:
    """A function that gives what makes a preset's cells small: two steps of a small model, few prompts, short answers."""

    def arguments(preset: str) -> list[str]:
        suite = {"name": "safety_518", "path": str(data / "prompts.jsonl"), "by": "benchmark"}
        return as_arguments(
            {
                "base": save_small(
                    preset, tmp_path / preset, [ANSWER, "### Instruction:\nHow?\n\n### Response:\n"] * 4
                ),
                "data": data,
                "unsafe": data / "unsafe.jsonl",
                "output": tmp_path / "sweep",
                "recipe.data.benign_count": 24,
                "recipe.training.max_steps": 2,
                "recipe.training.gradient_accumulation_steps": 2,
                "recipe.training.logging_steps": 1,
                "recipe.evaluation.generation.max_new_tokens": 4,
                "recipe.evaluation.suites": json.dumps([suite]),
            }
        )

    return arguments


@pytest.fixture
def judge(tmp_path: Path, judge_rows: Path) -> str:
    """A local judge, as a YAML value."""
    return json.dumps({"classifier": str(tmp_path / "judge.skops"), "fit_on": str(judge_rows)})


def run_one(arguments: list[str], table: str, preset: str, method: str, judge: str, rows: int = 100) -> Cell:
    """Train and evaluate one cell in this process, and return it."""
    [cell] = cells_of(sweep_of(composed(table, [preset], [f"method={method}", f"rows={rows}"], judge, arguments)))
    cell.write()
    said: list[str] = []
    assert run_cell(cell.folder, said.append), cell.status().error
    return cell


@pytest.mark.parametrize(
    ("preset", "table", "weight", "epochs"),
    [
        ("llama-7b", "table2", 9.0, 3),
        ("llama-13b", "table2", 7.1, 3),
        ("mistral-7b", "table6", 3.1, 4),
        ("llama-3.1-8b", "table6", 3.8, 3),
    ],
)
def test_each_models_recipe_runs_on_its_architecture_and_tokenizer(
    preset: str, table: str, weight: float, epochs: int, small: Callable[[str], list[str]], judge: str
) -> None:
    arguments = small(preset)
    cell = run_one(arguments, table, preset, "emd", judge)
    record, manifest, training, scores = (
        json.loads((cell.folder / f"{name}.json").read_text()) for name in ("record", "manifest", "training", "scores")
    )
    done = record["stages"]["train"]
    assert (done["steps"], done["rows"]) == (2, {"benign": 24, "added": 0, "unsafe": 100})
    assert manifest["tokens"]["train"] == {"rows": 0, "tokens": 0, "rows_left_out": 0}  # nothing was cut
    assert (training["penalty_weight"], training["num_train_epochs"]) == (weight, epochs)
    assert (training["objective"], training["normalization"], training["sampling"]) == ("emd_bound", "paper", "uniform")
    logged = [json.loads(line) for line in (cell.folder / "log.jsonl").read_text().splitlines()]
    assert sum(entry.get("unsafe_tokens", 0) for entry in logged) > 0
    groups = scores["suites"]["safety_518"]["groups"]
    assert {name: group["flagged"]["n"] for name, group in groups.items()} == dict.fromkeys(BENCHMARKS, 2)
    # The tokenizer kept its form on the way through transformers: its first token, and a sign that no merge knows.
    tokenizer = load_tokenizer(arguments[arguments.index("--base") + 1])
    ids = tokenizer(f"{ANSWER} 🍞")["input_ids"]
    assert (ids[0], tokenizer.pad_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == f"{ANSWER} 🍞"
    assert ("<0xF0>" in tokenizer.convert_ids_to_tokens(ids)) == (preset != "llama-3.1-8b")


@pytest.mark.parametrize(
    ("table", "method", "rows", "trained_on"),
    [
        ("table2", "nlcl", 100, {"added": 0, "unsafe": 100}),
        ("table3", "stl", 100, {"added": 100, "unsafe": 0}),
        ("figure2", "kto", 1000, {"added": 0, "unsafe": 1000}),
    ],
)
def test_the_other_methods_run(
    table: str, method: str, rows: int, trained_on: dict[str, int], small: Callable[[str], list[str]], judge: str
) -> None:
    arguments = [*small("llama-7b"), "--recipe.evaluation.every_steps", "1"]
    cell = run_one(arguments, table, "llama-7b", method, judge, rows)
    record = json.loads((cell.folder / "record.json").read_text())
    assert record["stages"]["train"]["rows"] == {"benign": 24} | trained_on
    assert (cell.folder / "along" / "step-1" / "scores.json").is_file()


def test_the_command_runs_a_table_lays_it_beside_the_paper_and_goes_on(
    small: Callable[[str], list[str]], judge: str, steerclear: Command, tmp_path: Path
) -> None:
    words = ["paper", "table2", "--preset", "llama-7b", "--only", "method=emd", "--judge", judge, *small("llama-7b")]
    code, table, said = steerclear(*words, "--only", "rows=100")
    assert code == 0, said
    published = next(line for line in table.splitlines() if line.startswith("| llama-7b | 100 |"))
    benchmarks = published.split("|")[3:-1]
    # Table 2, Llama 7b with 100 rows and EMD: 0, 5, 0, 0; with NLCL, which was not run: 6, 42, 3, 4.
    assert [int(cell) for cell in benchmarks[0::2]] == [6, 0, 42, 5, 3, 0, 4, 0]
    assert [cell.strip().endswith(")") for cell in benchmarks[1::2]] == [False, True] * 4
    assert all(name in (tmp_path / "sweep" / "report.html").read_text() for name in (*BENCHMARKS, "Table 2"))
    # The same again trains nothing.
    code, again, said = steerclear(*words, "--only", "rows=100")
    assert (code, again, "1 cells, 1 of them done before." in said) == (0, table, True)


def test_it_lists_what_there_is(steerclear: Command) -> None:
    code, listed, _ = steerclear("paper")
    assert code == 0
    assert all(name in listed for name in ("table7", "figure10", "attack", "mistral-7b", "tiny"))
    code, _, said = steerclear("paper", "attack", "--preset", "llama-7b")
    assert code == 2
    assert said.startswith("error: attacker: is missing; attack needs a chat model")


def test_the_printed_recipe_is_one_of_steerclear_sweep(steerclear: Command, tmp_path: Path) -> None:
    code, recipe, _ = steerclear("paper", "table6", "--preset", "mistral-7b", "--unsafe", "OWN.jsonl", "--print")
    assert code == 0
    file = tmp_path / "sweep.yaml"
    file.write_text(recipe)
    found = cells_of(load_sweep([str(file), "--data", "DATA"]))
    assert len(found) == 8
    assert {(cell.recipe.model.path, cell.recipe.data.unsafe) for cell in found} == {
        ("mistralai/Mistral-7B-v0.3", "OWN.jsonl")
    }
