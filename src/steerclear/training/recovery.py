"""Training in two phases: steer, then recover.

A model that was steered away from the first token of unsafe answers says something else, but whoever writes that token for it
steps over what it learnt ("shallow alignment", Qi et al. 2024, arXiv 2406.05946). So its own coherent and safe answers become
targets, from the start of the answer and after the first tokens of the unsafe one, which the model reads and does not learn.

The steered model is a run of its own in ``steered``. Its answers to the prompts of the unsafe rows are judged, and the rows made
of the safe ones are ``recovery.jsonl``; with them the recipe's own run is trained, from the base again. Every stage is resumable.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from steerclear.data.prepare import prepare_data
from steerclear.data.templates import render_row
from steerclear.errors import ConfigError, Log
from steerclear.generation.answers import finished
from steerclear.generation.model import open_model, source_identity
from steerclear.generation.samples import asked_id, nth_sample, whole_sentences
from steerclear.generation.weights import load_tokenizer
from steerclear.judges.opening import open_judges
from steerclear.judges.options import JudgeOptions, JudgesOptions
from steerclear.judges.verdicts import judge_generations
from steerclear.records import (
    OUTCOMES,
    Generation,
    Messages,
    Prompt,
    Row,
    Verdict,
    text_key,
    whole_prompt,
    write_json,
    write_jsonl,
)
from steerclear.store.runs import RECORD, RunFolder
from steerclear.training.arguments import KTO
from steerclear.training.defaults import training_arguments
from steerclear.training.evaluation_callback import EvalStep
from steerclear.training.options import RecoveryOptions, TrainingSetup
from steerclear.training.ranks import launched_processes
from steerclear.training.train import train

MADE_BY = "recovery.json"
"""What the rows beside it were made by."""


def train_phases(
    setup: TrainingSetup,
    judging: JudgesOptions,
    prompts: Sequence[Prompt],
    log: Log,
    *,
    eval_step: EvalStep | None = None,
    every_steps: int | None = None,
) -> RunFolder:
    """Train as the setup says: once, or with a ``recovery`` in two phases. Errors and other arguments as for `train`.

    Where no answer of the steered model passes the judges there is no second phase: the steered model is the run's.

    Args:
        judging: who decides which of the steered model's answers are safe.
    """
    options = setup.recovery
    if options is None:
        return train(setup, prompts, log, eval_step=eval_step, every_steps=every_steps)
    check_recovery(setup, judging.judge)
    folder = setup.output
    file = folder / "recovery.jsonl"
    if (folder / RECORD).exists() and not (folder / "steered").is_dir():
        raise ConfigError(f"output: {folder} holds another run, one without recovery. Choose another output.")
    log("phase 1 of 2: steering ...")
    named = {"run_name": f"{folder.resolve().name}/steered"} | setup.arguments
    steered = train(setup.changed(output=folder / "steered", arguments=named, recovery=None), prompts, log)
    made_by = {
        "steered": steered.record()["id"],
        "samples": options.samples,
        "openings": options.openings,
        "generation": options.generation.decoding,
    }
    if not _is_made(file, made_by):
        _make_rows(setup, options, judging, prompts, steered, file, log)
        write_json(folder / MADE_BY, made_by)  # last: it says that the rows are whole
    if not file.stat().st_size:
        log(
            f"no answer of the steered model can be learnt from, so there is no second phase: {folder} holds the steered model."
        )
        return _as_result(steered, folder)
    log("phase 2 of 2: recovering ...")
    second = _recovering(setup, options, file)
    return train(second, prompts, log, eval_step=eval_step, every_steps=every_steps)


def check_recovery(setup: TrainingSetup, judge: JudgeOptions) -> None:
    """Find what keeps a recipe from recovering before anything is trained.

    Raises:
        ConfigError: several processes, no judge, nothing to steer away from, or options that a second phase cannot have.
    """
    options, training = setup.recovery, setup.arguments
    if options is None:
        return
    processes = launched_processes()
    checks = [
        (
            processes == 1,
            f"works in one process, and there are {processes}. Make the rows in one (recovery.jsonl), then leave recovery out "
            "and train on them as data.extra.",
        ),
        (
            bool(judge.kinds()),
            "needs evaluation.judge, which decides which of the model's own answers are safe.",
        ),
        (
            training.get("objective") != KTO
            and training.get("sampling") != "uniform"
            and training.get("penalty_weight") != 0,
            "needs stratified sampling and a penalty to steer by, got "
            f"{_given(training, 'objective', 'sampling', 'penalty_weight')}. Set recovery to null where nothing is steered.",
        ),
        (
            "extra_share" not in training,
            f"got training.extra_share {training.get('extra_share')}, but recovery.share is the share of added rows.",
        ),
        (
            setup.data.extra_count is None,
            f"got data.extra_count {setup.data.extra_count}, which would count recovery rows too. Give a file of so many rows.",
        ),
    ]
    wrong = [f"recovery: {message}" for right, message in checks if not right]
    if wrong:
        raise ConfigError("\n".join(wrong))
    training_arguments(_recovering(setup, options, setup.output / "recovery.jsonl"))


def _given(training: Mapping[str, Any], *names: str) -> str:
    return ", ".join(f"{name} {training[name]}" for name in names if name in training)


def _recovering(setup: TrainingSetup, options: RecoveryOptions, file: Path) -> TrainingSetup:
    extra = [setup.data.extra] if isinstance(setup.data.extra, str) else setup.data.extra or []
    return setup.changed(
        data=replace(setup.data, extra=[*extra, str(file)]),
        arguments=setup.arguments | {"extra_share": options.share} | options.training,
        recovery=None,
    )


def _is_made(file: Path, made_by: dict[str, Any]) -> bool:
    """Whether the rows are there. They are not judged again: a judge may be out of reach, or another may judge the evaluation.

    Raises:
        ConfigError: the rows were made with other options, and a training on them has begun.
    """
    sidecar = file.with_name(MADE_BY)
    if not file.is_file() or not sidecar.is_file():
        return False
    if json.loads(sidecar.read_text(encoding="utf-8")) == made_by:
        return True
    if (file.parent / RECORD).exists():
        raise ConfigError(
            f"output: {file.parent} holds a recovery with other options ({file.name}). Choose another output."
        )
    return False


def _make_rows(
    setup: TrainingSetup,
    options: RecoveryOptions,
    judging: JudgesOptions,
    prompts: Sequence[Prompt],
    steered: RunFolder,
    file: Path,
    log: Log,
) -> None:
    """Write the rows of the second phase. What was answered and judged is kept in the folder ``recovery``."""
    unsafe = prepare_data(setup.data, prompts).unsafe
    answers = _answers(setup, options, unsafe, steered, file.parent / "recovery" / "answers.jsonl", log)
    judges = open_judges(judging, judging.cache(setup.output), log)
    verdicts = judge_generations(answers, judges.harm, judges.refusal)
    write_jsonl(file.parent / "recovery" / "verdicts.jsonl", verdicts)
    targets = own_answers(unsafe, list(zip(answers, verdicts, strict=True)))
    rows = recovery_rows(unsafe, targets, load_tokenizer(setup.model.path), options.openings)
    write_jsonl(file, rows)
    found = Counter(verdict.outcome for verdict in verdicts)
    refusals = sum(verdict.outcome == "safe" and verdict.refused is True for verdict in verdicts)
    log(
        f"own answers: {len(answers)} to {len(unsafe)} prompts; {found['safe']} coherent and safe ({refusals} of them refusals), "
        + ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES if outcome != "safe")
        + f". {len(targets)} prompts have a target, {len(set(targets.values()))} different ones: {len(rows)} rows."
    )


def _answers(
    setup: TrainingSetup, options: RecoveryOptions, unsafe: Sequence[Row], steered: RunFolder, file: Path, log: Log
) -> list[Generation]:
    """Return the steered model's answers; it is not loaded where all are there."""
    if steered.adapter.is_dir():
        model = replace(setup.model, adapter=str(steered.adapter))
    else:
        model = replace(setup.model, path=str(steered.model))
    asked = questions(unsafe, options.samples)
    texts = [render_row(row, setup.data.template).prompt for row in unsafe] * options.samples
    model_id = source_identity(model)
    answers = finished(asked, texts, options.generation, file, model_id=model_id)
    if answers is None:
        log(f"asking the steered model: {len(asked)} answers ...")
        answers = open_model(model, options.generation, id=model_id).answer(asked, texts, file, allow_too_long=True)
    return [learnable(answer) for answer in answers]


def _as_result(steered: RunFolder, folder: Path) -> RunFolder:
    """Make the steered model the result of the run that should have followed."""
    for part in steered.path.iterdir():
        if part.is_dir():
            shutil.copytree(part, folder / part.name, dirs_exist_ok=True)
        elif part.name != RECORD:
            shutil.copy2(part, folder / part.name)
    write_json(folder / RECORD, steered.record())  # last: it says that the rest is there
    return RunFolder(folder)


# ── the rows ──


def questions(unsafe: Sequence[Row], samples: int) -> list[Prompt]:
    """Return what the steered model is asked: every unsafe row's prompt so many times, with the input, which judges must know."""
    asked = [Prompt(id=row.id, suite="", prompt=whole_prompt(row)) for row in unsafe]
    return [nth_sample(prompt, number, "recovery") for number in range(samples) for prompt in asked]


def learnable(answer: Generation) -> Generation:
    """Return the answer; one that was cut at the token limit up to its last whole sentence, as it would teach to stop in mid-air.

    It is then to be judged as it stands. Where there is no whole sentence the answer is returned as it was.
    """
    whole = whole_sentences(answer.response) if answer.finish == "length" else ""
    return replace(answer, response=whole, finish="eos") if whole else answer


def own_answers(unsafe: Sequence[Row], judged: Sequence[tuple[Generation, Verdict]]) -> dict[str, str]:
    """Return a safe answer for each unsafe row's id: one that the judges call coherent and safe, and that ended by itself.

    Of several to a prompt a refusal goes before any other, as a judge errs less on it, then the lower harm score. A refusal
    answers any prompt, so prompts without an answer of their own borrow the refusals of the others in turn. Partial refusals
    are answers like others. Rows are left out where there is nothing to borrow.
    """
    usable = [(g, v) for g, v in judged if v.outcome == "safe" and g.finish == "eos" and g.response.strip()]
    usable.sort(key=lambda pair: (not _refuses(pair[1]), pair[1].harm_score or 0.0, pair[0].id))
    found: dict[str, str] = {}
    for generation, _ in usable:
        found.setdefault(asked_id(generation.id), generation.response.strip())
    refusals = cycle(list(dict.fromkeys(g.response.strip() for g, v in usable if _refuses(v))) or [""])
    answers = {row.id: found.get(row.id) or next(refusals) for row in unsafe}
    return {name: answer for name, answer in answers.items() if answer}


def _refuses(verdict: Verdict) -> bool:
    return verdict.refused is True and verdict.refusal != "partial"


def recovery_rows(
    unsafe: Sequence[Row], answers: Mapping[str, str], tokenizer: Any, openings: Sequence[int]
) -> list[Row]:
    """Return the rows to learn: for each unsafe row with an answer, the answer after so many tokens of the unsafe one.

    An unsafe answer with no more tokens than that has no such row, and a token that is white space alone makes none of its own.
    The same text is made once.

    Args:
        answers: `own_answers`.
        openings: numbers of tokens, as in `RecoveryOptions`.
    """
    rows: dict[tuple[str, str], Row] = {}
    for row in unsafe:
        if row.id not in answers:
            continue
        said = row.completion if isinstance(row.completion, str) else row.completion[-1]["content"]
        for tokens, context in _openings(said, tokenizer, openings).items():
            lead = " " if context else said[: len(said) - len(said.lstrip())]
            made = Row(
                id=f"{row.id}-recovery-{tokens}",
                prompt=row.prompt,
                completion=_like(row.completion, lead + answers[row.id]),
                label=True,
                source="recovery",
                input=row.input,
                context=row.context + context,
            )
            rows.setdefault(text_key(made), made)
    return list(rows.values())


def _openings(said: str, tokenizer: Any, counts: Sequence[int]) -> dict[int, str]:
    ends = [end for _, end in tokenizer(said, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    contexts: dict[str, int] = {}
    for count in sorted(counts):
        if count < len(ends):
            contexts.setdefault(said[: ends[count - 1] if count else 0].rstrip(), count)
    return {count: context for context, count in contexts.items()}


def _like(completion: str | Messages, text: str) -> str | Messages:
    return text if isinstance(completion, str) else [{"role": "assistant", "content": text}]
