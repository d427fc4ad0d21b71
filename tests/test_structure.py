"""What holds the project together: imports go one way, help is quick, what is shipped and documented works."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
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

LAYERS = (
    "errors", "records", "config", "sanitize", "table", "losses", "stats", "endpoint", "store", "data", "generation", "judges",
    "training", "evaluation", "attacks", "report", "review", "harvest", "recipe", "experiments", "api", "demo", "cli",
)  # fmt: skip
"""Parts of the package, from the ground up: each may import those before it, also in functions."""

MAY_TAKE_RECIPES = ("recipe", "experiments", "api", "cli")


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    """benchmarks/structure.py."""
    spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["structure"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def house(structure: ModuleType) -> Any:
    return structure.House.read(ROOT / "src")


def imported(tree: ast.Module) -> set[str]:
    """The parts of the package that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steerclear."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "steerclear":
            found |= {name.name for name in node.names} & set(LAYERS)
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("steerclear.")}
    return found


def test_imports_go_one_way(house: Any) -> None:
    parts = {name.split(".")[0] for name in house.modules} - {"", "__main__"}
    assert parts == set(LAYERS)
    upward = [
        f"{name} -> {part}"
        for name, module in house.modules.items()
        if name not in ("", "__main__")
        for part in imported(module.tree)
        if LAYERS.index(part) > LAYERS.index(name.split(".")[0])
    ]
    assert upward == []


def test_the_house_stays_small_enough_to_know(house: Any) -> None:
    """What was reached when these limits were set, and may not be lost; what was aimed at is in CONTRIBUTING."""
    assert len(house.longest_chain()) <= 15  # which also finds a cycle
    assert max(house.packages.values()) <= 0.13 * house.lines
    assert house.long_functions(80) == []
    recipes = [place for place in house.whole_recipes(("Recipe",)) if not place.startswith("experiments.run")]
    assert len(recipes) <= 16
    assert [place for place in recipes if place.split(".")[0] not in MAY_TAKE_RECIPES] == []
    assert house.lines <= 30_500
    assert len(house.modules) <= 215
    assert house.untyped() <= 165


COMMANDS = (
    "", "train", "evaluate", "attack", "compare", "sweep", "tune", "paper", "curve", "report", "generate", "import", "harvest",
    "contrast", "review", "judge", "judge fit", "merge", "demo", "doctor", "recipe show",
)  # fmt: skip


def test_help_of_every_command_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom steerclear.cli import app\n"
        f"for command in {COMMANDS}:\n"
        "    sys.argv = ['steerclear', *command.split(), '--help']\n"
        "    try: app()\n"
        "    except SystemExit as end: assert not end.code, command\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'scipy', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == len(COMMANDS)
    assert "--training.penalty_weight = 1.0" in done.stdout


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import steerclear, sys; assert 'torch' not in sys.modules; steerclear.objective_loss; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_readmes_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_llama: Any, tokenizer: Any
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [code] = [block for block in blocks if "SteerClearTrainer(" in block]
    monkeypatch.chdir(tmp_path)
    make_llama().save_pretrained("MODEL")
    tokenizer.save_pretrained("MODEL")
    rows = [{"prompt": "how do i wait ?", "completion": " then wait .", "label": i % 4 > 0} for i in range(16)]
    Dataset.from_list(rows).to_json("rows.jsonl")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    short = code.replace('output_dir="out"', 'output_dir="out", use_cpu=True, report_to="none", save_strategy="no"')
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


def test_the_readme_names_every_package_recipe_and_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = [f"{path.name}/" for path in SOURCE.iterdir() if (path / "__init__.py").exists()]
    named += [path.name for path in SOURCE.glob("*.py") if not path.name.startswith("__")]
    named += [path.name for path in (ROOT / "recipes").iterdir()] + [path.name for path in (ROOT / "docs").glob("*.md")]
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
