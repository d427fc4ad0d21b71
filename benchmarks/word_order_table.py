"""Count the table of `steerclear.judges.word_order` in documentation strings of Python and of installed packages.

    python benchmarks/word_order_table.py

Prints one row for each class of words, one number for each class that follows. Other versions of the packages give a few other
numbers. Only whole paragraphs of prose are read, each once.
"""

from __future__ import annotations

import ast
import math
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from steerclear.judges.word_order import CLASSES, CLAUSE, HIGHEST, LOWEST, WORD, classes_of, neighbours

PACKAGES = (
    *("sklearn", "scipy", "numpy", "torch", "transformers", "pandas", "matplotlib", "networkx", "sympy", "trl", "peft"),
    *("datasets", "accelerate", "skops", "typer", "rich"),
)
"""Packages under licences that allow any use."""
SMOOTHING = 2
"""Added to a pair's count and to the count that chance would give."""


def files() -> Iterator[Path]:
    """Yield the source files of Python itself and of the packages."""
    standard = Path(sysconfig.get_paths()["stdlib"])
    yield from (path for path in sorted(standard.rglob("*.py")) if "site-packages" not in path.parts)
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(folder).rglob("*.py"))


def paragraphs(path: Path) -> Iterator[str]:
    """Yield the paragraphs of prose in a file's documentation strings: ten words or more, no code."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                text = " ".join(paragraph.split())
                code = re.search(r"[`>|=_\\{}<\[\]#@]|::", text)
                if len(text.split()) >= 10 and text[0].isupper() and text.endswith(".") and not code:
                    yield text


def main() -> None:
    texts = {text for path in files() for text in paragraphs(path)}
    pairs: Counter[tuple[str, str]] = Counter()
    for text in sorted(texts):
        clauses = [classes_of(WORD.findall(part)) for part in CLAUSE.split(text)]
        pairs.update(neighbours([clause for clause in clauses if clause]))
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for (a, b), count in pairs.items():
        first[a] += count
        second[b] += count
    table = {}
    for a, b in product(CLASSES, CLASSES):
        chance = first[a] * second[b] / pairs.total()
        value = math.log((pairs[a, b] + SMOOTHING) / (chance + SMOOTHING))
        table[a, b] = min(HIGHEST, max(LOWEST, round(value)))
    print(f"{len(texts)} paragraphs, {sum(len(text.split()) for text in texts)} words")
    for a in CLASSES:
        print(f"{a:5s}", " ".join(f"{table[a, b]:2d}" for b in CLASSES))


if __name__ == "__main__":
    main()
