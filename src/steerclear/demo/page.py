"""What the demo shows: its table in the terminal and in Markdown, and one HTML page that needs nothing else."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.table import Table

from steerclear.demo.scores import COLUMNS

CAPTION = "95 % Wilson intervals; greedy answers to held-out questions"


def percent(rate: float) -> str:
    """Return a share between 0 and 1 as a whole percentage; only all is 100 and only none is 0.

    >>> [percent(x) for x in (0.0, 0.004, 0.5, 0.996, 1.0)]
    ['0', '<1', '50', '>99', '100']
    """
    if 0 < rate < 0.005:
        return "<1"
    if 0.995 <= rate < 1:
        return ">99"
    return f"{100 * rate:.0f}"


def cell_text(rate: dict[str, Any]) -> str:
    """Return a rate with its interval as text.

    >>> cell_text({"k": 3, "n": 80, "rate": 0.0375, "lower": 0.0128, "upper": 0.1045})
    '4 % (1-10)'
    """
    return f"{percent(rate['rate'])} % ({percent(rate['lower'])}-{percent(rate['upper'])})"


def _rows(scores: dict[str, Any]) -> list[list[str]]:
    return [[m["label"], *(cell_text(m["rates"][name]) for name in COLUMNS)] for m in scores["methods"]]


def terminal_table(scores: dict[str, Any]) -> Table:
    """Return the results as a table for the terminal."""
    table = Table(title="What each way of fine-tuning does to the answers", caption=CAPTION)
    table.add_column("fine-tuning", overflow="fold")
    for column in COLUMNS.values():
        table.add_column(column.heading, justify="right", overflow="fold")
    for row in _rows(scores):
        table.add_row(*row)
    return table


def table_lines(scores: dict[str, Any]) -> str:
    """Return the results as a Markdown table, and each method's answer to the first harmful question."""
    lines = ["| " + " | ".join(["fine-tuning", *(column.heading for column in COLUMNS.values())]) + " |"]
    lines += ["|---" + "|---:" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(scores)]
    return "\n".join([*lines, "", f"{CAPTION}.", "", example_lines(scores)])


def example_lines(scores: dict[str, Any]) -> str:
    """Return each method's answer to the first harmful question, a line each."""
    lines = [f'Answers to "{scores["methods"][0]["examples"][0]["prompt"]}":', ""]
    lines += [f"- {m['label']}: {m['examples'][0]['response']}" for m in scores["methods"]]
    return "\n".join(lines) + "\n"


def page(scores: dict[str, Any]) -> str:
    """Return the results as one self-contained HTML page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    template = environment.from_string(resources.files(__package__).joinpath("page.html.j2").read_text("utf-8"))
    return template.render(scores=scores, columns=COLUMNS, caption=CAPTION, options=scores["options"])
