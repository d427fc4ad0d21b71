"""From YAML and ``--key value`` overrides to a tree of dataclasses. All problems are collected and raised together."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml

from steerclear.errors import ConfigError, DataError, did_you_mean

logger = logging.getLogger(__name__)

Tree = dict[str, Any]
Kind = TypeVar("Kind")

_PLAIN = (int, float, str, bool)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def load_yaml(path: Path) -> Tree:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: got a {type(value).__name__} at the top, expected names with values, like 'version: 1'."
        )
    return value


def parse_overrides(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Turn ``["--data.seed", "3", "--lora=null"]`` into ``[("data.seed", 3), ("lora", None)]``.

    Values are read as YAML, so lists and mappings work; ``1e-4`` is a number.

    Raises:
        ConfigError: an argument does not start with ``--`` or has no value.
    """
    pairs = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) == 2:
            raise ConfigError(f"argument: got '{argument}', expected --key value or --key=value.")
        key, equals, text = argument[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{key}: the value is missing.")
            text = rest.pop(0)
        pairs.append((key.replace("-", "_"), _value(text)))
    return pairs


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def merge(base: Tree, changes: Mapping[str, Any]) -> Tree:
    """Return ``base`` with ``changes`` laid over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def override(tree: Tree, pairs: Sequence[tuple[str, Any]], kind: type | None = None) -> Tree:
    """Return the tree with dotted keys set, e.g. ``("data.seed", 3)``.

    Args:
        kind: what the tree is built into, whose old names of keys are accepted. None: keys are taken as they are.

    Raises:
        ConfigError: a dotted key goes through something that is not a section.
    """
    for key, value in pairs:
        change = _nested(key, value)
        if kind is not None:
            change = new_names(kind, change)
        node: Any = tree
        for section in _sections(change, key.count(".")):
            node = node.get(section) if isinstance(node, dict) else None
            if node is not None and not isinstance(node, dict):
                raise ConfigError(f"--{key}: '{section}' is a value, not a section.")
        tree = merge(tree, change)
    return tree


def _nested(key: str, value: Any) -> Tree:
    *sections, last = key.split(".")
    return functools.reduce(lambda inner, section: {section: inner}, reversed(sections), {last: value})


def _sections(nested: Tree, depth: int) -> list[str]:
    """Return the names of the sections that a `_nested` value lies in."""
    names, node = [], nested
    for _ in range(depth):
        [(name, node)] = node.items()
        names.append(name)
    return names


def fill_inputs(tree: Tree, pairs: Sequence[tuple[str, Any]]) -> tuple[Tree, list[tuple[str, Any]]]:
    """Fill the recipe's own inputs: ``inputs: {base: null}`` and ``--base PATH`` replace ``${base}`` everywhere.

    Returns the tree without ``inputs`` and the pairs that were no inputs.

    Raises:
        ConfigError: an input has no value, or ``${name}`` is not declared under ``inputs``.
    """
    tree = dict(tree)
    inputs = dict(tree.pop("inputs", None) or {})
    rest = []
    for key, value in pairs:
        if key in inputs:
            inputs[key] = value
        else:
            rest.append((key, value))
    problems = [f"--{key}: this recipe needs a value for it." for key, value in inputs.items() if value is None]

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        return re.sub(r"\$\{(\w+)\}", replace, value) if isinstance(value, str) else value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in inputs:
            problems.append(f"${{{name}}}: not declared under inputs.{did_you_mean(name, inputs)}")
        return str(inputs.get(name))

    filled = fill(tree)
    raise_all(problems)
    return filled, rest


def raise_all(problems: Sequence[str]) -> None:
    """Raise one ConfigError with all problems, if there are any."""
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def build(kind: type[Kind], tree: Mapping[str, Any]) -> Kind:
    """Build a dataclass, with nested ones, from a mapping.

    Raises:
        ConfigError: unknown keys, missing keys, values of a wrong type, and whatever the dataclasses themselves refuse: all of
            them in one message, each with its dotted key.
    """
    problems: list[str] = []
    named = _named(kind, tree, "", functools.partial(_with_new_names, problems=problems))
    made = _build(kind, named, "", problems)
    raise_all(problems)
    return made


def build_record(kind: type[Kind], value: Any) -> Kind:
    """Build a dataclass from a value of JSON that this package wrote; see `build`.

    Raises:
        DataError: it is of another form; the message says what is wrong where.
    """
    if not isinstance(value, dict):
        raise DataError(f"got a JSON {type(value).__name__}, expected an object.")
    problems: list[str] = []
    made = _build(kind, value, "", problems)
    if problems:
        raise DataError(" ".join(problems))
    return made


def build_file(kind: type[Kind], path: Path) -> Kind:
    """Build a dataclass from a YAML file; see `load_yaml` and `build`. Every problem is named with the file."""
    tree = load_yaml(path)
    try:
        return build(kind, tree)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


def build_from(kind: type[Kind], arguments: Sequence[str]) -> Kind:
    """Build a dataclass from ``--key value`` arguments alone; see `parse_overrides` and `build`."""
    return build(kind, override({}, parse_overrides(arguments), kind))


def _build(kind: Any, tree: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    hints, fields = _fields(kind)
    known = len(problems)
    for key in tree:
        if key not in fields:
            problems.append(
                f"{where}{key}: unknown key.{did_you_mean(str(key), fields) or ' Allowed: ' + ', '.join(fields) + '.'}"
            )
    values = {
        key: _convert(hints[key], value, f"{where}{key}", problems) for key, value in tree.items() if key in fields
    }
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in tree:
            problems.append(f"{where}{name}: is missing; it has no default.")
    if len(problems) > known:
        return None
    try:
        return kind(**values)
    except ConfigError as error:
        problems.extend(f"{where}{line}" for line in str(error).splitlines())
        return None


@dataclasses.dataclass(frozen=True)
class PartOf:
    """Marks a mapping, as ``Annotated[dict[str, Any], PartOf(Recipe)]``, that is laid over a tree of that kind elsewhere."""

    kind: type
    below: int = 0
    """How many levels of free names, such as those of variants, stand above such mappings."""


def new_names(kind: type, tree: Mapping[str, Any]) -> Tree:
    """Return the tree with the present names of keys, at any depth, in place of the old ones that ``RENAMED`` of options list.

    Trees that are laid over each other must have present names, or one setting would stand in the result under both.

    Raises:
        ConfigError: a setting is given by both names.
    """
    problems: list[str] = []
    renamed = _named(kind, tree, "", functools.partial(_with_new_names, problems=problems))
    raise_all(problems)
    return renamed


def old_names(kind: type, tree: Mapping[str, Any]) -> Tree:
    """Return a part of a tree with old names of renamed keys, for hashes: what `identity_tree` is for what is built."""
    return _named(kind, tree, "", lambda part, own, _: with_old_names(own, getattr(part, "RENAMED", {})))


def _with_new_names(kind: type, tree: Mapping[str, Any], where: str, problems: list[str]) -> Tree:
    return with_new_names(tree, getattr(kind, "RENAMED", {}), where, problems)


def with_old_names(tree: Mapping[str, Any], renamed: Mapping[str, str]) -> Tree:
    """Return a tree with its own keys by their old names: the way back from `with_new_names`."""
    old = {new: old for old, new in renamed.items()}
    return {old.get(key, key): value for key, value in tree.items()}


def _named(hint: Any, value: Any, where: str, rename: Callable[[Any, Mapping[str, Any], str], Tree]) -> Any:
    """Return the value with every mapping renamed that is, or will be, an options class."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        for one in arguments:
            value = _named(one, value, where, rename)
    elif isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        kind: Any = hint
        hints = _marked_hints(kind)
        inner = {key: _named(hints.get(key), own, f"{where}{key}.", rename) for key, own in value.items()}
        return rename(kind, inner, where)
    elif isinstance(value, Mapping) and origin is Annotated and isinstance(arguments[1], PartOf):
        part = arguments[1]
        if not part.below:
            return _named(part.kind, value, where, rename)
        nearer = Annotated[Any, PartOf(part.kind, part.below - 1)]
        return {key: _named(nearer, own, f"{where}{key}.", rename) for key, own in value.items()}
    elif isinstance(value, list | tuple) and origin in (list, tuple):
        return [_named(arguments[0], own, f"{where[:-1]}[{place}].", rename) for place, own in enumerate(value)]
    return value


@functools.cache
def _marked_hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields with their marks, by old names too."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return hints | {old: hints.get(new) for old, new in getattr(kind, "RENAMED", {}).items()}


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def with_new_names(tree: Mapping[str, Any], renamed: Mapping[str, str], where: str, problems: list[str]) -> Tree:
    """Return the tree with old names of keys replaced by their new ones, and tell the user once of each.

    Args:
        renamed: old name -> new name.
        where: the section's dotted name with a dot at its end, or nothing.
    """
    new = dict(tree)
    for old in renamed.keys() & tree.keys():
        name = renamed[old]
        if name in tree:
            problems.append(
                f"{where}{old}: is the old name of {where}{name}, which is given too. Leave the old one out."
            )
        new = {name if key == old else key: value for key, value in new.items()}
        _notice_old_name(f"{where}{old}", f"{where}{name}")
    return new


@functools.cache
def _notice_old_name(old: str, new: str) -> None:
    logger.warning("%s: is now called %s; the old name still works. Rename it in your recipe.", old, new)


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return the types and the fields that a dataclass takes, by name."""
    return typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind) if f.init}


def _convert(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Return the value as the hint wants it; note a problem where it is not."""
    if hint is Any or (type(value) is hint and hint in _PLAIN):
        return value
    if _is_union(hint):
        return _convert_union(typing.get_args(hint), value, where, problems)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return _build(hint, value, f"{where}.", problems)
        return _refuse(value, "a section with keys", where, problems)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, tuple):
        if isinstance(value, list | tuple):
            items = [_convert(arguments[0], item, f"{where}[{i}]", problems) for i, item in enumerate(value)]
            return origin(items)
        return _refuse(value, "a list", where, problems)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            return _refuse(value, "a mapping", where, problems)
        of = arguments[1] if arguments else Any
        return {key: _convert(of, item, f"{where}.{key}", problems) for key, item in value.items()}
    return _convert_scalar(hint, value, where, problems)


def _convert_scalar(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    # YAML 1.1 reads 1e-4 as text, and True is an int to Python.
    if hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return _refuse(value, names.get(hint, hint.__name__), where, problems)


def _convert_union(hints: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> Any:
    if value is None and type(None) in hints:
        return None
    if type(value) in hints and type(value) in _PLAIN:
        return value
    attempts = []
    for hint in hints:
        if hint is type(None):
            continue
        trial: list[str] = []
        made = _convert(hint, value, where, trial)
        if not trial:
            return made
        attempts.append(trial)
    if len(attempts) == 1 or (isinstance(value, Mapping) and all(map(dataclasses.is_dataclass, hints))):
        nearest = min(attempts, key=len)  # of several sections the one that is meant lacks least
        problems.extend(nearest)
    else:
        problems.append(f"{where}: got {value!r}, which fits none of its forms.")
    return None


def _refuse(value: Any, expected: str, where: str, problems: list[str]) -> None:
    problems.append(f"{where}: got {value!r}, expected {expected}.")


def to_tree(value: Any) -> Any:
    """Return a dataclass as plain mappings and lists, ready for YAML."""
    return dataclasses.asdict(value)


def check_kind(tree: Tree, kind: str) -> None:
    """Refuse a recipe of another command before its keys are looked at.

    Raises:
        ConfigError: the tree's ``kind``, where it has one, is another.
    """
    found = tree.get("kind", kind)
    if found != kind:
        raise ConfigError(
            f"kind: got {found!r}, allowed: {kind} for this command. Recipes are run by the command of their kind."
        )


def load_tree(arguments: Sequence[str], kind: type | None = None) -> Tree:
    """Return the recipe as a tree, its inputs filled and the overrides laid over it.

    Args:
        kind: what the tree is built into, whose old names of keys are accepted. None: keys are taken as they are.
    """
    tree: Tree = {}
    if arguments and not arguments[0].startswith("--"):
        tree, arguments = load_yaml(Path(arguments[0])), arguments[1:]
    tree, pairs = fill_inputs(tree, parse_overrides(arguments))
    return override(tree if kind is None else new_names(kind, tree), pairs, kind)


def identity_tree(value: Any) -> Any:
    """Return a dataclass as `to_tree` does, but with old names of renamed keys: for hashes, which a new name must not change."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {field.name: identity_tree(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return with_old_names(tree, getattr(value, "RENAMED", {}))
    if isinstance(value, list | tuple):
        return [identity_tree(item) for item in value]
    return {key: identity_tree(item) for key, item in value.items()} if isinstance(value, dict) else value


def dump_yaml(tree: Tree) -> str:
    """Return the tree as YAML text, keys in their own order."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)
