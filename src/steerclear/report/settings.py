"""What runs were made by: settings, data and versions as dotted names and text, without a folder's name; and how runs differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from steerclear.evaluation.results import EVALUATION
from steerclear.records import read_json
from steerclear.report.run_data import RunData
from steerclear.store.runs import RunFolder
from steerclear.table import NO_VALUE, Table

TRAINING = (
    "objective", "penalty_weight", "cost", "avoid_tokens", "avoid_first_k", "normalization", "sampling", "unsafe_share",
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "max_length", "seed",
)  # fmt: skip
"""Arguments of the training that are shown also where the recipe leaves them to their defaults."""

LEFT_OUT = ("output", "variants", "kind", "seeds", "evaluation.judge_cache")
"""Settings that change no figure."""

PLACES = (
    "path", "adapter", "benign", "unsafe", "added", "extra", "data", "card", "classifier", "fit_on", "labelled", "model",
    "reference", "template",
)  # fmt: skip
"""Last parts of the names of settings that may be a file or a folder."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.json)(?<!\.jsonl)(?<!\.skops)(?<!\.yaml)(?<!\.txt)")

FILE = " file "
"""In the name of a setting about a file of rows, between its part of the data and the file's name."""

HASH_LENGTH = 12
"""Characters of a hash that are shown."""


def settings_of(run: RunFolder) -> dict[str, str]:
    """Return a trained run's settings from ``config.yaml``, ``training.json``, ``record.json`` and ``manifest.json``.

    How it was evaluated is in `EVALUATION`; scores of a version that wrote no such file have none of these settings.
    """
    record, manifest = run.record(), json_or_empty(run.path / "manifest.json")
    if not record:
        return {}
    trained = record.get("stages", {}).get("train", {})
    shown: dict[str, Any] = {
        "run.id": record.get("id"),
        "run.started": record.get("started"),
        "run.steps": trained.get("steps"),
        "run.training_seconds": trained.get("seconds"),
        "model.fingerprint": _hash(record.get("identity", {}).get("model", "")),
    }
    tree = _yaml(run.path / "config.yaml") | {"evaluation": _yaml(run.path / EVALUATION)}
    if "model" in tree and len(record["identity"]["model"]) == 64:
        # With a fingerprint the model is a folder, and no name on the Hub, which may look alike.
        tree["model"] |= {"path": PurePath(tree["model"]["path"]).name}
    arguments = json_or_empty(run.path / "training.json")
    shown |= {f"training.{name}": arguments[name] for name in TRAINING if name in arguments}
    shown |= {name: value for name, value in _flat(tree).items() if not name.startswith(LEFT_OUT)}
    shown |= _sources(manifest.get("sources", ()))
    shown |= {f"rows.{part}": f"{count} (sha256 {_hash(manifest['sha256'][part])})" for part, count in _rows(manifest)}
    shown |= {f"versions.{name}": version for name, version in record.get("versions", {}).items()}
    return {name: _text(name, value) for name, value in shown.items() if value not in (None, "", [], {})}


def objective_of(run: RunFolder) -> str:
    """Return how a run was trained, in a word or two."""
    identity, arguments = run.record().get("identity", {}), json_or_empty(run.path / "training.json")
    if arguments.get("penalty_weight") == 0:
        return "plain fine-tuning"
    return str(identity.get("training", {}).get("objective") or arguments.get("objective") or NO_VALUE)


def _sources(sources: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return what was read of every file of rows; files of one name, which lie in different folders, are numbered."""
    shown: dict[str, str] = {}
    times: Counter[tuple[str, str]] = Counter()
    for source in sources:
        role, name = source["role"], source["name"]
        times[role, name] += 1
        number = f" {times[role, name]}" if times[role, name] > 1 else ""
        shown[f"data.{role}{number}{FILE}{name}"] = (
            f"{_hash(source['sha256'])}, {source['rows_kept']} of {source['rows_read']} rows"
        )
    return shown


def _rows(manifest: dict[str, Any]) -> list[tuple[str, int]]:
    return [(part, count) for part, count in manifest.get("rows", {}).items() if count]


def json_or_empty(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file; nothing where there is none."""
    return read_json(file) if file.is_file() else {}


def _yaml(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _hash(digest: str) -> str:
    return digest[:HASH_LENGTH] if len(digest) == 64 else digest


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return a tree's leaves by dotted name; lists of sections by their names or numbers."""
    if isinstance(tree, dict):
        parts = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(value, dict) for value in tree):
        parts = [
            (str(value.get("name", n)) if isinstance(value, dict) else str(n), value) for n, value in enumerate(tree)
        ]
    else:
        return {prefix: tree}
    return {k: v for key, value in parts for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}


def _text(name: str, value: Any) -> str:
    """Return a setting's value as text; a path as its last part, as other machines have other folders."""
    if isinstance(value, list):
        return ", ".join(_text(name, part) for part in value)
    if not isinstance(value, str):
        return json.dumps(value)
    is_place = name.rpartition(".")[2] in PLACES and not _HUB_NAME.fullmatch(value)
    return PurePath(value).name if is_place or PurePath(value).is_absolute() else value


def differing_table(runs: Sequence[RunData]) -> Table:
    """Return a line per run: the settings in which runs differ. Runs without settings, such as a base model, are left out."""
    known = [run for run in runs if run.settings]
    names = _differing(known)
    rows = [[run.name, *map(run.settings.get, names)] for run in known if names]
    return Table(["run", *names], rows, names=None, about="What differs between the runs:")


def shared_settings(runs: Sequence[RunData]) -> dict[str, str]:
    """Return name and value of what all runs have alike."""
    known = [run for run in runs if run.settings]
    differing = _differing(known)
    return {name: value for name, value in known[0].settings.items() if name not in differing} if known else {}


def _differing(runs: Sequence[RunData]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if len({run.settings.get(name) for run in runs}) > 1]
