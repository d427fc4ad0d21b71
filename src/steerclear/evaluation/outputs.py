"""Outputs of two models to the same instructions, from alpaca_eval's files or our own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.data.files import read_objects
from steerclear.errors import DataError
from steerclear.records import Generation, text_of


@dataclass(frozen=True, kw_only=True)
class Output:
    """A model's output to an instruction."""

    instruction: str
    output: str
    generator: str
    """Name of the model."""
    dataset: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A reference's and a model's output to the same instruction."""

    instruction: str
    reference: Output
    model: Output

    @property
    def same(self) -> bool:
        """Whether there is nothing to compare."""
        return self.reference.output == self.model.output


def read_outputs(path: Path) -> list[Output]:
    """Return the outputs in a file of alpaca_eval's format (JSON list or JSONL), or in our own file of answers.

    Where the rows do not name the model it is called as the file is.

    Raises:
        DataError: the file is missing, empty or malformed.
    """
    outputs = [_output(value, path.stem, f"{path}:{place}") for place, value in read_objects(path)]
    if not outputs:
        raise DataError(f"{path}: has no outputs.")
    return outputs


def _output(value: Mapping[str, Any], name: str, where: str) -> Output:
    instruction = value.get("instruction", value.get("prompt"))
    output = value.get("output", value.get("response"))
    if not isinstance(instruction, str | list) or not isinstance(output, str):
        raise DataError(
            f"{where}: no text in 'instruction' and 'output' (or 'prompt' and 'response'): "
            f"got the fields {', '.join(value) or 'none'}."
        )
    return Output(
        instruction=text_of(instruction),
        output=output,
        generator=str(value.get("generator") or name),
        dataset=str(value.get("dataset") or ""),
    )


def outputs_of(generations: Iterable[Generation], generator: str) -> list[Output]:
    """Return a model's answers as outputs of that name."""
    return [Output(instruction=text_of(g.prompt), output=g.response, generator=generator) for g in generations]


def matched(model_outputs: Sequence[Output], reference_outputs: Sequence[Output]) -> list[Pair]:
    """Return the pairs in the reference's order, on which alpaca_eval's own length control relies.

    Raises:
        DataError: an instruction occurs twice, none is common to both, or the outputs of a side are of several models.
    """
    models = _by_instruction(model_outputs, "model outputs")
    references = _by_instruction(reference_outputs, "reference outputs")
    pairs = [
        Pair(instruction=text, reference=reference, model=models[text])
        for text, reference in references.items()
        if text in models
    ]
    if not pairs:
        raise DataError(
            f"none of the {len(models)} model outputs is to one of the {len(references)} instructions of the reference. "
            "The instructions must be the same to the letter; generate from the reference's file."
        )
    return pairs


def _by_instruction(outputs: Sequence[Output], what: str) -> dict[str, Output]:
    found = {output.instruction: output for output in outputs}
    if len(found) < len(outputs):
        text, times = Counter(output.instruction for output in outputs).most_common(1)[0]
        raise DataError(
            f"{what}: {len(outputs)} for {len(found)} instructions; {text[:60]!r} occurs {times} times. "
            "Keep one output for each instruction."
        )
    generators = sorted({output.generator for output in outputs})
    if len(generators) > 1:
        raise DataError(f"{what}: of several models: {', '.join(generators)}. Give each a file of its own.")
    return found
