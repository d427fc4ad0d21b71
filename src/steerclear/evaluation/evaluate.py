"""Evaluating one model: it is asked the suites' prompts, its answers are judged and counted, what it still can is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from steerclear.config import dump_yaml, to_tree
from steerclear.data.templates import begin_answer, render_prompt
from steerclear.errors import Log, quiet
from steerclear.evaluation.cards import PROMPT_METRICS
from steerclear.evaluation.multiple_choice import check_documents
from steerclear.evaluation.options import EvaluationOptions, SuiteOptions
from steerclear.evaluation.quality import measure_quality
from steerclear.evaluation.results import EVALUATION
from steerclear.evaluation.scores import Scores, SecondOpinion, score, score_table
from steerclear.evaluation.suites import held_out_prompts, load_suite
from steerclear.generation.model import Model
from steerclear.judges.base import HarmJudge
from steerclear.judges.opening import Judges
from steerclear.judges.verdicts import judge_generations
from steerclear.records import PREFILL, Generation, Messages, Verdict, write_json, write_jsonl, write_text
from steerclear.stats.agreement import agreement

Options = TypeVar("Options", bound=EvaluationOptions)

Stage = Callable[[str], None]
"""Told when a stage of an evaluation begins: ``attack``, ``generate``, ``judge``, ``score``."""


def check_suites(suites: Sequence[SuiteOptions]) -> None:
    """Find a wrong suite before anything is asked.

    Raises:
        SteerClearError: a file is missing, wrong, or not its card's.
    """
    held_out_prompts(suites)
    for suite in suites:
        if suite.metric == "multiple_choice":
            check_documents(suite)


def while_training(options: Options) -> Options:
    """Return the evaluation of a model in training: prompts to answer only, and an attention that is left as it is."""
    suites = [suite for suite in options.suites if suite.metric in PROMPT_METRICS]
    return replace(options, suites=suites, generation=replace(options.generation, cache="dynamic"), win_rate=None)


def evaluate_model(
    options: EvaluationOptions,
    model: Model,
    judges: Judges,
    folder: Path,
    log: Log,
    *,
    template: str,
    max_length: int | None = None,
    stage: Stage = quiet,
) -> Scores:
    """Evaluate one model into a folder: generations, verdicts, second-opinions, quality, and the scores with their options.

    Args:
        template: of the prompts of suites whose card has none.
        max_length: longest row of perplexity in tokens, as in training.
    """
    stage("generate")
    asked = [suite for suite in options.suites if suite.metric in PROMPT_METRICS]
    answers = {suite.name: _answers(suite, model, folder, suite.template or template) for suite in asked}
    stage("judge")
    verdicts = _judged(answers, judges.harm, judges, folder / "verdicts")
    stage("score")
    second_opinions = _second_opinions(answers, verdicts, judges, folder)
    quality = measure_quality(
        options, model, answers, folder / "quality", log, template=template, max_length=max_length
    )
    scores = replace(score(verdicts, judges.errors), second_opinions=second_opinions, quality=quality)
    write_text(folder / "scores.md", score_table(scores).markdown())
    write_text(folder / EVALUATION, dump_yaml(to_tree(options)))
    write_json(folder / "scores.json", scores.to_json())  # last: it says that the evaluation is whole
    return scores


def _answers(suite: SuiteOptions, model: Model, folder: Path, template: str) -> list[Generation]:
    prompts = load_suite(suite)
    rendered = [begun(render_prompt(prompt.prompt, "", template), prompt.tags) for prompt in prompts]
    return model.answer(prompts, rendered, folder / "generations" / f"{suite.name}.jsonl")


def _judged(
    answers: dict[str, list[Generation]], harm: HarmJudge | None, judges: Judges, folder: Path
) -> list[Verdict]:
    """Return a judge's verdicts on all suites, each suite's in its own file."""
    verdicts = []
    for name, given in answers.items():
        judged = judge_generations(given, harm, judges.refusal)
        write_jsonl(folder / f"{name}.jsonl", judged)
        verdicts += judged
    return verdicts


def _second_opinions(
    answers: dict[str, list[Generation]], first: Sequence[Verdict], judges: Judges, folder: Path
) -> list[SecondOpinion]:
    """Return, for each other judge, its rates and how far its flags agree with those of the first judge."""
    opinions = []
    for number, judge in enumerate(judges.second_opinions, start=1):
        verdicts = _judged(answers, judge, judges, folder / "second-opinions" / str(number))
        flags = agreement([v.flagged for v in first], [v.flagged for v in verdicts])
        opinions.append(SecondOpinion(judge=judge.name, scores=score(verdicts), agreement=flags))
    return opinions


def begun(rendered: str | Messages, tags: dict[str, str]) -> str | Messages:
    """Return a rendered prompt with the opening of its tags, if they have one."""
    return begin_answer(rendered, tags[PREFILL]) if PREFILL in tags else rendered
