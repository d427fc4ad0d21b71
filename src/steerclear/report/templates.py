"""The templates of pages and cards: every value in them is text, with acting characters made visible."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from steerclear.sanitize import visible
from steerclear.table import markdown_text


def page_template(name: str) -> Template:
    """Return one of the package's page templates. What is not `markupsafe.Markup` is escaped and made visible."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, loader=FunctionLoader(asset)
    )
    environment.filters["percent"] = _percent
    return environment.get_template(name)


def markdown_template(name: str) -> Template:
    """Return one of the package's Markdown templates. What is not `markupsafe.Markup` stays text."""
    environment = Environment(
        undefined=StrictUndefined,
        finalize=_markdown,
        trim_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(asset),
    )
    return environment.get_template(name)


def asset(name: str) -> str:
    """Return a text file of this part of the package."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _markdown(value: Any) -> Any:
    return markdown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"
