"""What is evaluated: the run's own model, the base, another adapter or model, or an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steerclear.errors import ConfigError
from steerclear.generation.model import Model, open_model
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.store.runs import RunFolder


@dataclass(frozen=True, kw_only=True)
class EvalTarget:
    """A model with the folder of its results."""

    name: str
    model: ModelOptions
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
    """Return one of them; arguments and errors as for `targets_of`."""
    if model.endpoint is not None:
        if checkpoint != "final":
            raise ConfigError(f"checkpoint: got '{checkpoint}', but model.endpoint serves one model. Leave it out.")
        return EvalTarget(name="endpoint", model=model, folder=output)
    if checkpoint == "base":
        return EvalTarget(name="base", model=replace(model, adapter=None), folder=output / "base")
    if checkpoint == "final":
        return EvalTarget(name="final", model=_trained(model, RunFolder(output)), folder=output)
    name, folder = _named(checkpoint)
    return EvalTarget(name=name, model=model_in(model, folder), folder=output / f"of-{name}")


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


def model_in(base: ModelOptions, folder: str) -> ModelOptions:
    """Return what lies in a folder: an adapter for the base where it has an ``adapter_config.json``, else a model.

    A Hub name is an adapter's.
    """
    if Path(folder).is_dir() and not (Path(folder) / "adapter_config.json").is_file():
        return replace(base, path=folder, adapter=None)
    return replace(base, adapter=folder)


def _trained(model: ModelOptions, run: RunFolder) -> ModelOptions:
    if model.adapter is not None:
        return model
    if run.model.is_dir():
        return replace(model, path=str(run.model))
    if run.adapter.is_dir():
        return replace(model, adapter=str(run.adapter))
    raise ConfigError(
        f"output: {run.path} has no trained model yet. Run 'steerclear train' with this recipe first, set model.adapter, or "
        "evaluate the base model with --checkpoint base."
    )


def open_target(target: EvalTarget, decoding: GenerationOptions) -> Model:
    """Open what is evaluated.

    Args:
        decoding: how answers are decoded where a call does not say.

    Raises:
        SteerClearError: the model cannot be loaded, or the endpoint's key is missing.
    """
    model = open_model(target.model, decoding)
    _ = model.weights  # so that what is wrong with it shows now
    return model
