"""Answers from an endpoint: the files of a local run, whatever the order of answers, the failures or a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from servers import Answer, Request, Server, chat_answer, completion_answer
from steerclear.endpoint import Endpoint, EndpointOptions
from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.generation.answers import finished, generate
from steerclear.generation.options import GenerationOptions
from steerclear.generation.served import generate_from_endpoint
from steerclear.records import Generation, Messages, Prompt, read_records

KEY = "sk-SECRET-marker-79"
PROMPTS = [Prompt(id=f"p{i}", suite="small", prompt=f"say {i}", tags={"n": str(i)}) for i in range(12)]
TEXTS = [f"Question: {p.prompt}\nAnswer:" for p in PROMPTS]
GREEDY = GenerationOptions(max_new_tokens=12)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def endpoint(server: Server, **options: Any) -> Endpoint:
    settings: dict[str, Any] = {
        "model": "m",
        "base_url": server.url,
        "retry_wait": 0.01,
        "timeout": 5.0,
        "concurrency": 4,
    }
    return Endpoint(EndpointOptions(**(settings | options)))


def number_of(request: Request) -> int:
    return int(request.body["prompt"].split()[2])


def said(request: Request) -> Answer:
    """Later prompts are answered sooner, every third is cut."""
    number = number_of(request)
    return dataclasses.replace(
        completion_answer(f" it is {number} ", "length" if number % 3 == 0 else "stop"), delay=0.03 * (12 - number) / 12
    )


def answer_of(number: int) -> Generation:
    prompt = PROMPTS[number]
    finish = "length" if number % 3 == 0 else "eos"
    return Generation(
        id=prompt.id,
        suite="small",
        prompt=prompt.prompt,
        response=f"it is {number}",
        finish=finish,
        tokens=3,
        tags=prompt.tags,
    )


ANSWERS = [answer_of(i) for i in range(12)]


def test_a_begun_answer_is_sent_as_the_last_message(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "say 1"}, {"role": "assistant", "content": "Sure, it"}]
    with Server(lambda _: chat_answer(" is one .")) as server:
        answers = generate_from_endpoint(endpoint(server), PROMPTS[:1], [turns], GREEDY, tmp_path / "g.jsonl")
        assert server.requests[0].body["messages"] == turns
    assert answers[0].response == "is one ."


def test_texts_are_continued_and_written_in_the_prompts_order(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    with Server(said) as server:
        asked = endpoint(server)
        assert generate_from_endpoint(asked, PROMPTS, TEXTS, GREEDY, path) == ANSWERS
        assert finished(PROMPTS, TEXTS, GREEDY, path, model_id=asked.options.identity) == ANSWERS
        assert generate_from_endpoint(asked, PROMPTS, TEXTS, GREEDY, path) == ANSWERS
    assert read_records(path, Generation) == ANSWERS
    assert len(server.requests) == 12
    request = min(server.requests, key=number_of)
    assert request.path == "/completions"
    assert request.body == {"model": "m", "prompt": TEXTS[0], "max_tokens": 12, "temperature": 0.0}
    assert json.loads((tmp_path / "g.jsonl.meta.json").read_text())["model"] == f"m at {server.url}"
    assert "SECRET-marker" not in "".join(p.read_text() for p in tmp_path.iterdir())


def test_messages_are_answered_and_every_prompt_has_a_seed_of_its_own(tmp_path: Path) -> None:
    messages: list[str | Messages] = [[{"role": "user", "content": "same"}] for _ in PROMPTS]
    options = GenerationOptions(max_new_tokens=5, temperature=0.7, top_p=0.9, seed=1)
    seeds = []
    for number, chosen in enumerate((options, options, dataclasses.replace(options, seed=2))):
        with Server(lambda r: chat_answer(str(r.body["seed"]))) as server:
            answers = generate_from_endpoint(endpoint(server), PROMPTS, messages, chosen, tmp_path / f"{number}.jsonl")
        seeds.append([answer.response for answer in answers])
        expected = {"model": "m", "messages": messages[0], "max_tokens": 5, "temperature": 0.7, "top_p": 0.9}
        assert all(r.body == expected | {"seed": r.body["seed"]} for r in server.requests)
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0] + seeds[2])) == 24
    assert all(0 <= int(seed) < 2**31 for seed in seeds[0])


def test_a_server_that_does_not_count_tokens(tmp_path: Path) -> None:
    body = {"choices": [{"text": "x", "finish_reason": "content_filter"}]}
    with Server(lambda _: Answer(body)) as server:
        [answer] = generate_from_endpoint(endpoint(server), PROMPTS[:1], TEXTS[:1], GREEDY, tmp_path / "g.jsonl")
    assert (answer.tokens, answer.finish) == (0, "eos")


def test_what_has_no_answer_is_said_after_all_others_are_written_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    faults = {2: Answer({"error": {"message": "too long"}}, status=400), 7: Answer(status=500), 8: Answer(status=500)}
    with Server(lambda r: faults.get(number_of(r)) or said(r)) as server:
        message = r"2 of 12 prompts have no answer \(2 x HTTP 500 \(2 tries\)\).*run again"
        with pytest.raises(ModelError, match=message):
            generate_from_endpoint(endpoint(server, max_retries=1), PROMPTS, TEXTS, GREEDY, path)
        assert sorted(a.id for a in read_records(path, Generation)) == sorted(
            f"p{i}" for i in range(12) if i not in (7, 8)
        )
        server.script, before = said, len(server.requests)
        answers = generate_from_endpoint(endpoint(server), PROMPTS, TEXTS, GREEDY, path)
    assert sorted(number_of(r) for r in server.requests[before:]) == [7, 8]
    assert read_records(path, Generation) == answers
    # What the server will never answer has a record that says so, and is not asked again.
    assert (answers[2].finish, answers[2].response, answers[2].tags["failure"]) == ("failed", "", "HTTP 400: too long")
    assert [a for i, a in enumerate(answers) if i != 2] == [a for i, a in enumerate(ANSWERS) if i != 2]


def test_a_wrong_key_stops_it_and_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    wrong_key = Answer(status=401, delay=0.2)
    with (
        Server(lambda r: said(r) if number_of(r) < 4 else wrong_key) as server,
        pytest.raises(ConfigError, match="HTTP 401"),
    ):
        generate_from_endpoint(endpoint(server), PROMPTS, TEXTS, GREEDY, path)
    assert {a.id for a in read_records(path, Generation)} == {"p0", "p1", "p2", "p3"}
    assert len(server.requests) <= 8


@pytest.mark.parametrize("settings", [{"num_beams": 2}, {"top_k": 40, "temperature": 1.0}])
def test_what_the_protocol_lacks_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with Server(said) as server, pytest.raises(ConfigError, match="an endpoint has neither a beam search nor top-k"):
        generate_from_endpoint(endpoint(server), PROMPTS, TEXTS, GenerationOptions(**settings), tmp_path / "g.jsonl")
    assert not server.requests


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    with Server(said) as server:
        generate_from_endpoint(endpoint(server), PROMPTS, TEXTS, GREEDY, tmp_path / "g.jsonl")
        with pytest.raises(DataError, match="belongs to another run; differing: model"):
            generate_from_endpoint(endpoint(server, model="n"), PROMPTS, TEXTS, GREEDY, tmp_path / "g.jsonl")


def test_a_killed_process_is_continued(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        import test_endpoint_generation as t
        from steerclear.endpoint import Endpoint, EndpointOptions
        asked = Endpoint(EndpointOptions(model="m", base_url=sys.argv[1], concurrency=2))
        t.generate_from_endpoint(asked, t.PROMPTS, t.TEXTS, t.GREEDY, Path(sys.argv[2]))
    """)
    path = tmp_path / "g.jsonl"
    killed = threading.Event()

    def first_four(request: Request) -> Answer:
        if server.requests.index(request) >= 4:
            killed.wait(120)
        return said(request)

    with Server(first_four) as server:
        arguments = [sys.executable, "-c", script, server.url, str(path)]
        process = subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
        deadline = time.monotonic() + 60
        while not (path.is_file() and path.read_bytes().count(b"\n") >= 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed.set()
        kept = {a.id for a in read_records(path, Generation)}
        assert 3 <= len(kept) < 12
        server.script, before = said, len(server.requests)
        assert generate_from_endpoint(endpoint(server), PROMPTS, TEXTS, GREEDY, path) == ANSWERS
    again = Counter(f"p{number_of(r)}" for r in server.requests[before:])
    assert again == Counter({prompt.id for prompt in PROMPTS} - kept)


def test_the_same_model_behind_a_server_gives_the_same_answers(
    make_llama: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    model = make_llama().eval()

    def serve(request: Request) -> Answer:
        encoded = tokenizer(request.body["prompt"], return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            output = model.generate(**encoded, max_new_tokens=request.body["max_tokens"], do_sample=False)[0]
        new = output[encoded["input_ids"].shape[1] :]
        ended = int(new[-1]) == tokenizer.eos_token_id
        text = tokenizer.decode(new, skip_special_tokens=True)
        choice = {"index": 0, "text": text, "finish_reason": "stop" if ended else "length"}
        return Answer({"choices": [choice], "usage": {"completion_tokens": len(new) - ended}})

    asked = PROMPTS[:5], TEXTS[:5], GenerationOptions(max_new_tokens=8)
    local = generate(model, tokenizer, *asked, tmp_path / "local.jsonl", model_id="tiny")
    with Server(serve) as server:
        remote = generate_from_endpoint(endpoint(server, concurrency=1), *asked, tmp_path / "remote.jsonl")
    assert remote == local
    assert (tmp_path / "remote.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
