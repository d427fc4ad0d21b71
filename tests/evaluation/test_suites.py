"""Prompt files: what is read, grouped, sampled and refused."""

from __future__ import annotations

import json

import pytest

from steerclear.config import build, to_tree
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import load_rows, load_suite, sample_ids


@pytest.fixture
def write(tmp_path):
    def write(*values, name="prompts.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
        return str(path)

    return write


def numbered(count):
    return [{"id": f"p{i}", "prompt": f"How do I fold napkin {i}?"} for i in range(count)]


def test_fields_and_groups(write):
    path = write(
        {"id": "a", "prompt": "How do I rest?", "label": "safe"},
        {"id": "b", "prompt": "How do I take a nap at work?", "label": "unsafe"},
    )
    prompts = load_suite(SuiteOptions(name="naps", path=path, by="label", benign_groups=["safe"]))
    assert [(p.id, p.suite, p.prompt, p.tags) for p in prompts] == [
        ("a", "naps", "How do I rest?", {"kind": "benign", "group": "safe"}),
        ("b", "naps", "How do I take a nap at work?", {"kind": "harmful", "group": "unsafe"}),
    ]


def test_instruction_and_no_id_and_benign_suite(write):
    path = write({"instruction": "Sing."}, {"prompt": [{"role": "user", "content": "Dance."}]})
    prompts = load_suite(SuiteOptions(name="s", path=path, kind="benign"))
    assert [p.id for p in prompts] == ["1", "2"]
    assert prompts[1].prompt == [{"role": "user", "content": "Dance."}]
    assert all(p.tags == {"kind": "benign"} for p in prompts)
    assert SuiteOptions(name="s", path=path, kind="benign").metric == "over_refusal"


def test_a_json_list(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(numbered(3)))
    assert [p.id for p in load_suite(SuiteOptions(name="s", path=str(path)))] == ["p0", "p1", "p2"]


def test_limit_is_a_nested_sample_in_file_order(write):
    path = write(*numbered(60))

    def ids(limit):
        return [p.id for p in load_suite(SuiteOptions(name="s", path=path, limit=limit))]

    few, more, every = ids(10), ids(30), ids(None)
    assert len(few) == 10
    assert set(few) < set(more) < set(every)
    assert more == [i for i in every if i in set(more)]
    assert few != every[:10]
    assert ids(10) == few
    assert ids(600) == every


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], {}, r"prompts.jsonl:2: id 'a' occurs already in .*:1\."),
        ([{"id": "a", "text": "x"}], {}, r"prompts.jsonl:1: no 'prompt' \(or 'instruction'\): got the fields id, text"),
        ([{"id": "a", "prompt": ""}], {}, "no text in 'prompt'"),
        ([{"id": "a", "prompt": None}], {}, "no text in 'prompt'"),
        ([{"prompt": "x"}], {"by": "label"}, r"prompts.jsonl:1: no 'label', the field of 'by': got the fields prompt"),
        ([], {}, "has no prompts"),
        (
            [{"prompt": "x", "label": "safe"}],
            {"by": "label", "benign_groups": ["harmless"]},
            "benign_groups harmless: no such value of 'label'; there are safe",
        ),
    ],
)  # fmt: skip
def test_bad_files(write, values, options, message):
    with pytest.raises(DataError, match=message):
        load_suite(SuiteOptions(name="s", path=write(*values), **options))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none.jsonl: cannot be read .*Check the path"):
        load_suite(SuiteOptions(name="s", path=str(tmp_path / "none.jsonl")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"prompt": "x"}', "got a JSON dict, expected a list"),
        ("[1]", "got a JSON int"),
    ],
)
def test_bad_json(tmp_path, content, message):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_suite(SuiteOptions(name="s", path=str(path)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "harmfull"}, "kind: got 'harmfull', allowed: harmful, benign. Did you mean 'harmful'?"),
        ({"limit": 0}, "limit: got 0, allowed: 1 or more"),
        ({"benign_groups": ["safe"]}, "benign_groups: needs 'by'"),
        ({"name": "a/b"}, "name: got 'a/b'"),
        ({"path": None}, "path, card: give one of the two"),
        ({"card": "xstest", "data": "d"}, "path, card: give one of the two"),
        ({"data": "d"}, "data, accept_changed: only for a card"),
        ({"path": None, "card": "xstest"}, "data: is missing; name the folder that xstest/xstest_v2.jsonl lies in"),
        ({"path": None, "card": "xstest", "data": "d", "by": "type"}, "by, kind, benign_groups: are the card's own"),
        ({"path": None, "card": "xtest", "data": "d"}, "Did you mean 'xstest'?"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError) as error:
        SuiteOptions(**{"name": "s", "path": "p", **options})
    assert message in str(error.value)


def test_the_published_suites(shared_data):
    harmful = load_suite(
        SuiteOptions(name="safety", path=str(shared_data / "safety_benchmarks" / "all_518.jsonl"), by="benchmark")
    )
    assert len(harmful) == 518
    assert len({p.tags["group"] for p in harmful}) == 4
    xstest = SuiteOptions(
        name="xstest", path=str(shared_data / "xstest" / "xstest_v2.jsonl"), by="label", benign_groups=["safe"]
    )
    kinds = [p.tags["kind"] for p in load_suite(xstest)]
    assert (kinds.count("benign"), kinds.count("harmful")) == (250, 200)


def test_a_card_stands_for_the_plain_form(shared_data):
    plain = SuiteOptions(
        name="xstest",
        path=str(shared_data / "xstest" / "xstest_v2.jsonl"),
        by="label",
        benign_groups=["safe"],
        limit=50,
    )
    card = SuiteOptions(card="xstest", data=str(shared_data), limit=50)
    assert (card.name, card.metric, plain.metric) == ("xstest", "over_refusal", "harmful")
    assert load_suite(card) == load_suite(plain)
    assert build(SuiteOptions, to_tree(card)) == card
    assert {p.suite for p in load_suite(SuiteOptions(card="xstest", data=str(shared_data), name="again"))} == {"again"}


def test_prompts_and_rows_are_for_their_metrics(shared_data, write):
    with pytest.raises(ConfigError, match="card 'boolq' has no prompts to answer: its metric is multiple_choice"):
        load_suite(SuiteOptions(card="boolq", data=str(shared_data)))
    with pytest.raises(ConfigError, match="card 'xstest' has no rows with answers: its metric is over_refusal"):
        load_rows(SuiteOptions(card="xstest", data=str(shared_data)))
    with pytest.raises(ConfigError, match="s: got a path, expected a card"):
        load_rows(SuiteOptions(name="s", path=write(*numbered(2))))


def test_sample_ids_are_nested_and_whole_without_a_limit():
    ids = [f"p{i}" for i in range(40)]
    assert sample_ids(ids, None) == sample_ids(ids, 99) == set(ids)
    assert sample_ids(ids, 5) < sample_ids(reversed(ids), 20)
    assert len(sample_ids(ids, 20)) == 20
