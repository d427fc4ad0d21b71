"""`steerclear generate`: answers to a file of prompts."""

from __future__ import annotations

from pathlib import Path

from steerclear.data.templates import render_prompt
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import load_suite
from steerclear.generation.answers import generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.weights import load_model
from steerclear.records import Generation
from steerclear.store.runs import model_identity


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
    loaded, tokenizer = load_model(model, adapter)
    model_id = model_identity(model, adapter, loaded.dtype)
    return generate(loaded, tokenizer, asked, rendered, options, output, model_id=model_id)
