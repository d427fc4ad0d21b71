"""Measure the house: lines, modules, packages, depth of imports, whole-recipe parameters, untyped dicts, long functions.

    python benchmarks/structure.py [SRC]

``tests/test_structure.py`` holds these figures to their limits.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "steerclear"

WHOLE_RECIPES = ("Recipe", "HarvestRecipe", "ContrastRecipe", "SweepRecipe", "TuneRecipe")
"""Trees of settings that only the code which runs whole commands should take."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """Dotted, without the package's own name; a package's ``__init__`` has the package's name."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        """Number of lines, blank ones and comments counted in."""
        return len(self.text.splitlines())

    def imports(self, known: set[str]) -> set[str]:
        """Return the modules of the package that importing this one imports; imports in functions and for types do not count."""
        found = set()
        for node in _run_at_import(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
                base = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
                for name in node.names:
                    inner = f"{base}.{name.name}" if base else name.name
                    found.add(inner if inner in known else base)
            elif isinstance(node, ast.Import):
                found |= {n.name.removeprefix(f"{PACKAGE}.") for n in node.names if n.name.startswith(f"{PACKAGE}.")}
        return {name for name in found if name in known and name != self.name}


def _run_at_import(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements that run when a module is imported, those in ``if``, ``try`` and ``with`` included."""
    found: list[ast.stmt] = []
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop()
        found.append(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.Try | ast.With):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


@dataclass(frozen=True)
class House:
    """All modules of the package."""

    modules: dict[str, Module]

    @classmethod
    def read(cls, source: Path) -> House:
        """Read the package in a source folder."""
        root = source / PACKAGE
        found = {}
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, file.read_text(encoding="utf-8"))
        return cls(found)

    @property
    def lines(self) -> int:
        """Lines of all modules."""
        return sum(module.lines for module in self.modules.values())

    @property
    def packages(self) -> Counter[str]:
        """Lines of each package; a module beside the packages is one of its own."""
        counts: Counter[str] = Counter()
        for name, module in self.modules.items():
            counts[name.split(".")[0]] += module.lines
        return counts

    @cached_property
    def graph(self) -> dict[str, set[str]]:
        """Module -> modules that its import imports."""
        return {name: module.imports(set(self.modules)) for name, module in self.modules.items()}

    def longest_chain(self) -> list[str]:
        """Return the longest chain of imports, from the outermost module in.

        Raises:
            ValueError: there is a cycle.
        """
        known: dict[str, list[str]] = {}

        def chain(name: str, above: tuple[str, ...]) -> list[str]:
            if name in above:
                raise ValueError(f"a cycle of imports: {' -> '.join([*above[above.index(name) :], name])}")
            if name not in known:
                below = (chain(other, (*above, name)) for other in sorted(self.graph[name]))
                known[name] = [name, *max(below, key=len, default=[])]
            return known[name]

        return max((chain(name, ()) for name in self.modules), key=len)

    def whole_recipes(self, kinds: tuple[str, ...] = WHOLE_RECIPES) -> list[str]:
        """Return ``module.function(parameter)`` of the parameters that take a whole recipe."""
        found = []
        for name, function in self._functions():
            for argument in _arguments(function):
                hint = "" if argument.annotation is None else ast.unparse(argument.annotation).strip("'\"")
                if hint.removesuffix(" | str | Path | None") in kinds:
                    found.append(f"{name}.{function.name}({argument.arg})")
        return found

    def untyped(self) -> int:
        """Return how often ``dict[str, Any]`` stands in the source."""
        return sum(module.text.count("dict[str, Any]") for module in self.modules.values())

    def long_functions(self, limit: int) -> list[str]:
        """Return the functions above so many lines, docstring counted in."""
        sizes = [(name, function, function.end_lineno or 0) for name, function in self._functions()]
        return [
            f"{name}.{function.name} ({end - function.lineno + 1})"
            for name, function, end in sizes
            if end - function.lineno + 1 > limit
        ]

    def _functions(self) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        return [
            (name, node)
            for name, module in self.modules.items()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def main() -> None:
    """Print the figures."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "src"
    house = House.read(source)
    chain = house.longest_chain()
    recipes = house.whole_recipes()
    print(f"modules {len(house.modules)}, lines {house.lines}")
    print("packages: " + ", ".join(f"{n} {c} ({c / house.lines:.1%})" for n, c in house.packages.most_common()))
    print(f"depth of imports {len(chain)}: {' -> '.join(chain)}")
    print(f"whole-recipe parameters {len(recipes)}: {', '.join(recipes)}")
    print(f"dict[str, Any] {house.untyped()}")
    print(f"functions above 80 lines: {', '.join(house.long_functions(80)) or 'none'}")


if __name__ == "__main__":
    main()
