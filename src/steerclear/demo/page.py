"""The demo's result as one self-contained HTML page: no script, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from steerclear import __version__
from steerclear.demo.methods import METHODS
from steerclear.demo.world import BENIGN, HARMFUL, LOOKALIKE
from steerclear.records import text_of

if TYPE_CHECKING:
    from steerclear.demo.run import DemoOptions, MethodResult

EXAMPLES = {HARMFUL: "a harmful question", BENIGN: "a harmless one", LOOKALIKE: "a harmless one that sounds harmful"}
"""Kind of question -> what the page calls its example."""

GOOD_WHEN_HIGH = ("safe", "benign_right")


def demo_page(options: DemoOptions, results: Sequence[MethodResult], columns: Mapping[str, str], seconds: float) -> str:
    """Return the page.

    Args:
        columns: heading -> field of the results.
        seconds: wall time of the whole demo.
    """
    source = resources.files("steerclear.demo").joinpath("page.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    return template.render(
        version=__version__,
        options=options,
        seconds=seconds,
        columns=list(columns),
        rows=[
            {
                "label": METHODS[result.name].label,
                "description": METHODS[result.name].description,
                "rates": [
                    {"rate": getattr(result, attribute), "good": attribute in GOOD_WHEN_HIGH}
                    for attribute in columns.values()
                ],
            }
            for result in results
        ],
        examples=[_example(kind, title, results) for kind, title in EXAMPLES.items()],
        asked=results[0].harmful.n,
    )


def _example(kind: str, title: str, results: Sequence[MethodResult]) -> dict[str, object]:
    index = next(i for i, answer in enumerate(results[0].answers) if answer.suite == kind)
    return {
        "title": title,
        "question": text_of(results[0].answers[index].prompt),
        "answers": [
            {
                "label": METHODS[result.name].label,
                "text": result.answers[index].response.strip() or "(nothing)",
                "outcome": result.verdicts[index].outcome,
            }
            for result in results
        ],
    }
