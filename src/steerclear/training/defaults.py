"""A recipe's ``training`` section made into a trainer's arguments: what it leaves out, and what it must not hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from steerclear.config import raise_all
from steerclear.errors import ConfigError, did_you_mean, one_of
from steerclear.store.runs import RunFolder
from steerclear.training.arguments import KTO, TRAINED_OBJECTIVES, Arguments, KtoBaselineConfig, SteerClearConfig
from steerclear.training.options import TrainingSetup, arguments_for_hashes
from steerclear.training.trackers import tracker_problems, trackers_in

PAPER_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 32,
    "max_length": 512,
}
"""The paper's batch of 96 = 3 x 32 and its epochs; what else it sets is the default of `SteerClearConfig`."""

OWN_DEFAULTS: dict[str, Any] = {
    "gradient_checkpointing": False,
    # Every step reaches every weight that trains: a term without rows is a zero in the graph.
    "ddp_find_unused_parameters": False,
    "report_to": "none",
    "save_strategy": "steps",
    "save_steps": 50,
    "save_total_limit": 2,
    "logging_steps": 10,
    "eval_strategy": "steps",
    "eval_steps": 50,
}

NO_EFFECT_ON_RESULTS = (
    "output_dir", "report_to", "save_strategy", "save_steps", "save_total_limit", "logging_steps", "eval_strategy",
    "eval_steps", "per_device_eval_batch_size", "disable_tqdm", "dataloader_num_workers", "use_cpu", "run_name",
    "gradient_checkpointing", "ddp_find_unused_parameters",
)  # fmt: skip
"""Arguments that may change between a killed run and its continuation."""


def training_arguments(setup: TrainingSetup) -> Arguments:
    """Return the trainer's arguments: the recipe's over the paper's and this command's defaults.

    Raises:
        ConfigError: an unknown key, one of another objective's trainer, or values that the arguments' class refuses.
    """
    own, config = _own_arguments(setup), _config_class(setup)
    fields = _settable(config)
    problems = _wrong_keys(setup, own, fields)
    raise_all(problems)
    given = {key: _as_number(key, value, fields[key].type, problems) for key, value in own.items()}
    raise_all(problems)
    if not setup.data.heldout_count:
        given.setdefault("eval_strategy", "no")
    values = PAPER_DEFAULTS | OWN_DEFAULTS | given | {"output_dir": str(RunFolder(setup.output).checkpoints)}
    values["report_to"] = trackers_in(values["report_to"])
    raise_all(tracker_problems(values["report_to"]))
    if values["report_to"]:
        values.setdefault("run_name", setup.output.resolve().name)
    if not torch.cuda.is_available():
        values.setdefault("dataloader_pin_memory", False)
    try:
        return config(**values)
    except ConfigError as error:
        raise ConfigError("\n".join(f"training.{line}" for line in str(error).splitlines())) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training: {error}") from error


def arguments_that_decide(setup: TrainingSetup) -> dict[str, Any]:
    """Return the arguments that the trained weights depend on, by name: the recipe's over this command's defaults."""
    given = PAPER_DEFAULTS | OWN_DEFAULTS | arguments_for_hashes(_own_arguments(setup))
    return {key: given[key] for key in sorted(given) if key not in NO_EFFECT_ON_RESULTS}


def _config_class(setup: TrainingSetup) -> type[Arguments]:
    """Return the class of the trainer's arguments, which the objective decides."""
    return KtoBaselineConfig if setup.arguments.get("objective") == KTO else SteerClearConfig


def _settable(*configs: type[Arguments]) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for config in configs for f in dataclasses.fields(config) if f.init}


def _own_arguments(setup: TrainingSetup) -> dict[str, Any]:
    """Return the recipe's arguments without those that only another objective's trainer has and that are null: taken back."""
    taken_back = _settable(SteerClearConfig, KtoBaselineConfig).keys() - _settable(_config_class(setup)).keys()
    return {key: value for key, value in setup.arguments.items() if value is not None or key not in taken_back}


def _wrong_keys(setup: TrainingSetup, own: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    """Return what is wrong with the objective's name and the names of the arguments, none of which may pass unheard."""
    objective = setup.arguments.get("objective", SteerClearConfig.objective)
    if objective not in TRAINED_OBJECTIVES:
        return [one_of("training.objective", objective, TRAINED_OBJECTIVES)]
    of_any = _settable(SteerClearConfig, KtoBaselineConfig)
    problems = [
        f"training.{key}: got {value!r} with objective '{objective}', which has no such argument. Leave it out; where a recipe "
        "sets it for all variants, null takes it back."
        if key in of_any
        else f"training.{key}: unknown key.{did_you_mean(key, fields)}"
        for key, value in own.items()
        if key not in fields
    ]
    if "output_dir" in own:
        problems.append("training.output_dir: is set by the recipe's output.")
    return problems


def _as_number(key: str, value: Any, hint: object, problems: list[str]) -> Any:
    """Turn text into a number where one is wanted: YAML 1.1 reads 1e-4 as text."""
    if not isinstance(value, str) or str(getattr(hint, "__name__", hint)) not in ("int", "float"):
        return value
    try:
        return float(value)
    except ValueError:
        problems.append(f"training.{key}: got {value!r}, expected a number.")
        return None
