"""Answers shared out over processes and hosts: the prompts are cut into parts, and a process takes a part by its lock.

The folder has ``part-00007.jsonl`` for each part, its ``.meta.json``, its ``.lock``, and ``parts.json``, which says what run all
of it belongs to. The system lets go of a dead process's locks, so another one goes on with its part. Lock files are empty and
stay: taking one away could give a part to two processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from steerclear.errors import ConfigError, Log, StorageError, quiet
from steerclear.generation.answers import check_identity, finished, identity_of, progress_bar
from steerclear.generation.options import GenerationOptions
from steerclear.records import Generation, Messages, Prompt, write_json
from steerclear.store.locks import NO_LOCKS

Answer = Callable[[Sequence[Prompt], Sequence[str | Messages], Path], list[Generation]]
"""Fills the file of one part, as `steerclear.generation.generate` does with ``allow_too_long=True``."""

Shard = tuple[int, int]
"""``(i, n)``: of the parts 0, 1, 2, ... those whose number leaves the rest i when divided by n."""


def answer_in_parts(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    folder: Path,
    answer: Answer,
    *,
    model_id: str,
    part_size: int,
    shard: Shard | None = None,
    poll_s: float = 1.0,
    log: Log = quiet,
    progress: bool = True,
) -> list[Generation] | None:
    """Answer the prompts together with all other processes that call this with the same arguments, and return all answers.

    Finished parts are left alone, parts that another process holds are waited for, and those whose holder died are gone on with.
    Every batch lies within one part, so the answers are those of one process with the same ``part_size``, batch size and, on a
    CPU, number of threads, bit for bit.

    Args:
        prompts, rendered, options, model_id: as for `steerclear.generation.generate`.
        folder: where the parts lie, one for all processes.
        answer: fills the file of one part; it is first called when there is a part to answer.
        part_size: prompts in a part; the last may have fewer. Small parts share work better, large ones batch better.
        shard: take these parts only. Hosts with a shard each need no locks between them, where a shared file system has none;
            where it has, processes may share a shard.
        poll_s: seconds between two looks at the parts that others hold.
        log: told once that there are such parts.
        progress: show a bar on standard error, if that is a terminal; then ``answer`` must show none.

    Returns:
        The answers in the prompts' order; None if ``shard`` is done and other shards are not.

    Raises:
        ConfigError: ``part_size`` or ``shard`` is out of range.
        DataError: the folder belongs to other prompts, options, another model or part size; or two prompts share an id.
        StorageError: the folder cannot be written, or has no locks and no ``shard`` is given.
    """
    parts = _parts_of(prompts, rendered, options, folder, model_id=model_id, part_size=part_size)
    mine = [part for part in parts if _in_shard(part.number, shard)]
    _claim_folder(folder, _folder_identity(prompts, rendered, options, model_id, part_size))
    open_ = [part for part in mine if part.finished() is None]
    told = False
    with progress_bar(progress) as bar:
        done = sum(len(part.prompts) for part in mine) - sum(len(part.prompts) for part in open_)
        task = bar.add_task("answers", total=sum(len(part.prompts) for part in mine), completed=done)
        while open_:
            held = []
            for part in open_:
                if _settled(part, answer, without_locks=shard is not None):
                    bar.advance(task, len(part.prompts))
                else:
                    held.append(part)
            if len(held) == len(open_):
                if not told:
                    log(f"{folder}: the last {len(held)} parts are with other processes; waiting for them.")
                told = True
                time.sleep(poll_s)
            open_ = held
    return _joined(parts)


def finished_parts(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    folder: Path,
    *,
    model_id: str,
    part_size: int,
) -> list[Generation] | None:
    """Return the answers of a run of `answer_in_parts` that is complete, or None: a look that needs no model and changes nothing.

    Raises:
        ConfigError, DataError: as `answer_in_parts`.
    """
    parts = _parts_of(prompts, rendered, options, folder, model_id=model_id, part_size=part_size)
    if not _run_file(folder).is_file():
        return None
    check_identity(folder, _run_file(folder), _folder_identity(prompts, rendered, options, model_id, part_size))
    return _joined(parts)


@dataclass(frozen=True)
class _Part:
    number: int
    prompts: Sequence[Prompt]
    rendered: Sequence[str | Messages]
    options: GenerationOptions
    model_id: str
    path: Path

    def finished(self) -> list[Generation] | None:
        """Return its answers if its file is as it will stay; one that lacks only the order is not."""
        return finished(self.prompts, self.rendered, self.options, self.path, model_id=self.model_id, in_order=True)


def _parts_of(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    folder: Path,
    *,
    model_id: str,
    part_size: int,
) -> list[_Part]:
    if part_size < 1:
        raise ConfigError(f"part_size: got {part_size}, allowed: 1 or more prompts.")
    return [
        _Part(
            number, prompts[start : start + part_size], rendered[start : start + part_size], options, model_id,
            folder / f"part-{number:05d}.jsonl",
        )
        for number, start in enumerate(range(0, len(prompts), part_size))
    ]  # fmt: skip


def parse_shard(text: str) -> Shard:
    """Return the shard that ``I/N`` names.

    Raises:
        ConfigError: it is not of that form, or out of range.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise ConfigError(f"shard: got {text!r}, allowed: I/N, such as 0/4 for the first of four hosts.")
    shard = int(index), int(count)
    _in_shard(0, shard)
    return shard


def _in_shard(number: int, shard: Shard | None) -> bool:
    if shard is None:
        return True
    index, count = shard
    if not 0 <= index < count:
        raise ConfigError(f"shard: got {index} of {count}, allowed: 0 to {count - 1} of {count}, one for each host.")
    return number % count == index


def _run_file(folder: Path) -> Path:
    return folder / "parts.json"


def _folder_identity(
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    model_id: str,
    part_size: int,
) -> dict[str, Any]:
    return identity_of(prompts, rendered, options, model_id) | {"part_size": part_size}


def _claim_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Write what run the folder belongs to, unless it says so already. Of two runs that start at once, one is refused."""
    if not _run_file(folder).is_file():
        write_json(_run_file(folder), identity)
    check_identity(folder, _run_file(folder), identity)


def _settled(part: _Part, answer: Answer, *, without_locks: bool) -> bool:
    """Answer a part that nobody holds; return whether it is finished."""
    taken = _take(part, without_locks=without_locks)
    if taken is None:
        return False
    with taken:
        if part.finished() is None:
            answer(part.prompts, part.rendered, part.path)
    return True


def _take(part: _Part, *, without_locks: bool) -> AbstractContextManager[Any] | None:
    """Return what holds the part until it is left, or None where another process holds it."""
    lock = FileLock(part.path.with_suffix(".lock"), fallback_to_soft=False)
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        return None
    except OSError as error:
        if without_locks and error.errno in NO_LOCKS:
            return nullcontext()
        raise StorageError(
            f"{part.path.parent}: a part cannot be locked ({error.strerror}). Choose a folder whose file system has locks, or "
            "give each host a shard and start one process on each."
        ) from error


def _joined(parts: Sequence[_Part]) -> list[Generation] | None:
    answers: list[Generation] = []
    for part in parts:
        found = part.finished()
        if found is None:
            return None
        answers += found
    return answers
