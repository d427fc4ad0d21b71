"""Files of answers: begun, continued, and finished in the prompts' order."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from steerclear.errors import DataError
from steerclear.generation.options import GenerationOptions
from steerclear.records import (
    FAILURE,
    SCHEMA_VERSION,
    Generation,
    JsonlAppender,
    Messages,
    Prompt,
    read_records,
    sha256_of,
    to_dict,
    write_json,
    write_jsonl,
)

logger = logging.getLogger(__name__)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    *,
    model_id: str,
    allow_too_long: bool = False,
    progress: bool = True,
) -> list[Generation]:
    """Answer every prompt and write the answers to ``path``, in the prompts' order.

    A prompt that does not fit into the model's context is never cut: its record says why there is no answer.

    Finished batches are on disk at once, so a run that was killed continues where it was: call it again with the same
    arguments. Its batches are those of an unbroken run, so its answers are too, bit for bit, if the batch sizes are the same.
    A sidecar ``<path>.meta.json`` says what the file belongs to.

    Args:
        model: a causal language model, also with an unmerged adapter; it is put into evaluation mode.
        tokenizer: its tokenizer.
        prompts: what is asked, with distinct ids.
        rendered: what the model reads for each prompt: text, or messages for the chat template.
        options: how to decode.
        path: JSONL file of `Generation` records.
        model_id: what names these weights in the sidecar: model and adapter, or a hash.
        allow_too_long: leave out prompts that do not fit, however many they are: for a part of a larger set.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        DataError: two prompts share an id, more than half of the prompts do not fit into the model's context together with
            ``max_new_tokens`` (unless ``allow_too_long``), or the file belongs to other prompts, options or another model.
        ModelError: the tokenizer has no chat template but a prompt has messages, or the GPU's memory is exhausted.
        StorageError: the file cannot be written.
    """
    from steerclear.generation.decoding import (  # torch, for local models only
        Decoder,
        batches,
        encode,
        refuse_most,
        too_long,
    )

    encoded = {p.id: encode(tokenizer, text, p.id) for p, text in zip(prompts, rendered, strict=True)}
    left_out = too_long(encoded, options, getattr(model.config, "max_position_embeddings", None))
    if not allow_too_long:
        refuse_most(left_out, encoded)
    if left_out:
        name, reason = next(iter(left_out.items()))
        logger.warning("%d of %d prompts get no answer: '%s' has %s.", len(left_out), len(prompts), name, reason)
    decoder = Decoder(model, tokenizer, options)

    def answer(todo: Sequence[Prompt]) -> Iterator[list[Generation]]:
        yield [unanswered(prompt, f"the prompt has {left_out[prompt.id]}") for prompt in todo if prompt.id in left_out]
        missing = {prompt.id for prompt in todo}
        # The batches of all prompts, whatever is done: another padding would round differently and could change a sample.
        for batch in batches([prompt for prompt in prompts if prompt.id not in left_out], encoded, options):
            if missing.isdisjoint(prompt.id for prompt in batch):
                continue
            answers = decoder.answer(batch, [encoded[prompt.id] for prompt in batch])
            yield [answer for answer in answers if answer.id in missing]

    return fill_file(prompts, rendered, options, path, answer, model_id=model_id, progress=progress)


def unanswered(prompt: Prompt, reason: str) -> Generation:
    """Return the record of a prompt that gets no answer."""
    return Generation(
        id=prompt.id, suite=prompt.suite, prompt=prompt.prompt, response="", finish="failed", tokens=0,
        tags=prompt.tags | {FAILURE: reason},
    )  # fmt: skip


def fill_file(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    answer: Callable[[Sequence[Prompt]], Iterator[list[Generation]]],
    *,
    model_id: str,
    progress: bool = True,
) -> list[Generation]:
    """Continue a file of answers until it has all, and return them in the prompts' order, which is then the file's.

    Args:
        answer: yields the answers to the prompts that have none yet, in any order; each list is on disk before the next is
            asked for, and stays there if this raises.

    Raises:
        DataError: two prompts share an id, or the file belongs to other prompts, options or another model.
        StorageError: the file cannot be written.
    """
    identity = identity_of(prompts, rendered, options, model_id)
    done = _read_done(path, identity)
    if not done:
        write_json(_sidecar(path), identity)
    with progress_bar(progress) as bar, JsonlAppender(path) as out:
        task = bar.add_task("answers", total=len(prompts), completed=len(done))
        for answers in answer([prompt for prompt in prompts if prompt.id not in done]):
            out.append(*answers)
            done.update((answer.id, answer) for answer in answers)
            bar.update(task, completed=len(done))
    ordered = [done[prompt.id] for prompt in prompts]
    write_jsonl(path, ordered)
    return ordered


def finished(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    *,
    model_id: str,
    in_order: bool = False,
) -> list[Generation] | None:
    """Return the answers of a run of `generate` that is complete, or None: a look that needs no model and changes nothing.

    Args:
        in_order: take the run for complete only when the file has the prompts' order, which it gets last.

    Raises:
        DataError: the file belongs to other prompts, options or another model.
    """
    done = _read_done(path, identity_of(prompts, rendered, options, model_id))
    ids = [prompt.id for prompt in prompts]
    complete = list(done) == ids if in_order else all(name in done for name in ids)
    return [done[name] for name in ids] if complete else None


def identity_of(
    prompts: Sequence[Prompt], rendered: Sequence[str | Messages], options: GenerationOptions, model_id: str
) -> dict[str, Any]:
    """Return what the answers depend on, in a form a person can read."""
    ids = [prompt.id for prompt in prompts]
    twice = next((name for name in ids if ids.count(name) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise DataError(f"prompt id '{twice}' is used more than once. Give each prompt its own id.")
    asked = [[to_dict(prompt), text] for prompt, text in zip(prompts, rendered, strict=True)]
    return {
        "schema": SCHEMA_VERSION,
        "model": model_id,
        **options.decoding,
        "prompts": len(prompts),
        "prompts_sha256": sha256_of(asked),
    }


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def _read_done(path: Path, identity: dict[str, Any]) -> dict[str, Generation]:
    """Return the answers already in the file by prompt id, after making sure that they belong to this run."""
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    check_identity(path, _sidecar(path), identity)
    return {answer.id: answer for answer in read_records(path, Generation, growing=True)}


def check_identity(path: Path, sidecar: Path, identity: dict[str, Any]) -> None:
    """Make sure that a file or folder of answers, described by its sidecar, belongs to this run.

    Raises:
        DataError: it is another run's, or the sidecar is missing or broken.
    """
    kind = "folder" if path.is_dir() else "file"
    advice = f"Write to another {kind}, or delete this one and {sidecar.name} to generate afresh."
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: has answers, but {sidecar.name} that says whose is missing or broken. {advice}"
        ) from error
    differing = [
        f"{key} (file {found.get(key)!r}, now {identity.get(key)!r})"
        for key in identity | found
        if found.get(key) != identity.get(key)
    ]
    if differing:
        raise DataError(f"{path}: belongs to another run; differing: {', '.join(differing)}. {advice}")


def progress_bar(wanted: bool) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not (wanted and console.is_terminal))
