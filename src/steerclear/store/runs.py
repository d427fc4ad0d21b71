"""A run is a folder. Its id hashes what changes results; a finished stage is never rerun."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, DataError
from steerclear.records import SCHEMA_VERSION, sha256_of, sha256_of_file, write_json, write_text

RECORD = "record.json"


@dataclass(frozen=True)
class RunFolder:
    """The places in a run's folder."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of an unfinished training."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained PEFT adapter."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The trained model, where all weights were trained."""
        return self.path / "model"

    def along(self, step: int) -> Path:
        """What was evaluated at a step of the training."""
        return self.path / "along" / f"step-{step}"

    def record(self) -> dict[str, Any]:
        """Return the run's record, empty for a new folder.

        Raises:
            DataError: the record is not JSON.
        """
        file = self.path / RECORD
        if not file.is_file():
            return {}
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{file}: not valid JSON. Remove the folder {self.path} or choose another output."
            ) from error

    def step(self) -> int | None:
        """Return the step that the trained weights are of, None before the training's end."""
        trained = self.record().get("stages", {}).get("train")
        if trained is None:
            return None
        # A guard that stopped the training kept the weights of an earlier step.
        return trained["guard"]["kept_step"] if trained.get("guard") else trained["steps"]

    def claim(self, identity: dict[str, Any], config_yaml: str) -> dict[str, Any]:
        """Begin or continue the run with this identity, and return its record.

        Raises:
            ConfigError: the folder holds another run; the message says what differs.
        """
        record, run_id = self.record(), sha256_of(identity)[:12]
        if record and record["id"] != run_id:
            known = record["identity"]
            differing = [key for key in known | identity if known.get(key) != identity.get(key)]
            raise ConfigError(
                f"output: {self.path} holds another run (id {record['id']}, this one is {run_id}; they differ in "
                f"{', '.join(differing) or 'version'}). Choose another output, or remove that folder."
            )
        if not record:
            record = {
                "id": run_id,
                "identity": identity,
                "schema": SCHEMA_VERSION,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "stages": {},
            }
            write_json(self.path / RECORD, record)
        write_text(self.path / "config.yaml", config_yaml)
        return record

    def finish(self, stage: str, result: dict[str, Any]) -> None:
        """Note that a stage is done, with its figures."""
        record = self.record()
        record["stages"][stage] = {**result, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(self.path / RECORD, record)


def model_fingerprint(path: str) -> str:
    """Return a hash of a model folder: its configuration and tokenizer whole, its weights by size and evenly taken slices.

    Training moves all weights, and large models would take minutes to read whole. A Hub name is returned as it is.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    parts = {
        file.name: _slices_of_file(file) if file.suffix in (".safetensors", ".model") else sha256_of_file(file)
        for file in sorted(folder.iterdir())
        if file.suffix in (".json", ".safetensors", ".model", ".jinja", ".txt")
    }
    return sha256_of(parts)


def _slices_of_file(file: Path, slices: int = 64, size: int = 2**20) -> str:
    whole = file.stat().st_size
    digest = hashlib.sha256(str(whole).encode())
    with file.open("rb") as content:
        for place in range(slices):
            content.seek(max(0, whole - size) * place // (slices - 1) if whole > slices * size else place * size)
            digest.update(content.read(size))
    return digest.hexdigest()


def model_identity(path: str, adapter: str | None, dtype: object) -> str:
    """Return what names a model's answers: the fingerprint of the model, of the adapter on it, and its weights' type."""
    return model_fingerprint(path) + (f"+{model_fingerprint(adapter)}" if adapter else "") + f" {dtype}"


def save_weights(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Save the adapter (or the whole model) in ``adapter`` (or ``model``) of the folder, and return that place.

    It is written beside its final place and renamed, so it is whole or absent.
    """
    target = folder / ("adapter" if hasattr(model, "peft_config") else "model")
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    _order_modules(unfinished / "adapter_config.json")
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return target


def _order_modules(config: Path) -> None:
    """Put the adapted layers in order: PEFT writes a set, so the same training would have another fingerprint each time."""
    if config.is_file():
        settings = json.loads(config.read_text(encoding="utf-8"))
        if isinstance(settings["target_modules"], list):  # else a pattern
            write_json(config, settings | {"target_modules": sorted(settings["target_modules"])})


def versions() -> dict[str, str]:
    """Return the versions of Python, the machine type and the packages that a result can depend on."""
    names = ("steerclear", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "scikit-learn")
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        n: metadata.version(n) for n in names
    }
