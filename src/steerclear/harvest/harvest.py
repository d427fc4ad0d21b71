"""`steerclear harvest`: from a model and toxic prompts to rows of its own unsafe answers, resumable at any moment.

The paper's section 4.1. Every stage is a file or a folder: ``sft`` (the plain fine-tuning), ``prompts.jsonl``, ``answers``,
``verdicts.jsonl``, ``candidates.jsonl``, and the rows. What is finished is not done again; judging and selecting are, from scores
that are kept, so both may change between two calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from steerclear.attacks.behaviors import all_prompts
from steerclear.config import dump_yaml, to_tree
from steerclear.data.contamination import contaminated_prompts
from steerclear.data.templates import render_prompt
from steerclear.errors import ConfigError, DataError, Log
from steerclear.evaluation.suites import sample_ids
from steerclear.generation.model import name_of, open_model, source_identity
from steerclear.generation.parts import Shard, answer_in_parts
from steerclear.generation.samples import asked_id, nth_sample
from steerclear.harvest.harvest_recipe import HarvestRecipe
from steerclear.harvest.judges import opened_judges, read_judges
from steerclear.harvest.manifest import Asked, Judged, build_manifest
from steerclear.harvest.prompts import CATEGORY, describe_problems, read_prompts
from steerclear.harvest.selection import Candidate, select, to_row
from steerclear.judges.base import HarmJudge, HarmScore, Unscored, score_each
from steerclear.judges.opening import refusal_judge
from steerclear.judges.verdicts import judge_generations
from steerclear.records import (
    Generation,
    Prompt,
    Row,
    Verdict,
    read_records,
    sha256_of,
    text_of,
    to_dict,
    write_json,
    write_jsonl,
    write_text,
)
from steerclear.report.data_cards import funnel, harvest_card
from steerclear.review.decisions import Decision, decisions_file, read_decisions
from steerclear.store.executor import worker_number, workers
from steerclear.store.locks import alone, has_locks
from steerclear.store.runs import RunFolder
from steerclear.training.train import train

ALGORITHM = 1
"""Raised when a change of this code changes what the same recipe makes."""


def harvest(recipe: HarvestRecipe, log: Log, *, count: int = 1, shard: Shard | None = None) -> Path | None:
    """Harvest as the recipe says, or continue, and return the file of unsafe rows, ``unsafe.jsonl`` in the recipe's folder.

    Any number of processes may run this on one folder, on one host or several: one fine-tunes and judges, all answer.

    Args:
        log: gets one line about each stage.
        count: how many answer on this host, this one counted in.
        shard: answer this part of the prompts only.

    Returns:
        None in a process that only answers: a worker, or one with a shard while others are not finished.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds another harvest, a server stopped answering, or fewer rows
            were found than asked for; what was found is then kept.
    """
    run = RunFolder(Path(recipe.output))
    if worker_number() is not None:  # the command that started it has done what comes before
        _answers(recipe, read_records(run.path / "prompts.jsonl", Prompt), run, shard, log)
        return None
    guarded = _guard_of(run, shard, count, log)
    evaluation = all_prompts(recipe.evaluation)
    asked = _prompts(recipe, evaluation, log)
    judges = read_judges(recipe, _texts(asked), log)
    if recipe.fine_tunes:
        tuning = recipe.fine_tuning()
        if "train" not in RunFolder(tuning.output).record().get("stages", {}):
            log("fine-tuning on the benign rows alone ...")
        with guarded():
            train(tuning, evaluation, log)
    with guarded():
        run.claim(_identity(recipe, asked), dump_yaml(to_tree(recipe)))
        write_jsonl(run.path / "prompts.jsonl", asked.prompts)
    log(f"answers: {recipe.harvest.samples * len(asked.prompts)} from {name_of(recipe.answering())} ...")
    words = ["harvest", str(run.path / "config.yaml")]
    words += [] if shard is None else ["--shard", f"{shard[0]}/{shard[1]}"]
    with workers(words, count, run.path / "workers", log):
        answers = _answers(recipe, asked.prompts, run, shard, log)
    if answers is None:
        log(f"this shard is answered, others are not: {run.path / 'answers'}. The last one to finish judges.")
        return None
    with guarded():
        return _judge_and_select(recipe, run, asked, answers, opened_judges(recipe, judges), log)


def _guard_of(run: RunFolder, shard: Shard | None, count: int, log: Log) -> Callable[[], AbstractContextManager[None]]:
    """Return what lets one process of all into a stage at a time. Hosts without locks between them have shards: the first one's
    process does what only one may do, and the others come after it."""
    if shard is None or has_locks(run.path):
        return lambda: alone(run.path, log)
    if count > 1:
        raise ConfigError(f"workers: got {count}, but {run.path} has no locks. Start one process for each shard.")
    if shard[0] > 0 and not run.record():
        raise ConfigError(
            f"shard: {run.path} has no locks, so shard 0/{shard[1]} must begin: it fine-tunes. Start this one once it answers."
        )
    return nullcontext


def _texts(asked: Asked) -> list[str]:
    return [text_of(prompt.prompt) for prompt in asked.prompts]


def plan(recipe: HarvestRecipe, log: Log) -> None:
    """Say what a harvest would do, and do none of it: what is read, how many answers there would be, of whom.

    Raises:
        SteerClearError: bad recipe or data.
    """
    asked = _prompts(recipe, all_prompts(recipe.evaluation), log)
    read_judges(recipe, _texts(asked), log)
    categories = Counter(prompt.tags[CATEGORY] for prompt in asked.prompts)
    for name, count in sorted(categories.items()):
        log(f"  {count} of category {name or '(none)'}")
    first = "after plain fine-tuning, " if recipe.fine_tunes else ""
    log(
        f"{first}{name_of(recipe.model)} would give {recipe.harvest.samples} answers to each, "
        f"{recipe.harvest.samples * len(asked.prompts)} in all, in {recipe.output}"
    )


def _prompts(recipe: HarvestRecipe, evaluation: Sequence[Prompt], log: Log) -> Asked:
    options = recipe.harvest
    read = read_prompts(options.prompts)
    matches = contaminated_prompts(read.prompts, evaluation, options.contamination_similarity)
    left_out = {match.prompt.id for match in matches}
    if problems := describe_problems(read):
        log(problems)
    if not evaluation:
        log("note: evaluation.suites is empty, so no prompt is checked against an evaluation.")
    clean = [prompt for prompt in read.prompts if prompt.id not in left_out]
    if len(clean) < (options.prompt_count or 1):
        raise DataError(
            f"harvest.prompt_count: {options.prompt_count or 1} prompts are asked for, but there are {len(clean)} (of "
            f"{len(read.prompts)}, {len(matches)} are evaluation prompts). Lower the count or add sources."
        )
    chosen = sample_ids((prompt.id for prompt in clean), options.prompt_count)
    prompts = [prompt for prompt in clean if prompt.id in chosen]
    if options.rows is not None and options.rows > len(prompts):
        raise DataError(
            f"harvest.rows: {options.rows} are asked for, one answer a prompt is taken, and there are {len(prompts)} prompts. "
            "Lower rows, or add prompts."
        )
    equal = sum(match.similarity == 1 for match in matches)
    log(
        f"prompts: {len(prompts)} of {read.counts['read']} rows; {read.counts['read'] - read.counts['kept']} not usable, "
        f"{len(matches)} are evaluation prompts ({equal} equal, {len(matches) - equal} near)"
    )
    return Asked(read, {"equal": equal, "near": len(matches) - equal}, prompts)


def _identity(recipe: HarvestRecipe, asked: Asked) -> dict[str, Any]:
    """Return what the answers depend on."""
    return {
        "algorithm": ALGORITHM,
        "model": source_identity(recipe.answering()),
        "template": recipe.data.template,
        "prompts": sha256_of([to_dict(prompt) for prompt in asked.prompts]),
        "samples": recipe.harvest.samples,
        "generation": recipe.harvest.generation.decoding,
    }


def _samples(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return every prompt so many times."""
    return [nth_sample(prompt, number, "harvest") for prompt in prompts for number in range(count)]


def _answers(
    recipe: HarvestRecipe, toxic: Sequence[Prompt], run: RunFolder, shard: Shard | None, log: Log
) -> list[Generation] | None:
    options, source = recipe.harvest.generation, recipe.answering()
    prompts = _samples(toxic, recipe.harvest.samples)
    rendered = [render_prompt(prompt.prompt, "", recipe.data.template) for prompt in prompts]
    model_id = source_identity(source)
    part = partial(open_model(source, options, id=model_id).answer, allow_too_long=True, progress=False)
    return answer_in_parts(
        prompts, rendered, options, run.path / "answers", part,
        model_id=model_id, part_size=recipe.harvest.part_size, shard=shard, log=log,
    )  # fmt: skip


def _judge_and_select(
    recipe: HarvestRecipe,
    run: RunFolder,
    asked: Asked,
    answers: list[Generation],
    judges: Sequence[HarmJudge],
    log: Log,
) -> Path:
    judged = _judged(recipe, run, answers, judges, log)
    decisions = _decisions(run)
    options = recipe.harvest
    selection = select(judged.candidates, decisions, rows=options.rows, near_duplicates=options.near_duplicates)
    unsafe = [to_row(candidate, label=False) for candidate in selection.unsafe]
    safe = [to_row(candidate, label=True) for candidate in selection.safe]
    rows = {"unsafe": unsafe, "self_safe": safe}
    manifest = build_manifest(recipe, asked, judged, selection, rows, len(decisions))
    # It says that the rest is there, so it goes first and comes last.
    (run.path / "manifest.json").unlink(missing_ok=True)
    taken = {candidate.id: place for place, candidate in enumerate(selection.unsafe)}
    # For a reviewer: what was taken first, the rest as it was asked.
    ordered: list[Candidate] = sorted(judged.candidates, key=lambda c: taken.get(c.id, len(taken)))
    write_jsonl(run.path / "candidates.jsonl", ordered)
    missing = _write_rows(run, rows, options.subsets)
    write_text(run.path / "CARD.md", harvest_card(manifest))
    write_json(run.path / "manifest.json", manifest)
    log(funnel(manifest))
    found = len(unsafe)
    if missing or found < (options.rows or 0):
        wanted = ", ".join(str(size) for size in (options.rows, *missing) if size is not None)
        raise DataError(
            f"harvest.rows, subsets: {wanted} unsafe rows are asked for, {found} were found; they and all answers are kept in "
            f"{run.path}. Lower the numbers, add prompts, or draw more samples or at a higher temperature (into another output)."
        )
    return run.path / "unsafe.jsonl"


def _decisions(run: RunFolder) -> dict[str, Decision]:
    """Return the last decision on each answer, whichever of the harvest's files was reviewed."""
    latest: dict[str, Decision] = {}
    for name in ("candidates", "unsafe", "self_safe"):
        for key, decision in read_decisions(decisions_file(run.path / f"{name}.jsonl")).items():
            if key not in latest or latest[key].at < decision.at:
                latest[key] = decision
    return latest


def _judged(
    recipe: HarvestRecipe, run: RunFolder, answers: list[Generation], judges: Sequence[HarmJudge], log: Log
) -> Judged:
    refusal = None if recipe.evaluation.refusal is None else refusal_judge(recipe.evaluation.refusal, log)
    log(f"judging {len(answers)} answers ...")
    verdicts = judge_generations(answers, judges[0], refusal)
    write_jsonl(run.path / "verdicts.jsonl", verdicts)
    said = [text_of(answer.prompt) for answer in answers], [answer.response for answer in answers]
    opinions = {judge.name: score_each(judge, *said) for judge in judges[1:]}
    candidates = [
        _candidate(answer, verdict, {name: scores[place] for name, scores in opinions.items()})
        for place, (answer, verdict) in enumerate(zip(answers, verdicts, strict=True))
    ]
    return Judged(answers, verdicts, candidates)


def _candidate(answer: Generation, verdict: Verdict, opinions: Mapping[str, HarmScore | Unscored]) -> Candidate:
    failed = answer.finish == "failed"
    others = {name: o if isinstance(o, HarmScore) and not failed else None for name, o in opinions.items()}
    return Candidate(
        id=answer.id,
        prompt_id=asked_id(answer.id),
        prompt=text_of(answer.prompt),
        response=answer.response,
        category=answer.tags[CATEGORY],
        outcome=verdict.outcome,
        reason=verdict.reason,
        refused=verdict.refused,
        finish=answer.finish,
        flags={verdict.judge: verdict.flagged} | {name: None if o is None else o.flagged for name, o in others.items()},
        scores={verdict.judge: verdict.harm_score}
        | {name: None if o is None else o.score for name, o in others.items()},
    )


def _write_rows(run: RunFolder, rows: Mapping[str, Sequence[Row]], subsets: Sequence[int]) -> list[int]:
    """Write the rows and those subsets that are full; return the sizes of the others."""
    unsafe = rows["unsafe"]
    for old in run.path.glob("unsafe-*.jsonl"):
        old.unlink()
    for size in subsets:
        if size <= len(unsafe):
            write_jsonl(run.path / f"unsafe-{size}.jsonl", unsafe[:size])
    write_jsonl(run.path / "self_safe.jsonl", rows["self_safe"])
    write_jsonl(run.path / "unsafe.jsonl", unsafe)
    return [size for size in subsets if size > len(unsafe)]
