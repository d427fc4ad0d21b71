"""Attacks of PyRIT (Microsoft, MIT), where that package is installed: its converters of text, and its jailbreak templates."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from importlib import metadata, util
from typing import Any

from steerclear.errors import ConfigError, did_you_mean

PREFIX = "pyrit:"
"""Before the name of a converter, such as ``pyrit:AtbashConverter``, or of a jailbreak template, such as ``pyrit:aim``."""


def pyrit_version() -> str:
    """Return the installed version.

    Raises:
        ConfigError: there is none.
    """
    if util.find_spec("pyrit") is None:
        raise ConfigError("card: attacks of PyRIT need the package pyrit. Run: pip install 'steerclear[pyrit]'.")
    return metadata.version("pyrit")


def pyrit_transform(name: str) -> Callable[[str], str]:
    """Return what a converter or a template makes of a request. What draws at random is seeded with 0.

    Raises:
        ConfigError: PyRIT is not installed, has nothing of this name, or what it has needs more than the request.
    """
    pyrit_version()
    return _converter(name) if name.endswith("Converter") else _template(name)


def _converter(name: str) -> Callable[[str], str]:
    from pyrit import converter as converters

    kind = getattr(converters, name, None)
    if kind is None:
        known = [known for known in dir(converters) if known.endswith("Converter")]
        raise ConfigError(f"card: PyRIT has no {name}.{did_you_mean(name, known)}")
    arguments = {"seed": 0} if "seed" in inspect.signature(kind).parameters else {}
    try:
        made: Any = kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"card: PyRIT's {name} needs more than the request ({error}). Choose another one.") from error
    if not made.input_supported("text"):
        raise ConfigError(f"card: PyRIT's {name} does not convert text. Choose another one.")

    def convert(text: str) -> str:
        return str(asyncio.run(made.convert_async(prompt=text, input_type="text")).output_text)

    return convert


def _template(name: str) -> Callable[[str], str]:
    from pyrit.datasets import TextJailBreak

    try:
        template = TextJailBreak(template_file_name=f"{name}.yaml")
    except ValueError as error:
        raise ConfigError(f"card: PyRIT's jailbreak template '{name}': {error}") from error
    return lambda text: str(template.get_jailbreak(text))
