"""`steerclear contrast`: from toxic prompts to benign rows whose prompts only seem toxic, resumable at any moment.

The paper's section 4.3.6, after Cui et al. 2024 (OR-Bench): the words that make prompts toxic, harmless prompts with these words,
answers to them, and of these the ones that a judge calls harmless and that refuse nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steerclear.config import dump_yaml, to_tree
from steerclear.data.manifest import hash_rows
from steerclear.data.sources import read_source
from steerclear.data.templates import render_prompt
from steerclear.errors import DataError, Log
from steerclear.generation.model import Model, name_of, open_model, source_identity
from steerclear.generation.samples import whole_sentences
from steerclear.harvest.contrast_recipe import AnswererOptions, ContrastRecipe
from steerclear.harvest.contrast_rows import Contrast, select
from steerclear.harvest.prompts import describe_problems, read_prompts
from steerclear.harvest.seemingly_toxic import SCRIPT, PromptPool, read_script, request, scripted
from steerclear.harvest.words import ToxicWord, toxic_words
from steerclear.judges.opening import open_judges
from steerclear.judges.verdicts import judge_generations
from steerclear.records import (
    SCHEMA_VERSION,
    Generation,
    Prompt,
    Verdict,
    flat_text,
    read_records,
    sha256_of,
    text_of,
    to_dict,
    write_json,
    write_jsonl,
    write_text,
)
from steerclear.report.data_cards import contrast_card
from steerclear.store.locks import alone
from steerclear.store.runs import RunFolder

ALGORITHM = 1
"""Raised when a change of this code changes what the same recipe makes."""

FINISHES = ("eos", "length", "failed")


def contrast(recipe: ContrastRecipe, evaluation_prompts: Sequence[Prompt], log: Log) -> Path:
    """Make the contrastive rows of a recipe, or continue, and return their file: ``contrast.jsonl`` in the recipe's folder.

    Words, prompts and answers that are finished are not made again. Judging and selecting are, from scores that are kept, so both
    may change between two calls.

    Args:
        evaluation_prompts: prompts that must not be among the rows.
        log: gets one line about each stage.

    Raises:
        SteerClearError: bad recipe, data or model, the folder holds other rows, or a server stopped answering.
    """
    run = RunFolder(Path(recipe.output))
    read = read_prompts(recipe.prompts)
    if problems := describe_problems(read):
        log(problems)
    with alone(run.path, log):
        return _contrast(recipe, run, read.prompts, evaluation_prompts, log)


def _contrast(
    recipe: ContrastRecipe, run: RunFolder, toxic: list[Prompt], evaluation_prompts: Sequence[Prompt], log: Log
) -> Path:
    benign = _benign_texts(recipe)
    identity = _identity(recipe, toxic, benign, evaluation_prompts)
    run.claim(identity, dump_yaml(to_tree(recipe)))
    words = _words(recipe, run, toxic, benign, log)
    prompts = _prompts(recipe, run, words, evaluation_prompts, log)
    answers = _answers(recipe, run, prompts, log)
    verdicts = _verdicts(recipe, run, answers, log)
    made = select(answers, verdicts, recipe.keep)
    return _finish(recipe, run, words, verdicts, made, log)


def _benign_texts(recipe: ContrastRecipe) -> list[str]:
    """Return the texts of the benign rows: prompt, input and completion."""
    sources = [recipe.benign] if isinstance(recipe.benign, str) else recipe.benign
    reads = [read_source(source, "benign", where=recipe.benign_where) for source in sources]
    rows = [row for read in reads for row in read.rows]
    return ["\n".join((text_of(row.prompt), row.input, flat_text(row.completion))) for row in rows]


def _identity(
    recipe: ContrastRecipe, toxic: Sequence[Prompt], benign: Sequence[str], evaluation: Sequence[Prompt]
) -> dict[str, Any]:
    """Return what words, prompts and answers depend on."""
    writer = recipe.writer
    wrote = (
        {"asked": _answerer_identity(writer.asked), "rounds": writer.rounds}
        if writer.asked
        else {"script": sha256_of(read_script(Path(writer.script or SCRIPT)))}
    )
    return {
        "algorithm": ALGORITHM,
        "prompts": sha256_of([to_dict(prompt) for prompt in toxic]),
        "benign": sha256_of(benign),
        "words": to_tree(recipe.words),
        "writer": {"per_word": writer.per_word, "similarity": writer.contamination_similarity, **wrote},
        "evaluation_prompts": sha256_of(sorted(text_of(prompt.prompt) for prompt in evaluation)),
        "answers": _answerer_identity(recipe.answers),
    }


def _answerer_identity(options: AnswererOptions) -> dict[str, Any]:
    return {
        "model": source_identity(options.model),
        "template": options.template,
        **options.generation.decoding,
    }


def _words(
    recipe: ContrastRecipe, run: RunFolder, toxic: Sequence[Prompt], benign: Sequence[str], log: Log
) -> list[ToxicWord]:
    file = run.path / "words.json"
    if "words" not in run.record()["stages"]:
        found = toxic_words(toxic, benign, recipe.words)
        write_json(file, [to_dict(word) for word in found])
        asked = len({name for word in found for name in word.prompts})
        run.finish("words", {"toxic_prompts": len(toxic), "with_a_word": asked, "words": len(found)})
    words = [ToxicWord(**value) for value in json.loads(file.read_text(encoding="utf-8"))]
    log(f"words: {len(words)} toxic ones in {len(toxic)} prompts")
    return words


def _prompts(
    recipe: ContrastRecipe, run: RunFolder, words: Sequence[ToxicWord], evaluation: Sequence[Prompt], log: Log
) -> list[Prompt]:
    file = run.path / "prompts.jsonl"
    if "prompts" not in run.record()["stages"]:
        pool = PromptPool(recipe.writer.per_word, evaluation, recipe.writer.contamination_similarity)
        if recipe.writer.asked is not None:
            _ask_for_prompts(recipe, run, words, pool)
        else:
            templates = read_script(Path(recipe.writer.script or SCRIPT))
            for word in words:
                pool.add(word.word, scripted(word.word, templates))
        prompts = pool.prompts()
        if not prompts:
            raise DataError(
                f"none of {len(words)} words has a usable prompt: {_counts(pool.left_out)}. Change the writer."
            )
        write_jsonl(file, prompts)
        wanting = sum(pool.missing(word.word) > 0 for word in words)
        figures = {
            "prompts": len(prompts),
            "words_with_too_few": wanting,
            "left_out": dict(sorted(pool.left_out.items())),
        }
        run.finish("prompts", figures)
    prompts = read_records(file, Prompt)
    log(f"prompts: {len(prompts)} seemingly toxic ones")
    return prompts


def _ask_for_prompts(recipe: ContrastRecipe, run: RunFolder, words: Sequence[ToxicWord], pool: PromptPool) -> None:
    """Ask a model for the words' prompts, in rounds; each round asks for the words that have too few yet."""
    options = recipe.writer.asked
    assert options is not None
    model = open_model(options.model, options.generation)
    for turn in range(1, recipe.writer.rounds + 1):
        lacking = [word.word for word in words if pool.missing(word.word)]
        if not lacking:
            return
        # The id seeds the sampling, so another round has another reply.
        asked = [
            Prompt(id=f"{word}/{turn}", suite="writer", prompt=request(word, recipe.writer.per_word))
            for word in lacking
        ]
        replies = _ask(model, options, asked, run.path / f"replies-{turn}.jsonl")
        for word, reply in zip(lacking, replies, strict=True):
            pool.add_reply(word, reply)


def _ask(model: Model, options: AnswererOptions, prompts: Sequence[Prompt], file: Path) -> list[Generation]:
    """Answer prompts, as the template shows them, into a file; continue what is there."""
    rendered = [render_prompt(prompt.prompt, "", options.template) for prompt in prompts]
    return model.answer(prompts, rendered, file)


def _answers(recipe: ContrastRecipe, run: RunFolder, prompts: Sequence[Prompt], log: Log) -> list[Generation]:
    """Return the answers as they are judged: what was cut at the token limit without its unfinished sentence."""
    file = run.path / "answers.jsonl"
    if "answers" in run.record()["stages"]:
        answers = read_records(file, Generation)
    else:
        log(f"answers: asking {name_of(recipe.answers.model)} ...")
        model = open_model(recipe.answers.model, recipe.answers.generation)
        answers = _ask(model, recipe.answers, prompts, file)
        run.finish("answers", {name: sum(answer.finish == name for answer in answers) for name in FINISHES})
    return [
        replace(answer, response=whole_sentences(answer.response)) if answer.finish == "length" else answer
        for answer in answers
    ]


def _verdicts(recipe: ContrastRecipe, run: RunFolder, answers: Sequence[Generation], log: Log) -> list[Verdict]:
    judges = open_judges(recipe.evaluation, recipe.evaluation.cache(Path(recipe.output)), log)
    verdicts = judge_generations(answers, judges.harm, judges.refusal)
    write_jsonl(run.path / "verdicts.jsonl", verdicts)
    return verdicts


def _finish(
    recipe: ContrastRecipe,
    run: RunFolder,
    words: Sequence[ToxicWord],
    verdicts: Sequence[Verdict],
    made: Contrast,
    log: Log,
) -> Path:
    """Write the rows, what led to them as ``manifest.json``, and the same for people as ``CARD.md``."""
    file = run.path / "contrast.jsonl"
    stages = run.record()["stages"]
    kept = {row.id for row in made.rows}
    languages = Counter(verdict.language for verdict in verdicts if verdict.id in kept)
    writer = recipe.writer
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "counts": {
            "toxic prompts": stages["words"]["toxic_prompts"],
            "toxic prompts with a toxic word": stages["words"]["with_a_word"],
            "toxic words": len(words),
            "toxic words with too few prompts": stages["prompts"]["words_with_too_few"],
            "seemingly toxic prompts": len(verdicts),
            "rows": len(made.rows),
        },
        "left_out": stages["prompts"]["left_out"] | {f"answer: {why}": count for why, count in made.left_out.items()},
        "languages": dict(sorted(languages.items())),
        "finishes": {name: stages["answers"][name] for name in FINISHES},
        "made_by": {
            "writer": name_of(writer.asked.model)
            if writer.asked
            else f"the script {Path(writer.script or SCRIPT).name}",
            "answers": name_of(recipe.answers.model),
            "judges": sorted({verdict.judge for verdict in verdicts}),
            "refusal_judges": sorted({verdict.refusal_judge for verdict in verdicts} - {""}),
        },
        "licences": sorted({source.licence or "not stated" for source in recipe.prompts}),
        "sha256": hash_rows(made.rows),
    }
    # It says that the rest is there, so it goes first and comes last.
    (run.path / "manifest.json").unlink(missing_ok=True)
    write_jsonl(file, made.rows)
    write_text(run.path / "CARD.md", contrast_card(manifest, [word.word for word in words]))
    write_json(run.path / "manifest.json", manifest)
    log(f"rows: {len(made.rows)} of {len(verdicts)} answers; left out: {_counts(made.left_out) or 'none'}")
    if not made.rows:
        log(
            "no answer can become a row: let a model answer that answers better, or a judge decide that knows more than words."
        )
    return file


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
