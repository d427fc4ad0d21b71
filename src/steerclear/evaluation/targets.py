"""What is evaluated: the run's own model, the base, another adapter or model, or an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import ConfigError
from steerclear.generation.model import LocalModel, Model, open_model
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.store.runs import RunFolder


@dataclass(frozen=True)
class EvalTarget:
    """A model with the folder of its results."""

    name: str
    path: str
    """Folder or Hub name of the model."""
    adapter: str | None
    folder: Path


def targets_of(model: ModelOptions, output: Path, checkpoints: Sequence[str]) -> list[EvalTarget]:
    """Return what ``--checkpoint`` names: ``final``, ``base``, a folder, or ``NAME=FOLDER``.

    Args:
        model: the recipe's.
        output: the run's folder.

    Raises:
        ConfigError: nothing was trained yet, or two have one name.
    """
    targets = [target_of(model, output, checkpoint) for checkpoint in checkpoints]
    twice = [name for name, count in Counter(target.name for target in targets).items() if count > 1]
    if twice:
        raise ConfigError(f"checkpoint: two are called '{twice[0]}'. Name them: --checkpoint NAME=FOLDER.")
    return targets


def target_of(model: ModelOptions, output: Path, checkpoint: str) -> EvalTarget:
    """Return one of them. A folder is an adapter for the recipe's model where it has an ``adapter_config.json``, else a model."""
    run = RunFolder(output)
    if model.endpoint is not None:
        if checkpoint != "final":
            raise ConfigError(f"checkpoint: got '{checkpoint}', but model.endpoint serves one model. Leave it out.")
        return EvalTarget("endpoint", model.endpoint.model, None, run.path)
    if checkpoint == "base":
        return EvalTarget("base", model.path, None, run.path / "base")
    if checkpoint == "final":
        return _trained(model, run)
    name, folder = _named(checkpoint)
    return target_in(model.path, folder, run.path / f"of-{name}", name)


def _named(checkpoint: str) -> tuple[str, str]:
    """Return name and folder of ``FOLDER``, ``NAME=FOLDER`` or ``NAME=owner/name``; a folder's own name may hold a ``=``."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint).resolve().name, checkpoint
    name, is_named, folder = checkpoint.partition("=")
    if not is_named:
        raise ConfigError(
            f"checkpoint: got '{checkpoint}', which is no folder. Give final, base, a folder, or NAME=FOLDER; an adapter on the "
            "Hub is NAME=owner/name."
        )
    if not name or "/" in name:
        raise ConfigError(f"checkpoint: got the name '{name}' in '{checkpoint}', allowed: a file name without slashes.")
    if not Path(folder).is_dir() and (not folder or folder.count("/") != 1 or folder.startswith((".", "/", "~"))):
        raise ConfigError(f"checkpoint: '{folder}', named {name}, is no folder. Check the path.")
    return name, folder


def target_in(base: str, folder: str, results: Path, name: str) -> EvalTarget:
    """Return the adapter or the model in a folder (or of a Hub name, then an adapter)."""
    if Path(folder).is_dir() and not (Path(folder) / "adapter_config.json").is_file():
        return EvalTarget(name, folder, None, results)
    return EvalTarget(name, base, folder, results)


def _trained(model: ModelOptions, run: RunFolder) -> EvalTarget:
    if model.adapter is not None:
        return EvalTarget("final", model.path, model.adapter, run.path)
    if run.model.is_dir():
        return EvalTarget("final", str(run.model), None, run.path)
    if run.adapter.is_dir():
        return EvalTarget("final", model.path, str(run.adapter), run.path)
    raise ConfigError(
        f"output: {run.path} has no trained model yet. Run 'steerclear train' with this recipe first, set model.adapter, or "
        "evaluate the base model with --checkpoint base."
    )


def open_target(source: ModelOptions, target: EvalTarget, decoding: GenerationOptions) -> Model:
    """Open what is evaluated.

    Args:
        source: the recipe's model, whose type of weights and endpoint hold for the target too.
        decoding: how answers are decoded where a call does not say.

    Raises:
        SteerClearError: the model cannot be loaded, or the endpoint's key is missing.
    """
    if source.endpoint is not None:
        return open_model(source, decoding)
    model = LocalModel(ModelOptions(path=target.path, adapter=target.adapter, dtype=source.dtype), decoding)
    _ = model.weights  # so that what is wrong with it shows now
    return model
