"""`steerclear generate`: answers to a file of prompts."""

from __future__ import annotations

from pathlib import Path

from steerclear.data.templates import render_prompt
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import load_suite
from steerclear.generation.model import LocalModel
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.records import Generation


def answer_file(
    model: str,
    adapter: str | None,
    prompts: Path,
    output: Path,
    template: str,
    limit: int | None,
    options: GenerationOptions,
) -> list[Generation]:
    """Answer the prompts of a file with a model and write the answers to ``output``, continuing what is there.

    Raises:
        SteerClearError: a file, the model or an option is wrong, or ``output`` holds answers of another model.
    """
    asked = load_suite(SuiteOptions(name=prompts.stem, path=str(prompts), limit=limit))
    rendered = [render_prompt(prompt.prompt, "", template) for prompt in asked]
    return LocalModel(ModelOptions(path=model, adapter=adapter), options).answer(asked, rendered, output)
