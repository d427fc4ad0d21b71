"""Generation: the same answers as a plain loop, whatever the batching, the seed's order or a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import GenerationConfig

from steerclear.data.templates import TEMPLATES, begin_answer, render_prompt, render_row
from steerclear.data.tokenization import AvoidTokens, tokenize_row
from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.generation.answers import finished, generate
from steerclear.generation.decoding import SeededSampling, encode
from steerclear.generation.options import GenerationOptions
from steerclear.generation.samples import whole_sentences
from steerclear.generation.weights import load_model
from steerclear.records import Generation, Messages, Prompt, Row, read_records

TEXTS = [
    "how do i bake a loaf of bread ?",
    "write a note .",
    "what does the quick brown fox do to the lazy dog , and why ?",
    "a",
    "read a book about bread and then write a short note to a friend about it .",
    "goodbye .",
    "how do i wait ?",
    "the dog reads .",
    "mix the flour .",
]
PROMPTS = [Prompt(id=f"p{i}", suite="small", prompt=t, tags={"n": str(i)}) for i, t in enumerate(TEXTS)]
GREEDY = GenerationOptions(max_new_tokens=12)
SAMPLED = GenerationOptions(max_new_tokens=12, temperature=0.9, top_p=0.95, top_k=50, seed=3)


@pytest.fixture
def model(make_llama: Callable[..., Any]) -> Any:
    return make_llama().eval()


@pytest.fixture
def run(model: Any, tokenizer: Any, tmp_path: Path) -> Callable[..., list[Generation]]:
    """A function that answers the prompts, each time into a new file unless one is named."""
    count = iter(range(100))

    def run(options: GenerationOptions, prompts: Sequence[Prompt] = PROMPTS, **changes: Any) -> list[Generation]:
        arguments: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "model_id": "tiny"}
        arguments |= {"rendered": [p.prompt for p in prompts], "path": tmp_path / f"{next(count)}.jsonl"}
        return generate(prompts=prompts, options=options, **(arguments | changes))

    return run


def one_at_a_time(model: Any, tokenizer: Any, texts: Sequence[str], new_tokens: int, **settings: Any) -> list[str]:
    """What a plain loop over `model.generate` answers."""
    answers = []
    for text in texts:
        encoded = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        output = model.generate(**encoded, max_new_tokens=new_tokens, do_sample=False, **settings)
        answers.append(tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def responses(answers: Sequence[Generation]) -> list[str]:
    return [answer.response for answer in answers]


def test_greedy_equals_a_plain_loop(run: Any, model: Any, tokenizer: Any) -> None:
    answers = run(dataclasses.replace(GREEDY, batch_size=4))
    assert responses(answers) == one_at_a_time(model, tokenizer, TEXTS, 12)
    assert [a.id for a in answers] == [p.id for p in PROMPTS]
    assert [(a.suite, a.prompt, a.tags) for a in answers] == [(p.suite, p.prompt, p.tags) for p in PROMPTS]


@pytest.mark.parametrize("cache", ["static", "paged"])
def test_the_cache_changes_no_answer(run: Any, model: Any, cache: str) -> None:
    before = model.config._attn_implementation
    answers = run(dataclasses.replace(GREEDY, batch_size=2, cache=cache))
    assert answers == run(GREEDY)
    assert model.config._attn_implementation == before
    assert run(GREEDY)[0] == answers[0]  # and the model is what it was


def test_beam_search_equals_a_plain_loop(run: Any, model: Any, tokenizer: Any) -> None:
    answers = run(dataclasses.replace(GREEDY, num_beams=3, batch_size=4))
    assert responses(answers) == one_at_a_time(model, tokenizer, TEXTS, 12, num_beams=3)


def test_greedy_on_a_trained_model_equals_a_plain_loop(tiny_base: Path, shared_data: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(tiny_base), dtype="float32", device="cpu")
    lines = (shared_data / "safety_benchmarks/all_518.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[::26]]
    prompts = [Prompt(id=r["id"], suite=r["benchmark"], prompt=r["prompt"]) for r in rows]
    texts = [f"Question: {r['prompt']}\nAnswer:" for r in rows]
    answers = generate(
        model, tokenizer, prompts, texts, GenerationOptions(max_new_tokens=16), tmp_path / "g.jsonl", model_id="base"
    )
    assert len(answers) == 20
    assert responses(answers) == one_at_a_time(model, tokenizer, texts, 16)


def test_sampled_answers_do_not_depend_on_batching_or_order(run: Any) -> None:
    alone = run(dataclasses.replace(SAMPLED, batch_size=1))
    assert run(dataclasses.replace(SAMPLED, batch_size=7)) == alone
    assert run(dataclasses.replace(SAMPLED, batch_tokens=60)) == alone
    assert run(SAMPLED, PROMPTS[::-1]) == alone[::-1]


def test_the_seed_and_the_id_choose_the_sample(run: Any) -> None:
    same_text = [dataclasses.replace(PROMPTS[0], id=f"again-{i}") for i in range(6)]
    answers = responses(run(SAMPLED, same_text))
    assert len(set(answers)) > 1
    assert responses(run(dataclasses.replace(SAMPLED, seed=4), same_text)) != answers


def test_sampling_follows_the_softmax_after_temperature() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    ids = [str(i) for i in range(4000)]
    drawn = SeededSampling(GenerationOptions(temperature=0.7), ids)(None, scores.repeat(len(ids), 1))
    assert (drawn == 0).sum(1).eq(1).all()
    assert (drawn == -torch.inf).sum(1).eq(4).all()
    counts = Counter(drawn.argmax(1).tolist())
    expected = [len(ids) * p for p in (scores[:4] / 0.7).double().softmax(0).tolist()]
    assert counts[4] == 0
    assert chisquare([counts[i] for i in range(4)], expected, sum_check=False).pvalue > 0.01


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [({"top_k": 2}, {0, 2}), ({"top_p": 0.6}, {0, 2}), ({"top_k": 1}, {2}), ({"temperature": 1e-4}, {2})],
)
def test_sampling_keeps_to_top_k_and_top_p(changes: dict[str, Any], allowed: set[int]) -> None:
    probabilities = torch.tensor([0.3, 0.15, 0.4, 0.15])  # top_p 0.6 needs the tokens of 0.4 and 0.3
    ids = [str(i) for i in range(200)]
    options = GenerationOptions(**({"temperature": 1.0} | changes))
    drawn = SeededSampling(options, ids)(None, probabilities.log().repeat(len(ids), 1))
    assert set(drawn.argmax(1).tolist()) == allowed


def test_an_answer_ends_at_any_of_the_models_end_tokens(run: Any, model: Any, tokenizer: Any) -> None:
    free = run(GREEDY)
    assert all(a.finish == "length" and a.tokens == 12 for a in free)
    first_tokens = model.generate(**tokenizer(TEXTS[0], return_tensors="pt"), max_new_tokens=4, do_sample=False)[0, -4:]
    model.generation_config.eos_token_id = [2, int(first_tokens[3])]
    ended = run(GREEDY)[0]
    assert (ended.finish, ended.tokens) == ("eos", first_tokens.tolist().index(first_tokens[3]))
    assert free[0].response.startswith(ended.response)


def test_the_models_own_decoding_settings_are_left_out_and_left_alone(run: Any, model: Any) -> None:
    plain = run(GREEDY)
    own = GenerationConfig(repetition_penalty=5.0, do_sample=True, temperature=3.0, eos_token_id=2, pad_token_id=0)
    model.generation_config = own
    assert run(GREEDY) == plain
    assert model.generation_config is own


def test_an_unmerged_adapter_answers(run: Any, model: Any, tokenizer: Any) -> None:
    plain = run(GREEDY)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    answers = run(GREEDY, model=adapted)
    assert answers != plain
    assert responses(answers) == one_at_a_time(adapted, tokenizer, TEXTS, 12)


def test_messages_take_the_chat_template_without_a_second_bos(run: Any, model: Any, tokenizer: Any) -> None:
    messages: list[Messages] = [[{"role": "user", "content": "how do i wait ?"}]]
    answer = run(GREEDY, PROMPTS[:1], rendered=messages)[0]
    ids = torch.tensor(
        [tokenizer("<|user|>\nhow do i wait ?</s>\n<|assistant|>\n", add_special_tokens=False).input_ids]
    )
    output = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert answer.response == tokenizer.decode(output, skip_special_tokens=True).strip()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_begun_answer_has_the_tokens_of_a_training_row(run: Any, model: Any, tokenizer: Any, template: str) -> None:
    opening, rest = "mix the  flour", " and the water , then wait ."
    # Where a plain prompt ends in a space, a row keeps the boundary that a begun text no longer has: see test_tokenization.
    asked = "how do i bake bread ?" + (" " if template != "plain" else "\n")
    begun = begin_answer(render_prompt(asked, "", template), opening)
    row = render_row(Row(id="a", prompt=asked, completion=opening + rest, label=False, source="f"), template)
    trained = tokenize_row(tokenizer, row.prompt, row.completion, row.label, avoid=AvoidTokens()).input_ids
    answer = run(GREEDY, PROMPTS[:1], rendered=[begun])[0]
    # The row's ids up to the opening's end, and what the model says after just these.
    ids = next(trained[:i] for i in range(len(trained)) if tokenizer.decode(trained[:i]).endswith(opening))
    assert encode(tokenizer, begun, "p0") == ids
    output = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
    assert answer.response == tokenizer.decode(output, skip_special_tokens=True).strip()


def test_a_chat_template_that_cannot_leave_a_turn_open_is_refused(run: Any, tokenizer: Any, monkeypatch: Any) -> None:
    asked = [{"role": "user", "content": "hi"}]
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}")
    with pytest.raises(ModelError, match="'p0': the tokenizer's chat template cannot leave the assistant's turn open"):
        run(GREEDY, PROMPTS[:1], rendered=[begin_answer(asked, "Sure")])
    with pytest.raises(DataError, match="whose last message is the assistant's cannot get an opening too"):
        begin_answer([*asked, {"role": "assistant", "content": "Well"}], "Sure")


def test_messages_without_a_chat_template_are_refused(run: Any, tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ModelError, match="'p0' is a conversation, but the tokenizer has no chat template"):
        run(GREEDY, PROMPTS[:1], rendered=[[{"role": "user", "content": "hi"}]])


ENDLESS = Prompt(id="endless", suite="s", prompt="a" + " bread" * 249, tags={"n": "9"})


def test_a_prompt_over_the_context_gets_no_answer_and_says_why(run: Any, caplog: Any) -> None:
    answers = run(GREEDY, [PROMPTS[0], ENDLESS, PROMPTS[1]])
    assert [answers[0], answers[2]] == run(GREEDY, PROMPTS[:2])
    reason = "the prompt has 251 tokens, which with max_new_tokens 12 is over the model's context of 256"
    assert (answers[1].response, answers[1].finish) == ("", "failed")
    assert answers[1].tags == {"n": "9", "failure": reason}
    assert "1 of 3 prompts get no answer: 'endless' has 251 tokens" in caplog.text


def test_where_most_prompts_are_too_long_nothing_is_written(run: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 prompts are too long: 'endless' has 251 tokens.*Lower max_new_tokens"):
        run(dataclasses.replace(GREEDY, max_new_tokens=250), [ENDLESS, *PROMPTS[2:4]], path=tmp_path / "long.jsonl")
    assert not list(tmp_path.iterdir())


def test_two_prompts_with_one_id_are_refused(run: Any) -> None:
    with pytest.raises(DataError, match="id 'p0' is used more than once"):
        run(GREEDY, [PROMPTS[0], PROMPTS[1], PROMPTS[0]])


def test_no_prompts_give_no_answers(run: Any) -> None:
    assert run(GREEDY, []) == []


def test_a_cut_file_is_continued_to_the_unbroken_one(run: Any, tmp_path: Path) -> None:
    whole = run(dataclasses.replace(SAMPLED, batch_size=2), path=tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(lines[6] + lines[2] + lines[0][:40])
    (tmp_path / "cut.jsonl.meta.json").write_bytes((tmp_path / "whole.jsonl.meta.json").read_bytes())
    assert run(dataclasses.replace(SAMPLED, batch_size=4), path=tmp_path / "cut.jsonl") == whole
    assert (tmp_path / "cut.jsonl").read_bytes() == content


def test_a_resumed_run_gives_the_model_the_batches_of_an_unbroken_one(
    run: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[list[int]]] = []
    decode = model.generate

    def generate_seen(**arguments: Any) -> Any:
        seen.append(arguments["input_ids"].tolist())
        return decode(**arguments)

    monkeypatch.setattr(model, "generate", generate_seen)
    options, path = dataclasses.replace(SAMPLED, temperature=1.0, batch_size=4), tmp_path / "g.jsonl"
    whole = run(options, path=path)
    unbroken, lines = list(seen), path.read_bytes().splitlines(keepends=True)
    assert [len(batch) for batch in unbroken] == [4, 4, 1]
    longest = sorted(range(len(TEXTS)), key=lambda i: len(TEXTS[i]), reverse=True)
    # The kill came while the second batch was being written: one of its answers is there, and half of another.
    path.write_bytes(b"".join(lines[i] for i in longest[:5]) + lines[longest[5]][:20])
    seen.clear()
    assert run(options, path=path) == whole
    assert seen == unbroken[1:]
    assert path.read_bytes() == b"".join(lines)


def test_what_is_finished_is_not_asked_again(run: Any, tmp_path: Path) -> None:
    path, asked = tmp_path / "g.jsonl", {"prompts": PROMPTS, "rendered": TEXTS, "options": GREEDY, "model_id": "tiny"}
    assert finished(path=path, **asked) is None
    answers = run(GREEDY, path=path)
    assert finished(path=path, **asked) == answers
    lines = path.read_text().splitlines()
    altered = [json.dumps(json.loads(line) | {"response": "kept"}) for line in lines]
    path.write_text("\n".join(altered[:-1]) + "\n")
    assert finished(path=path, **asked) is None
    assert responses(run(GREEDY, path=path)) == ["kept"] * (len(lines) - 1) + [answers[-1].response]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": dataclasses.replace(GREEDY, max_new_tokens=5)}, r"max_new_tokens \(file 12, now 5\)"),
        ({"model_id": "other"}, r"model \(file 'tiny', now 'other'\)"),
        ({"rendered": [t.upper() for t in TEXTS]}, r"prompts_sha256 \(file"),
        ({"prompts": PROMPTS[:3]}, r"prompts \(file 9, now 3\)"),
    ],
)
def test_a_file_of_another_run_is_refused(run: Any, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "g.jsonl"
    run(GREEDY, path=path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=message) as caught:
        run(**({"options": GREEDY, "path": path} | changes))
    assert "Write to another file, or delete this one" in str(caught.value)
    assert path.read_bytes() == before


def test_answers_without_their_sidecar_are_refused(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    run(GREEDY, path=path)
    (tmp_path / "g.jsonl.meta.json").unlink()
    with pytest.raises(DataError, match=r"g\.jsonl\.meta\.json that says whose is missing or broken"):
        run(GREEDY, path=path)


def test_a_killed_process_is_continued(run: Any, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.json").write_text(json.dumps([dataclasses.asdict(p) for p in PROMPTS]))
    script = textwrap.dedent("""
        import json, sys, time
        from pathlib import Path
        from steerclear.generation import answers as g
        from steerclear.generation.options import GenerationOptions
        from steerclear.generation.weights import load_model
        from steerclear.records import JsonlAppender, Prompt
        folder = Path(sys.argv[1])
        prompts = [Prompt(**p) for p in json.loads((folder / "prompts.json").read_text())]
        append = JsonlAppender.append
        JsonlAppender.append = lambda self, *records: (append(self, *records), time.sleep(0.5))
        model, tokenizer = load_model(str(folder / "model"), device="cpu")
        options = GenerationOptions(max_new_tokens=12, temperature=0.9, top_p=0.95, top_k=50, seed=3, batch_size=2)
        g.generate(model, tokenizer, prompts, [p.prompt for p in prompts], options, folder / "g.jsonl", model_id="tiny")
    """)
    path = tmp_path / "g.jsonl"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (path.is_file() and path.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= len(read_records(path, Generation)) < len(PROMPTS)
    assert run(SAMPLED, path=path) == run(SAMPLED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: got 0, allowed: 1 or more"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p: got 0.0"),
        ({"temperature": 1.0, "top_k": -1}, "top_k: got -1"),
        ({"top_p": 0.75}, "no effect at temperature 0"),
        ({"temperature": 0.1, "num_beams": 4}, "a beam search does not sample"),
        ({"cache": "page"}, "cache: got 'page', allowed: dynamic, static, paged. Did you mean 'paged'?"),
        ({"cache": "paged", "temperature": 0.5}, "continuous batching decodes greedily"),
    ],
)
def test_wrong_options_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerationOptions(**settings)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('It stops "it." Then it', 'It stops "it."'),
        ('It stops "it". Then it', 'It stops "it".'),
        ("It costs 3.50 and", ""),
        ("1. Take 2. And", ""),
        ("It stops.", "It stops."),
        ("Wait! Who", "Wait!"),
        ("我不能。因为", "我不能。"),
        ("no end", ""),
    ],
)
def test_a_cut_text_ends_with_its_last_whole_sentence(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole
