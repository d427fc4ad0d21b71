"""Files of one's own: prompts that a model answers, answers that a judge rules on."""

from __future__ import annotations

from pathlib import Path

from steerclear.data.templates import render_prompt
from steerclear.errors import Log
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.scores import Scores, score
from steerclear.evaluation.suites import load_suite
from steerclear.generation.model import open_model
from steerclear.generation.options import GenerationOptions, ModelOptions
from steerclear.judges.cache import CachedJudge
from steerclear.judges.labelled import read_rows
from steerclear.judges.measures import JudgeMeasures, measure_judge
from steerclear.judges.opening import harm_judge, refusal_judge
from steerclear.judges.options import JudgeOptions, RefusalOptions
from steerclear.judges.verdicts import judge_generations
from steerclear.records import Generation, read_jsonl, read_records, write_jsonl


def answer_file(
    model: ModelOptions, prompts: Path, output: Path, template: str, limit: int | None, options: GenerationOptions
) -> list[Generation]:
    """Answer the prompts of a file with a model and write the answers to ``output``, continuing what is there.

    Raises:
        SteerClearError: a file, the model or an option is wrong, or ``output`` holds answers of another model.
    """
    asked = load_suite(SuiteOptions(name=prompts.stem, path=str(prompts), limit=limit))
    rendered = [render_prompt(prompt.prompt, "", template) for prompt in asked]
    return open_model(model, options).answer(asked, rendered, output)


def score_file(
    answers: Path, judge: JudgeOptions, output: Path | None, log: Log, refusal_model: str | None = None
) -> Scores | JudgeMeasures:
    """Judge a file of answers, or measure the judge on a file whose rows have ``is_safe``.

    With an ``output`` the verdicts are written to it, and the judge's scores are kept beside it as they come, so a killed run
    judges nothing twice.

    Raises:
        DataError: the file is neither.
        SteerClearError: the judge cannot be used.
    """
    opened = harm_judge(judge, log)
    if output is not None:
        opened = CachedJudge(opened, output.parent / "judge-cache")
    first = next((value for _, value in read_jsonl(answers)), {})
    if "is_safe" in first:
        return measure_judge(opened, {answers.stem: read_rows(answers)})
    refusal = refusal_judge(RefusalOptions(model=refusal_model), log) if refusal_model is not None else None
    verdicts = judge_generations(read_records(answers, Generation), opened, refusal)
    if output is not None:
        write_jsonl(output, verdicts)
    return score(verdicts)
