"""The commands as functions: the script of README as it stands there, mixtures of files and keywords, and lazy imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import steerclear
from steerclear.api import recipe_of
from steerclear.data import examples_folder
from steerclear.errors import ConfigError
from steerclear.generation.options import ModelOptions
from steerclear.recipe.train import Recipe
from steerclear.training.defaults import PAPER_DEFAULTS
from steerclear.training.options import LoraOptions

ROOT = Path(__file__).resolve().parents[1]


def test_names_load_nothing_heavy_before_they_are_used() -> None:
    script = (
        "import sys, steerclear\n"
        "functions = [name for name in steerclear.__all__ if name[0].islower() and name != 'objective_loss']\n"
        "assert all(callable(getattr(steerclear, name)) for name in functions)\n"
        "assert not {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules), 'heavy'\n"
        "assert callable(steerclear.train) and callable(steerclear.report)\n"
        "import steerclear.report.settings, steerclear.harvest.options\n"
        "assert callable(steerclear.report) and callable(steerclear.harvest)\n"
        "try: steerclear.report([], 'page.txt')\n"
        "except ValueError as error: assert 'output' in str(error), error\n"
        "else: raise AssertionError('no error')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_recipe_is_made_of_a_file_and_keywords(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "inputs: {base: null}\noutput: runs/a\nmodel: {path: '${base}'}\ndata: {benign: b.jsonl, seed: 1}\n"
    )
    made = recipe_of(
        Recipe,
        "train",
        file,
        {
            "base": Path("MODEL"),
            "data": {"seed": 2},
            "lora": LoraOptions(r=4),
            "training.max_steps": 3,
            "output": Path("o"),
        },
    )
    assert (made.model, made.data.benign, made.data.seed) == (ModelOptions(path="MODEL"), "b.jsonl", 2)
    assert (made.lora, made.training, made.output) == (LoraOptions(r=4), {"max_steps": 3}, "o")
    assert recipe_of(Recipe, "train", made, {}) is made
    assert recipe_of(Recipe, "train", made, {"model": "OTHER"}).model.path == "OTHER"


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        (3, {}, "recipe: got a int, expected a file"),
        (
            None,
            {"output": "o", "model": "m", "data": {"bening": "x"}},
            r"data\.bening: unknown key\. Did you mean 'benign'",
        ),
        ({"kind": "sweep"}, {}, "kind: got 'sweep', allowed: train"),
    ],
)
def test_wrong_settings_are_named(recipe: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(Recipe, "train", recipe, settings)


def test_the_script_of_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_llama: Any, tokenizer: Any
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [script] = [code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "steerclear.train(" in code]
    assert len([line for line in script.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make_llama().save_pretrained("MODEL")
    tokenizer.save_pretrained("MODEL")
    for name in ("recipes", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "prompts.jsonl").write_bytes((examples_folder() / "unsafe.jsonl").read_bytes())
    rows = [json.loads(line) for line in (examples_folder() / "unsafe.jsonl").read_text().splitlines()]
    labelled = [{"prompt": r["prompt"], "response": r["response"], "is_safe": False} for r in rows]
    labelled += [{"prompt": r["prompt"], "response": "No, that would be wrong.", "is_safe": True} for r in rows]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    # In small: two steps; the calls stay as they are.
    small = {"max_steps": 2, "use_cpu": True}
    monkeypatch.setattr("steerclear.training.defaults.PAPER_DEFAULTS", PAPER_DEFAULTS | small)
    exec(compile(script, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "mine" / "adapter" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "runs" / "mine" / "attacks.md").is_file()


def test_evaluate_generate_judge_and_merge(tmp_path: Path, make_llama: Any, tokenizer: Any) -> None:
    base = tmp_path / "base"
    make_llama().save_pretrained(base)
    tokenizer.save_pretrained(base)
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"id": "a", "prompt": "how do i bake bread ?"}\n{"id": "b", "prompt": "how do i wait ?"}\n')
    from steerclear.generation.options import GenerationOptions

    answers = steerclear.generate(
        base, prompts, tmp_path / "answers.jsonl", template="plain", generation=GenerationOptions(max_new_tokens=4)
    )
    assert [answer.id for answer in answers] == ["a", "b"]
    evaluated = steerclear.evaluate(
        model=str(base),
        output=tmp_path / "run",
        data={"template": "plain"},
        evaluation={"suites": [{"name": "p", "path": str(prompts)}], "generation": {"max_new_tokens": 4}},
        checkpoints=["base"],
    )
    assert evaluated.failed == {}
    assert evaluated.models["base"].scores.to_json() == json.loads((tmp_path / "run/base/scores.json").read_text())
