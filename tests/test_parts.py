"""Parts: many processes, some of them killed, answer as one unbroken process does."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from steerclear.errors import ConfigError, DataError, StorageError
from steerclear.generation.answers import fill_file, generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.parts import answer_in_parts, finished_parts
from steerclear.records import Generation, Messages, Prompt, read_records

PROMPTS = [Prompt(id=f"p{i}", suite="small", prompt=f"question {i} ?") for i in range(10)]
OPTIONS = GenerationOptions(max_new_tokens=6, temperature=1.0)
RUN: dict[str, Any] = {
    "prompts": PROMPTS,
    "rendered": [str(p.prompt) for p in PROMPTS],
    "options": OPTIONS,
    "model_id": "tiny",
    "part_size": 4,
}


class Scripted:
    """Answers a part as its prompts say, and remembers which parts it was asked for."""

    def __init__(self, options: GenerationOptions = OPTIONS) -> None:
        self.asked: list[str] = []
        self._options = options

    def __call__(self, prompts: Sequence[Prompt], rendered: Sequence[str | Messages], path: Path) -> list[Generation]:
        self.asked.append(path.name)

        def answer(todo: Sequence[Prompt]) -> Any:
            for prompt in reversed(todo):
                text = f"é {prompt.id}"
                yield [Generation(id=prompt.id, suite="s", prompt=prompt.prompt, response=text, finish="eos", tokens=1)]

        return fill_file(prompts, rendered, self._options, path, answer, model_id="tiny", progress=False)


def run(folder: Path, answer: Callable[..., Any], **changes: Any) -> list[Generation] | None:
    return answer_in_parts(folder=folder, answer=answer, progress=False, **(RUN | changes))


def texts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part*.json*"))}


def test_parts_are_joined_in_the_prompts_order(tmp_path: Path) -> None:
    answer = Scripted()
    answers = run(tmp_path, answer)
    assert answers is not None
    assert [a.id for a in answers] == [p.id for p in PROMPTS]
    assert answer.asked == [f"part-0000{i}.jsonl" for i in range(3)]
    assert [len(read_records(tmp_path / name, Generation)) for name in answer.asked] == [4, 4, 2]
    assert run(tmp_path, answer) == answers
    assert len(answer.asked) == 3


def test_no_prompts_are_answered_at_once(tmp_path: Path) -> None:
    assert run(tmp_path, Scripted(), prompts=[], rendered=[]) == []


def test_a_look_needs_no_model_and_changes_nothing(tmp_path: Path) -> None:
    assert finished_parts(folder=tmp_path / "none", **RUN) is None
    assert not (tmp_path / "none").exists()
    answers = run(tmp_path, Scripted())
    assert finished_parts(folder=tmp_path, **RUN) == answers
    part = tmp_path / "part-00001.jsonl"
    whole = part.read_bytes()
    # What a process is just writing ends anywhere, in the middle of a letter too.
    part.write_bytes(whole[: whole.rindex("é".encode()) + 1])
    before = part.read_bytes()
    assert finished_parts(folder=tmp_path, **RUN) is None
    assert part.read_bytes() == before
    assert run(tmp_path, Scripted()) == answers
    assert part.read_bytes() == whole


def test_a_part_that_lacks_only_its_order_gets_it(tmp_path: Path) -> None:
    answers = run(tmp_path, Scripted())
    part = tmp_path / "part-00000.jsonl"
    whole = part.read_bytes()
    part.write_bytes(b"".join(reversed(whole.splitlines(keepends=True))))
    assert run(tmp_path, Scripted()) == answers
    assert part.read_bytes() == whole


def test_a_part_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "part-00001.lock")
    answer, told = Scripted(), []

    def log(message: str) -> None:
        told.append((message, list(answer.asked)))
        held.release()

    with held:
        answers = run(tmp_path, answer, log=log, poll_s=0.01)
    assert answers is not None
    assert len(answers) == len(PROMPTS)
    assert told == [
        (
            f"{tmp_path}: the last 1 parts are with other processes; waiting for them.",
            ["part-00000.jsonl", "part-00002.jsonl"],
        )
    ]
    assert answer.asked[2:] == ["part-00001.jsonl"]


def test_shards_are_apart_and_make_a_whole(tmp_path: Path) -> None:
    even, odd = Scripted(), Scripted()
    assert run(tmp_path, even, shard=(0, 2)) is None
    answers = run(tmp_path, odd, shard=(1, 2))
    assert (even.asked, odd.asked) == (["part-00000.jsonl", "part-00002.jsonl"], ["part-00001.jsonl"])
    assert answers == run(tmp_path / "whole", Scripted())
    assert texts(tmp_path) == texts(tmp_path / "whole")


def test_without_locks_only_shards_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(StorageError, match=r"a part cannot be locked.*give each host a shard"):
        run(tmp_path, Scripted())
    assert run(tmp_path, Scripted(), shard=(0, 2)) is None
    assert run(tmp_path, Scripted(), shard=(1, 2)) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part_size": 5}, r"part_size \(file 4, now 5\)"),
        ({"model_id": "other"}, r"model \(file 'tiny', now 'other'\)"),
        ({"options": dataclasses.replace(OPTIONS, seed=1)}, r"seed \(file 0, now 1\)"),
        ({"prompts": PROMPTS[:8], "rendered": RUN["rendered"][:8]}, r"prompts \(file 10, now 8\)"),
        ({"rendered": ["x", *RUN["rendered"][1:]]}, r"prompts_sha256 \(file"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run(tmp_path, Scripted())
    before = texts(tmp_path)
    for look in (run, finished_parts):
        arguments = {"answer": Scripted()} if look is run else {}
        with pytest.raises(DataError, match=message) as caught:
            look(folder=tmp_path, **arguments, **(RUN | changes if look is finished_parts else changes))
        assert "Write to another folder, or delete this one and parts.json" in str(caught.value)
    assert texts(tmp_path) == before


def test_the_batch_size_may_change_on_the_way(tmp_path: Path) -> None:
    answers = run(tmp_path, Scripted())
    assert run(tmp_path, Scripted(), options=dataclasses.replace(OPTIONS, batch_size=1)) == answers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part_size": 0}, "part_size: got 0, allowed: 1 or more"),
        ({"shard": (2, 2)}, "shard: got 2 of 2, allowed: 0 to 1 of 2"),
        ({"shard": (-1, 2)}, "shard: got -1 of 2"),
    ],
)
def test_what_is_out_of_range_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, Scripted(), **changes)
    assert not list(tmp_path.iterdir())


def test_a_part_of_long_prompts_only_is_left_out(tmp_path: Path, make_llama: Any, tokenizer: Any) -> None:
    prompts = [*PROMPTS[:4], Prompt(id="endless", suite="small", prompt="a" + " bread" * 300)]
    model = make_llama().eval()

    def answer(prompts: Sequence[Prompt], rendered: Sequence[str | Messages], path: Path) -> list[Generation]:
        return generate(model, tokenizer, prompts, rendered, OPTIONS, path, model_id="tiny", allow_too_long=True)

    answers = run(tmp_path, answer, prompts=prompts, rendered=[p.prompt for p in prompts])
    assert answers is not None
    assert [a.finish == "failed" for a in answers] == [False] * 4 + [True]


HERD = textwrap.dedent("""
    import json, os, random, signal, sys, time
    from pathlib import Path
    import torch
    from steerclear.generation import parts as g
    from steerclear.generation.answers import generate
    from steerclear.generation.options import GenerationOptions
    from steerclear.generation.weights import load_model
    from steerclear.records import JsonlAppender, Prompt

    torch.set_num_threads(1)
    here = Path(sys.argv[1])
    prompts = [Prompt(**p) for p in json.loads((here / "prompts.json").read_text())]
    options = GenerationOptions(max_new_tokens=12, temperature=1.0, seed=5, batch_size=3)
    run = {"model_id": "tiny", "part_size": 7}
    asked = prompts, [p.prompt for p in prompts], options
    model, tokenizer = load_model(str(here / "model"), device="cpu")
    append = JsonlAppender.append

    def slowly(self, *records):
        append(self, *records)
        time.sleep(0.02)

    def answer(prompts, rendered, path):
        with (here / f"{path.parent.name}.asked").open("a") as out:
            out.write(f"{os.getpid()} {path.name}\\n")
        return generate(model, tokenizer, prompts, rendered, options, path, model_id="tiny", progress=False)

    def start(folder, slow):
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            if slow:
                JsonlAppender.append = slowly
            status = int(g.answer_in_parts(*asked, here / folder, answer, **run, poll_s=0.02, progress=False) is None)
        finally:
            os._exit(status)

    def end(process):
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    assert end(start("whole", slow=False)) == 0
    chance, kills = random.Random(), 0
    herd = [start("herd", slow=True) for _ in range(3)]
    while kills < 10 and g.finished_parts(*asked, here / "herd", **run) is None:
        time.sleep(chance.uniform(0.02, 0.2))
        victim = herd.pop(chance.randrange(3))
        os.kill(victim, signal.SIGKILL)
        kills += end(victim) == -signal.SIGKILL
        herd.append(start("herd", slow=True))
    assert [end(process) for process in herd] == [0, 0, 0]
    whole, parts = (g.finished_parts(*asked, here / folder, **run) for folder in ("whole", "herd"))
    assert len(whole) == len(prompts) and parts == whole
    print(kills)
""")


def test_processes_killed_at_random_leave_what_one_unbroken_process_does(
    tmp_path: Path, make_llama: Any, tokenizer: Any
) -> None:
    make_llama().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    words = ["how", "do", "i", "bake", "a", "loaf", "of", "bread", "and", "read", "the", "book"]
    prompts = [Prompt(id=f"p{i}", suite="s", prompt=" ".join(words[i % 7 :][: 1 + i % 5])) for i in range(60)]
    (tmp_path / "prompts.json").write_text(json.dumps([dataclasses.asdict(p) for p in prompts]))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HERD, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert texts(tmp_path / "herd") == texts(tmp_path / "whole")
    assert len(texts(tmp_path / "whole")) == 2 * 9 + 1
    asked = [line.split() for line in (tmp_path / "herd.asked").read_text().splitlines()]
    assert len({process for process, _ in asked}) > 3  # many took part,
    assert len(asked) > len({part for _, part in asked}) == 9  # and parts changed hands
    # A kill in the middle of an atomic write leaves its hidden temporary file.
    left = [path for path in (tmp_path / "herd").iterdir() if not path.name.startswith(".")]
    assert {path.suffix for path in left} == {".json", ".jsonl", ".lock"}
