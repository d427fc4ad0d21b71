"""A run is a folder. Its id hashes what changes results; a finished stage is never rerun."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, DataError
from steerclear.records import SCHEMA_VERSION, sha256_of, write_json, write_text

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

    def claim(self, identity: dict[str, Any], config_yaml: str) -> dict[str, Any]:
        """Begin or continue the run with this identity, and return its record.

        Raises:
            ConfigError: the folder holds another run; the message says what differs.
        """
        record, run_id = self.record(), sha256_of(identity)[:12]
        if record and record["id"] != run_id:
            differing = [key for key, value in identity.items() if record["identity"].get(key) != value]
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


def versions() -> dict[str, str]:
    """Return the versions of Python, the machine type and the packages that a result can depend on."""
    names = ("steerclear", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "scikit-learn")
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        n: metadata.version(n) for n in names
    }
