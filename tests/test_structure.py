"""What holds the project together: imports go one way, help is quick, what is shipped and documented works."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from steerclear.config import build, load_tree
from steerclear.experiments.cells import cells_of
from steerclear.experiments.tune_trial import trial_recipe
from steerclear.harvest.contrast_recipe import ContrastRecipe
from steerclear.harvest.harvest_recipe import HarvestRecipe
from steerclear.recipe.sweep import SweepRecipe
from steerclear.recipe.train import Recipe, variants_of
from steerclear.recipe.tune import TuneRecipe
from steerclear.training.defaults import training_arguments

KINDS = {
    "train": Recipe,
    "sweep": SweepRecipe,
    "tune": TuneRecipe,
    "harvest": HarvestRecipe,
    "contrast": ContrastRecipe,
}
"""A recipe's ``kind`` -> what it is built into."""

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "steerclear"

ALLOWED = {
    "errors": set(),
    "records": {"errors"},
    "decisions": {"errors", "records"},
    "config": {"errors"},
    "losses": {"errors"},
    "models": {"errors"},
    "endpoint": {"errors"},
    "generation": {"errors", "records"},
    "endpoint_generation": {"errors", "records", "endpoint", "generation"},
    "judges": {"errors", "records", "endpoint"},
    "data": {"errors", "records"},
    "training": {"errors", "records", "losses", "data", "models"},
    "evaluation": {"errors", "records", "config", "judges", "data", "generation", "endpoint"},
    "attacks": {"errors", "records", "config", "evaluation", "judges", "data", "generation"},
    "report": {"errors", "records", "evaluation", "attacks"},
    "experiments": {"errors", "records", "config", "evaluation", "judges", "report"},
    "review": {"errors", "records", "decisions", "data", "report"},
    "harvest": {"errors", "records", "decisions", "data", "judges", "generation"},
    "commands": {
        "errors",
        "records",
        "decisions",
        "config",
        "models",
        "generation",
        "endpoint",
        "endpoint_generation",
        "judges",
        "data",
        "training",
        "evaluation",
        "report",
        "review",
        "harvest",
        "experiments",
        "attacks",
    },
    "demo": {"errors", "records", "models", "generation", "data", "training", "evaluation", "harvest"},
}
"""Part of the package -> the other parts it may import."""


def imported(path: Path) -> set[str]:
    """The parts of the package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steerclear."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("steerclear.")}
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part: str) -> None:
    files = [SOURCE / f"{part}.py"] if (SOURCE / f"{part}.py").exists() else sorted((SOURCE / part).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) - {part} <= ALLOWED[part], file


def test_every_part_has_a_rule() -> None:
    parts = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__", "__main__", "cli"} == set(ALLOWED)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "train",
        "evaluate",
        "attack",
        "compare",
        "sweep",
        "tune",
        "paper",
        "curve",
        "report",
        "generate",
        "import",
        "harvest",
        "contrast",
        "review",
        "judge",
        "judge fit",
        "merge",
        "demo",
        "doctor",
    ],
)
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; sys.argv = ['steerclear', *{command.split()}, '--help']\n"
        "from steerclear.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'scipy', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import steerclear, sys; assert 'torch' not in sys.modules; steerclear.objective_loss; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_readmes_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_llama: Any, tokenizer: Any
) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    make_llama().save_pretrained("MODEL")
    tokenizer.save_pretrained("MODEL")
    rows = [{"prompt": "how do i wait ?", "completion": " then wait .", "label": i % 4 > 0} for i in range(16)]
    Dataset.from_list(rows).to_json("rows.jsonl")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    short = code[1].replace('output_dir="out"', 'output_dir="out", use_cpu=True, report_to="none", save_strategy="no"')
    exec(compile(short, "README.md", "exec"), {})
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_complete_and_point_nowhere_outside(recipe: Path, tmp_path: Path) -> None:
    inputs = yaml.safe_load(recipe.read_text(encoding="utf-8")).get("inputs", {})
    arguments = [part for name in inputs for part in (f"--{name}", str(tmp_path / name))]
    tree = load_tree([str(recipe), *arguments])
    kind = KINDS[tree.get("kind", "train")]
    recipes = variants_of(tree) if tree.get("variants") else {"": build(kind, tree)}
    if kind is SweepRecipe:
        recipes = {cell.name: cell.recipe for cell in cells_of(build(SweepRecipe, tree))}
    if kind is TuneRecipe:
        search = build(TuneRecipe, tree)
        recipes = {str(values): trial_recipe(search, values, tmp_path) for values in search.corners()}
    for made in recipes.values():
        if not isinstance(made, ContrastRecipe):
            training_arguments(made.fine_tuning() if isinstance(made, HarvestRecipe) else made.setup)
    assert not re.search(r"(^|[\s\"':])(/|\.\./|~)", recipe.read_text(encoding="utf-8").replace("${data}/", ""))


def test_the_readme_names_every_module_and_every_recipe() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = [path.name for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    named += [path.name for path in (ROOT / "recipes").iterdir()] + [path.name for path in (ROOT / "docs").iterdir()]
    assert [name for name in named if name not in readme] == []


def test_committed_files_name_no_place_outside_the_project() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in files
        if Path(name).suffix in (".py", ".md", ".yaml", ".toml", ".txt")
    }
    home = str(Path.home())
    assert [name for name, text in texts.items() if f"{ROOT.parent}/" in text or f"{home}/" in text] == []
