"""All settings of all recipes, read out of the options' own classes: a JSON schema, a page, and the help of the commands.

    python -m steerclear.recipe.reference --write     # schema.json beside this file, and docs/settings.md

The schema is shipped, so that help needs no class that imports PyTorch. A test holds both files to the classes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.config import to_tree

Schema = dict[str, Any]

SCHEMA = Path(__file__).with_name("schema.json")
PAGE = Path(__file__).parents[3] / "docs" / "settings.md"

PAPER = {
    "lora.r": 8, "lora.alpha": 16, "lora.dropout": 0.05, "lora.target_modules": ["q_proj", "v_proj"], "data.template": "alpaca",
    "training.objective": "emd_bound", "training.avoid_tokens": "all", "training.normalization": "paper",
    "training.sampling": "uniform", "training.learning_rate": 1e-4, "training.num_train_epochs": 3,
    "training.per_device_train_batch_size": 3, "training.gradient_accumulation_steps": 32, "training.cost": "cosine",
}  # fmt: skip
"""Setting -> what the paper used, where that is another than the default or worth saying."""

TITLES = {
    "train": "`steerclear train`, `evaluate`, `attack`, `compare`, `curve`, `doctor`",
    "sweep": "`steerclear sweep`",
    "tune": "`steerclear tune`",
    "harvest": "`steerclear harvest`",
    "contrast": "`steerclear contrast`",
}
"""Kind of recipe -> heading of its part of the page."""

_INTRODUCTION = """# Settings

Generated from the options' own docstrings by `python -m steerclear.recipe.reference --write`; a test keeps it true.

Every setting stands in a recipe (YAML) or on the command line as `--section.name VALUE`. `steerclear recipe show RECIPE` prints
a recipe with all of them filled in. For editors there is a JSON schema, `steerclear/recipe/schema.json`: put
`# yaml-language-server: $schema=PATH` on a recipe's first line. A `[]` marks what stands in a list of sections. All other
arguments of `training` are those of
[TRL's SFTConfig](https://huggingface.co/docs/trl/sft_trainer) (KTOConfig for `objective: kto`).
"""

SHARED = ("evaluation", "lora", "data", "training", "model")
"""Sections that several kinds of recipe have; the page describes them once."""

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@dataclass(frozen=True)
class Setting:
    """One setting as help and page show it."""

    name: str
    """Dotted."""
    type: str
    default: str
    about: str
    is_section: bool


# ── from classes to schema ──


def recipe_classes() -> dict[str, type]:
    """Return kind -> class of its recipe."""
    from steerclear.harvest.contrast_recipe import ContrastRecipe
    from steerclear.harvest.harvest_recipe import HarvestRecipe
    from steerclear.recipe.sweep import SweepRecipe
    from steerclear.recipe.train import Recipe
    from steerclear.recipe.tune import TuneRecipe

    return {
        "train": Recipe, "sweep": SweepRecipe, "tune": TuneRecipe, "harvest": HarvestRecipe, "contrast": ContrastRecipe,
    }  # fmt: skip


def schema() -> Schema:
    """Return the JSON schema of all kinds of recipes; this needs the trainers' classes, and so PyTorch."""
    definitions: Schema = {}
    for kind, recipe in recipe_classes().items():
        definitions[kind] = _object(recipe, definitions)
    for kind in ("train", "harvest"):
        definitions[kind]["properties"]["training"] |= _training()
    kinds = [{"$ref": f"#/$defs/{kind}"} for kind in recipe_classes()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of steerclear",
        "anyOf": kinds,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: type, definitions: Schema) -> Schema:
    hints, about = typing.get_type_hints(kind), field_docs(kind)
    properties, required = {}, []
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        entry = _typed(hints[field.name], definitions)
        entry["description"] = about.get(field.name, "")
        if field.default is not dataclasses.MISSING:
            entry["default"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            made = field.default_factory()
            entry["default"] = to_tree(made) if dataclasses.is_dataclass(made) else made
        else:
            required.append(field.name)
        properties[field.name] = entry
    # An old name is allowed, and help does not speak of it.
    old = {name: {"deprecated": True} for name in getattr(kind, "RENAMED", {})}
    return {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").split("\n")[0],
        "properties": properties | old | ({"inputs": {"type": "object"}} if "output" in properties else {}),
        "required": [] if "output" in required else required,
        "additionalProperties": False,
    }


def _typed(hint: Any, definitions: Schema) -> Schema:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return {"anyOf": [_typed(one, definitions) for one in typing.get_args(hint)]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # reserved, should a section hold itself
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if typing.get_origin(hint) in (list, tuple):
        return {"type": "array", "items": _typed(typing.get_args(hint)[0], definitions)}
    if hint is dict or typing.get_origin(hint) is dict:
        return {"type": "object"}
    return {"type": _TYPES[hint]} if hint in _TYPES else {}


def _training() -> Schema:
    """Return the arguments of both trainers that are this package's own, or that it gives a default."""
    from steerclear.training.arguments import KtoBaselineConfig, SteerClearConfig
    from steerclear.training.defaults import OWN_DEFAULTS, PAPER_DEFAULTS

    defaults = PAPER_DEFAULTS | OWN_DEFAULTS
    properties: Schema = {}
    for config in (SteerClearConfig, KtoBaselineConfig):
        own = {
            name
            for base in config.__mro__
            if "steerclear" in base.__module__
            for name in vars(base).get("__annotations__", {})
        }
        for field in dataclasses.fields(config):
            if field.init and (field.name in own or field.name in defaults) and field.name not in properties:
                default = defaults.get(field.name, None if field.default is dataclasses.MISSING else field.default)
                about = " ".join(str(field.metadata.get("help", "")).split())
                properties[field.name] = {"description": about, "default": default}
    return {"properties": properties}


def field_docs(kind: type) -> dict[str, str]:
    """Return field -> the docstring under it, of a class and those that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            doc = below.value if isinstance(below, ast.Expr) else None
            if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(doc.value).split())
    return found


# ── from schema to text ──


def read_schema() -> Schema:
    """Return the shipped schema."""
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


def settings(whole: Schema, kind: str) -> Iterator[Setting]:
    """Yield a kind's settings, sections before what is in them; sections in lists are described once, with ``[]``."""
    yield from _settings(whole["$defs"], whole["$defs"][kind], "")


def _settings(definitions: Schema, node: Schema, prefix: str) -> Iterator[Setting]:
    for name, entry in node.get("properties", {}).items():
        if entry.get("deprecated") or (name == "inputs" and not prefix):
            continue
        inner, is_list = _section(definitions, entry)
        # A section's own defaults stand at its settings.
        default = (
            "" if "default" not in entry or inner is not None else json.dumps(entry["default"], ensure_ascii=False)
        )
        if name in node.get("required", ()):
            default = "(required)"
        yield Setting(f"{prefix}{name}", _type_text(entry), default, entry.get("description", ""), inner is not None)
        if inner is not None:
            yield from _settings(definitions, inner, f"{prefix}{name}{'[]' if is_list else ''}.")


def _section(definitions: Schema, entry: Schema) -> tuple[Schema | None, bool]:
    """Return the section that an entry is, or is a list of; None where it is none."""
    if "properties" in entry:
        return entry, False
    if "$ref" in entry:
        return definitions[entry["$ref"].rpartition("/")[2]], False
    if "items" in entry:
        return _section(definitions, entry["items"])[0], True
    found = [_section(definitions, one) for one in entry.get("anyOf", ())]
    return next((pair for pair in found if pair[0] is not None), (None, False))


def _type_text(entry: Schema) -> str:
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_type_text(one) for one in entry["anyOf"]))
    if "$ref" in entry or "properties" in entry:
        return "section"
    if entry.get("type") == "array":
        return f"list of {_type_text(entry.get('items', {}))}"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
    kind = str(entry.get("type", "any"))
    return names.get(kind, kind)


def help_text(kind: str, width: int = 100) -> str:
    """Return the settings of a kind of recipe for a command's help: name, default, and the first sentence about each."""
    lines = []
    for setting in settings(read_schema(), kind):
        if setting.name in ("kind", "variants", "seeds"):
            continue
        first = setting.about.split(". ")[0].replace("``", "").rstrip(".")
        if setting.is_section:
            lines += ["", textwrap.shorten(f"{setting.name}: {first}", width, placeholder=" ...")]
        else:
            default = f" = {setting.default}" if setting.default else ""
            lines.append(textwrap.shorten(f"--{setting.name}{default}  {first}", width, placeholder=" ..."))
    return "\n".join(lines)


def page(whole: Schema) -> str:
    """Return the reference page."""
    parts = [_INTRODUCTION]
    for kind, title in TITLES.items():
        rows = ["| setting | type | default | what it is | paper |", "|---|---|---|---|---|"]
        for setting in settings(whole, kind):
            top = setting.name.split(".")[0].removesuffix("[]")
            if kind != "train" and top in SHARED and setting.name != top:
                continue
            paper = (
                json.dumps(PAPER[setting.name], ensure_ascii=False) if kind == "train" and setting.name in PAPER else ""
            )
            cells = (
                f"`{setting.name}`",
                setting.type,
                f"`{setting.default}`" if setting.default else "",
                setting.about,
                paper,
            )
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append(f"\n## {title}\n\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def main() -> None:
    """Write the schema and the page, or say whether they are up to date."""
    whole = schema()
    files = {SCHEMA: json.dumps(whole, indent=1, ensure_ascii=False) + "\n", PAGE: page(whole)}
    if sys.argv[1:] == ["--write"]:
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
        return
    old = [file.name for file, text in files.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    sys.exit(f"out of date: {', '.join(old)}. Run python -m steerclear.recipe.reference --write" if old else 0)


if __name__ == "__main__":
    main()
