"""Multiple choice through lm-evaluation-harness, against log-likelihoods worked out one choice at a time, with no network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
import sys

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model

from steerclear.config import build
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.multiple_choice import TaskResult, evaluate_task
from steerclear.evaluation.options import SuiteOptions
from steerclear.generation.weights import load_model
from steerclear.stats.rates import wilson

pytest.importorskip("lm_eval", reason="needs the extra 'quality'")

WORDS = ["bread", "a fox", "the brown dog", "water and flour", "a cinema", "a friend who waits", "notes", "the end"]

ROWS = {
    "boolq": [
        {"id": f"b{i}", "passage": f"{word} is here .", "question": f"is {word} here", "label": i % 3 > 0}
        for i, word in enumerate(WORDS[:6])
    ],
    "piqa": [
        {"id": f"p{i}", "goal": f"find {word}", "sol1": f"look for {word} .", "sol2": "wait .", "label": i % 2}
        for i, word in enumerate(WORDS[:6])
    ],
    "openbookqa": [
        {"id": f"o{i}", "question": f"who reads {i} ?", "choices": WORDS[i % 4 : i % 4 + 4], "label": i % 4}
        for i in range(6)
    ],
}


def asked(task, row):
    """Context, choices and the place of the right one, as the harness's paper form has them."""
    if task == "boolq":
        return f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:", ["no", "yes"], int(row["label"])
    if task == "piqa":
        return f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], row["label"]
    return row["question"], row["choices"], row["label"]


def log_likelihood(model, tokenizer, context, choice):
    before = len(tokenizer(context)["input_ids"])
    ids = tokenizer(f"{context} {choice}")["input_ids"]
    with torch.no_grad():
        log_probabilities = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probabilities[i - 1, ids[i]]) for i in range(before, len(ids)))


def right(model, tokenizer, task, row, *, norm):
    context, choices, label = asked(task, row)
    scores = [log_likelihood(model, tokenizer, context, c) / (len(c) if norm else 1) for c in choices]
    return scores.index(max(scores)) == label


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    attempts = []

    def refuse(_, address):
        attempts.append(address)
        raise OSError("no network in these tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert attempts == []


@pytest.fixture
def suite(tmp_path):
    def suite(task, rows=None, **options):
        path = tmp_path / f"{task}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in (ROWS[task] if rows is None else rows)))
        card = {
            "name": f"my_{task}",
            "version": 1,
            "about": "Made by hand.",
            "source": "here",
            "licence": "MIT",
            "files": [{"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
            "metric": "multiple_choice",
            "direction": "higher",
            "kind": "benign",
            "task": task,
        }
        (tmp_path / f"{task}.yaml").write_text(yaml.safe_dump(card))
        return SuiteOptions(card=str(tmp_path / f"{task}.yaml"), **options)

    return suite


def test_equals_the_hand_count(make_llama, tokenizer, suite):
    model = make_llama(3).eval()
    results = [evaluate_task(model, tokenizer, suite(task), model_id="m", batch_size=4) for task in ROWS]
    assert [(r.suite, r.card, r.task, r.task_version, r.n, r.cut) for r in results] == [
        ("my_boolq", "my_boolq 1", "boolq", "2.0", 6, 0),
        ("my_piqa", "my_piqa 1", "piqa", "1.0", 6, 0),
        ("my_openbookqa", "my_openbookqa 1", "openbookqa", "1.0", 6, 0),
    ]
    assert results[0].acc_norm is None
    for result in results:
        for metric, found in (("acc", result.acc), ("acc_norm", result.acc_norm)):
            if found is None:
                continue
            rows = ROWS[result.task]
            expected = {r["id"]: right(model, tokenizer, result.task, r, norm=metric == "acc_norm") for r in rows}
            assert found.correct == expected
            k = sum(expected.values())
            assert (found.rate.k, found.rate.n) == (k, 6)
            assert (found.rate.lower, found.rate.upper) == wilson(k, 6)
            assert found.stderr == pytest.approx(
                (k / 6 * (1 - k / 6) / 5) ** 0.5
            )  # of the mean, from the sample's variance
    assert len({right_ for r in results for right_ in r.acc.correct.values()}) == 2  # else the test says nothing


def test_what_is_known_is_not_run_again(make_llama, tokenizer, suite, monkeypatch):
    first = evaluate_task(make_llama(), tokenizer, suite("piqa"), model_id="m")
    known = build(TaskResult, json.loads(json.dumps(dataclasses.asdict(first))))
    assert known == first
    assert evaluate_task(None, None, suite("piqa"), model_id="m", known=known) == first
    calls = []
    monkeypatch.setattr(
        "steerclear.evaluation.multiple_choice._run",
        lambda *_: calls.append(1) or {"n": 1, "cut": 0, "acc": None, "acc_norm": None},
    )
    for model_id, changed in (
        ("other", suite("piqa")),
        ("m", suite("piqa", limit=5)),
        ("m", suite("piqa", ROWS["piqa"][:4])),
    ):
        evaluate_task(make_llama(), tokenizer, changed, model_id=model_id, known=known)
    assert len(calls) == 3


def test_a_killed_task_asks_nothing_twice(make_llama, tokenizer, suite, tmp_path):
    model, requests = make_llama().eval(), tmp_path / "requests.sqlite"
    shown = []

    def watch(_, arguments, keywords):
        shown.append(len(keywords["input_ids"] if "input_ids" in keywords else arguments[0]))
        if len(shown) == 6:
            raise KeyboardInterrupt

    watching = model.register_forward_pre_hook(watch, with_kwargs=True)
    asked = {"model_id": "m", "batch_size": 1, "requests": requests}
    with pytest.raises(KeyboardInterrupt):
        evaluate_task(model, tokenizer, suite("piqa"), **asked)
    assert requests.is_file()
    resumed = evaluate_task(model, tokenizer, suite("piqa"), **asked)
    # Twelve choices one at a time; five were done, the sixth was under way. The unfinished writes of a kill are a few at most.
    assert 12 <= len(shown) <= 14
    assert not requests.exists()
    watching.remove()
    assert resumed == evaluate_task(model, tokenizer, suite("piqa"), model_id="m")


def test_an_adapter_a_limit_and_a_single_document(make_llama, tokenizer, suite):
    torch.manual_seed(1)
    adapted = get_peft_model(make_llama(3), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    few = evaluate_task(adapted, tokenizer, suite("openbookqa", limit=4), model_id="a")
    fewer = evaluate_task(adapted, tokenizer, suite("openbookqa", limit=1), model_id="a")
    assert (few.n, fewer.n) == (4, 1)
    assert fewer.acc.correct.items() <= few.acc.correct.items()
    rows = {row["id"]: row for row in ROWS["openbookqa"]}
    assert few.acc.correct == {
        name: right(adapted.eval(), tokenizer, "openbookqa", rows[name], norm=False) for name in few.acc.correct
    }
    assert (fewer.acc.rate.rate, fewer.acc.stderr) == (None, None)


def test_documents_over_the_context_are_counted(make_llama, tokenizer, suite):
    rows = [{**ROWS["boolq"][0], "passage": "the bread . " * 200}, ROWS["boolq"][1]]
    result = evaluate_task(make_llama(), tokenizer, suite("boolq", rows), model_id="m")
    assert (result.n, result.cut) == (2, 1)


def test_wrong_suites(make_llama, tokenizer, suite, monkeypatch):
    def run(options):
        return evaluate_task(make_llama(), tokenizer, options, model_id="m")

    with pytest.raises(
        DataError, match=r"piqa.jsonl:1: got the fields id, goal; the task piqa needs goal, sol1, sol2, label"
    ):
        run(suite("piqa", [{"id": "a", "goal": "x"}]))
    with pytest.raises(DataError, match=r"openbookqa.jsonl:1: got the fields .* label \(place of the right one\)"):
        run(suite("openbookqa", [{"id": "a", "question": "x", "choices": ["a", "b"], "label": 2}]))
    with pytest.raises(
        ConfigError, match="xstest: got the metric over_refusal, expected a card of the metric multiple_choice"
    ):
        run(SuiteOptions(card="xstest", data="d"))
    with pytest.raises(
        ConfigError, match=r"task: got 'hellaswag', allowed: .* YAML alone; process_docs is Python code"
    ):
        run(suite("hellaswag", [{"id": "a"}]))
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(ConfigError, match=r"pip install 'steerclear\[quality\]'"):
        run(suite("piqa"))


def test_a_task_that_the_package_does_not_know_takes_the_hubs_fields(make_llama, tokenizer, suite):
    wrong = {f"distractor{i}": WORDS[i] for i in (1, 2, 3)}
    rows = [
        {"id": f"s{i}", "support": "", "question": f"who {i} ?", "correct_answer": WORDS[4 + i], **wrong}
        for i in range(4)
    ]
    result = evaluate_task(make_llama(), tokenizer, suite("sciq", rows), model_id="m")
    assert (result.task, result.n, set(result.acc.correct)) == ("sciq", 4, {"s0", "s1", "s2", "s3"})


def test_the_real_files(shared_data, tiny_base):
    model, tokenizer = load_model(str(tiny_base), None, dtype="float32")
    limits = {"piqa": 40, "openbookqa": 40, "boolq": 12}  # BoolQ's passages are long
    suites = [SuiteOptions(card=name, data=str(shared_data), limit=limit) for name, limit in limits.items()]
    results = [evaluate_task(model, tokenizer, suite, model_id="tiny-base") for suite in suites]
    assert {result.suite: result.n for result in results} == limits
    assert all(0 < result.acc.rate.k < result.n for result in results)
