"""Reading rows: every format in both roles, what is left out, and every message."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data import examples_folder
from steerclear.data.formats import LEFT_OUT, MAX_WEIGHT, MIN_WEIGHT, PROBLEM_KINDS
from steerclear.data.signed_labels import MAX_WEIGHT as CARRIED
from steerclear.data.signed_labels import encode
from steerclear.data.sources import read_source
from steerclear.errors import ConfigError, DataError
from steerclear.records import Row, to_dict, write_jsonl

USER = {"role": "user", "content": "Name a red fruit."}
ANSWER = {"role": "assistant", "content": "A cherry."}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def left_out(counts: dict[str, int]) -> dict[str, int]:
    return {kind: counts[kind] for kind in LEFT_OUT if counts[kind]}


def test_alpaca_keeps_the_input_and_names_file_and_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"id": "own", "instruction": "Spell it.", "input": "recieve", "output": "receive", "pool": "x"},
        {"instruction": "Say hi.", "input": " ", "output": "Hi."},
        {"instruction": "Say no.", "output": "No."},
    )
    read = read_source(path, "benign")
    assert read.format == "alpaca"
    assert read.rows == [
        Row(id="own", prompt="Spell it.", input="recieve", completion="receive", label=True, source="a.jsonl:1"),
        Row(id="a-2", prompt="Say hi.", completion="Hi.", label=True, source="a.jsonl:2"),
        Row(id="a-3", prompt="Say no.", completion="No.", label=True, source="a.jsonl:3"),
    ]
    assert [row.label for row in read_source(path, "unsafe").rows] == [False] * 3


@pytest.mark.parametrize(("role", "kept"), [("benign", ["t-1"]), ("unsafe", ["t-2", "t-4"])])
def test_triples_are_split_by_is_safe(tmp_path: Path, role: str, kept: list[str]) -> None:
    rows = [{"prompt": "p", "response": f"r{i}", "is_safe": safe} for i, safe in enumerate([True, False, None, False])]
    del rows[2]["is_safe"]
    read = read_source(write(tmp_path / "t.jsonl", *rows), role)
    assert [row.id for row in read.rows] == kept
    assert left_out(read.counts) == {"other_label": 3 - len(kept), "unlabelled": 1}
    assert [p.message for p in read.problems] == [
        "t.jsonl:3: the field is_safe is missing, allowed: true or false. The row is left out."
    ]


def test_pairs_give_one_side_for_each_role(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"id": 7, "prompt": "p", "unsafe": "bad", "safe": "good"})
    (safe,) = read_source(path, "benign").rows
    (unsafe,) = read_source(path, "unsafe").rows
    assert (safe.id, safe.completion, safe.label) == ("7-safe", "good", True)
    assert (unsafe.id, unsafe.completion, unsafe.label) == ("7-unsafe", "bad", False)


def test_of_messages_the_last_assistant_turn_is_the_completion(tmp_path: Path) -> None:
    turns = [
        USER,
        ANSWER,
        {"role": "user", "content": "Another?"},
        {"role": "assistant", "content": "Apple.", "name": "x"},
    ]
    path = write(tmp_path / "m.jsonl", {"messages": turns})
    (row,) = read_source(path, "benign").rows
    assert row.prompt == turns[:3]
    assert row.completion == [{"role": "assistant", "content": "Apple."}]
    assert row.label
    assert not read_source(path, "unsafe").rows[0].label


@pytest.mark.parametrize(("label", "benign", "unsafe"), [(True, 1, 0), (False, 0, 1), (None, 1, 1)])
@pytest.mark.parametrize("content", [{"messages": [USER, ANSWER]}, {"instruction": "i", "output": "o"}])
def test_a_label_is_obeyed_where_it_is_optional(
    tmp_path: Path, content: dict[str, Any], label: bool | None, benign: int, unsafe: int
) -> None:
    path = write(tmp_path / "m.jsonl", content | {"label": label})
    assert len(read_source(path, "benign").rows) == benign
    assert len(read_source(path, "unsafe").rows) == unsafe


def test_canonical_rows_are_text_or_messages_and_a_json_list_counts_positions(tmp_path: Path) -> None:
    path = tmp_path / "kto.json"
    path.write_text(
        json.dumps(
            [
                {"prompt": "p", "completion": "c", "label": True, "weight": 0.5, "input": "i"},
                {"prompt": [USER], "completion": [ANSWER], "label": True, "weight": 2},
                {"prompt": [USER], "completion": "A cherry.", "label": True},
                {"prompt": [USER], "completion": [USER], "label": True},
                {"prompt": [USER], "completion": [ANSWER], "input": "x", "label": True},
            ],
            indent=1,
        )
    )
    read = read_source(str(path), "benign")
    assert [(row.weight, row.input, row.source) for row in read.rows] == [
        (0.5, "i", "kto.json:1"),
        (2.0, "", "kto.json:2"),
    ]
    assert [p.message for p in read.problems] == [
        "kto.json:3: completion: got text, expected a list of messages. The row is left out.",
        "kto.json:4: completion: the last message is of role 'user', expected assistant. The row is left out.",
        "kto.json:5: input: got text beside a prompt of messages, expected it in the messages. The row is left out.",
    ]


@pytest.mark.parametrize("mark", [{"source": "log"}, {"unsafe": True}, {"harm_score": 3.5}])
def test_kto_data_read_as_unsafe_warns_unless_every_row_was_judged(tmp_path: Path, mark: dict[str, Any]) -> None:
    bad = {"prompt": "p", "completion": "c", "label": False}
    worse = {"prompt": "q", "completion": "d", "label": False}
    good = {"prompt": "p", "completion": "e", "label": True}
    judged = write(tmp_path / "judged.jsonl", bad | mark, good)
    mixed = write(tmp_path / "mixed.jsonl", bad | mark, worse, good)
    assert read_source(judged, "unsafe").warnings == []
    assert read_source(mixed, "benign").warnings == []
    (warning,) = read_source(mixed, "unsafe").warnings
    assert warning.startswith("mixed.jsonl: in 1 of 2 rows label false may mean merely worse, not unsafe")
    assert "\n" not in warning


def test_rows_of_this_package_come_back_without_a_warning(tmp_path: Path) -> None:
    rows = [
        Row(id="a", prompt="p", completion="c", label=False, source="log.jsonl:3", input="i", weight=0.25),
        Row(id="b", prompt=[USER], completion=[ANSWER], label=False, source="log.jsonl:4"),
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    read = read_source(str(tmp_path / "rows.jsonl"), "unsafe")
    assert not read.warnings
    assert [{**to_dict(row), "source": ""} for row in read.rows] == [{**to_dict(row), "source": ""} for row in rows]


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ({"instruction": " \n", "output": "o"}, "empty", "the prompt is empty."),
        ({"instruction": "i", "output": None}, "empty", "the completion is empty."),
        ({"instruction": "I", "output": " Same "}, "duplicate", "the same prompt and completion as x.jsonl:1."),
        ({"instruction": 5, "output": "o"}, "type", "instruction: got a number, expected text."),
        ({"instruction": "i", "output": ["o"]}, "type", "output: got a list, expected text."),
        ({"instruction": "i", "output": "o", "input": {}}, "type", "input: got an object, expected text."),
        ({"instruction": "\ud800", "output": "o"}, "type", "instruction: got half of a surrogate pair"),
        ({"instruction": "i", "output": "o", "label": 1}, "type", "label: got a number, allowed: true or false."),
        ({"instruction": "i", "output": "o", "weight": "1"}, "type", "weight: got text, expected a number."),
        ({"instruction": "i", "output": "o", "weight": True}, "type", "weight: got true or false, expected a number."),
        ({"instruction": "i", "output": "o", "weight": -1}, "weight", "weight: got -1, allowed: 0, or 1e-05 to 1000."),
        ({"instruction": "i", "output": "o", "weight": float("nan")}, "weight", "weight: got nan"),
        ({"instruction": "i", "output": "o", "weight": float("inf")}, "weight", "weight: got inf"),
        ({"instruction": "i", "output": "o", "weight": 1001}, "weight", "weight: got 1001"),
        ({"instruction": "i", "output": "o", "weight": 1e-9}, "weight", "weight: got 1e-09"),
    ],
)
def test_a_faulty_row_is_left_out_counted_and_explained(
    tmp_path: Path, row: dict[str, Any], kind: str, message: str
) -> None:
    read = read_source(write(tmp_path / "x.jsonl", {"instruction": "i", "output": "same"}, row), "benign")
    assert [kept.id for kept in read.rows] == ["x-1"]
    assert left_out(read.counts) == {kind: 1}
    (problem,) = read.problems
    assert (problem.kind, problem.source) == (kind, "x.jsonl:2")
    assert problem.message.startswith(f"x.jsonl:2: {message}")
    assert "\n" not in problem.message


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "the prompt is empty."),
        ([ANSWER], "the prompt is empty."),
        ([USER, {"role": "assistant", "content": ""}], "the completion is empty."),
        ([USER, ANSWER, USER], "messages: the last one is of role 'user', expected assistant."),
        (
            [USER, {"role": "assistant", "content": None}],
            "messages: each message needs a role and a content, both text.",
        ),
        ([USER, "A cherry."], "messages: each message needs a role and a content, both text."),
        ("Name a red fruit.", "messages: got text, expected a list of messages."),
    ],
)
def test_a_faulty_conversation_is_left_out(tmp_path: Path, messages: Any, message: str) -> None:
    read = read_source(write(tmp_path / "m.jsonl", {"messages": messages}), "benign")
    assert not read.rows
    assert [p.message for p in read.problems] == [f"m.jsonl:1: {message} The row is left out."]


def test_every_accepted_weight_can_be_carried_by_a_label() -> None:
    assert MAX_WEIGHT == CARRIED
    for weight in (MIN_WEIGHT, MAX_WEIGHT):
        assert encode(7, avoid=True, weight=weight) != encode(7, avoid=True, weight=1)


def test_a_row_in_two_sources_is_kept_once(tmp_path: Path) -> None:
    row = {"instruction": "i", "output": "o"}
    seen: dict[tuple[str, str], str] = {}
    read_source(write(tmp_path / "a.jsonl", row), "benign", seen=seen)
    second = read_source(write(tmp_path / "b.jsonl", row), "benign", seen=seen)
    assert not second.rows
    assert "the same prompt and completion as a.jsonl:1." in second.problems[0].message


def test_repeated_ids_are_made_unique_alike_for_both_roles(tmp_path: Path) -> None:
    rows = [
        {"id": "q", "prompt": "p", "completion": c, "label": label}
        for c, label in [("a", True), ("b", False), ("c", True)]
    ]
    path = write(tmp_path / "k.jsonl", *rows, {"id": "q-3", "prompt": "p", "completion": "d", "label": True})
    assert [row.id for row in read_source(path, "benign").rows] == ["q", "q-3", "q-3-4"]
    assert [row.id for row in read_source(path, "unsafe").rows] == ["q-2"]


def test_a_made_up_id_never_takes_that_of_another_row(tmp_path: Path) -> None:
    ids = ["q", "q-3", "q", "k-5", None]
    rows = [{"id": own, "instruction": f"i{i}", "output": "o"} for i, own in enumerate(ids)]
    read = read_source(write(tmp_path / "k.jsonl", *rows), "benign")
    assert [row.id for row in read.rows] == ["q", "q-3", "q-3-3", "k-5", "k-5-5"]


def test_where_filters_on_raw_fields(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "unsafe": f"u{i}", "safe": "s", "noisy": i % 2 == 0, "n": i} for i in range(4)]
    path = write(tmp_path / "p.jsonl", *rows)
    read = read_source(path, "unsafe", where={"noisy": False})
    assert [row.completion for row in read.rows] == ["u1", "u3"]
    assert left_out(read.counts) == {"filtered": 2}
    assert [row.completion for row in read_source(path, "unsafe", where={"noisy": True, "n": 2}).rows] == ["u2"]


def test_an_unknown_field_in_where_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "p", "unsafe": "u", "safe": "s", "noisy": True})
    with pytest.raises(
        DataError, match=re.escape("p.jsonl:1: where: got the field 'noisi', the row has noisy, prompt")
    ) as e:
        read_source(path, "unsafe", where={"noisi": True})
    assert "Did you mean 'noisy'?" in str(e.value)


def test_limit_stops_after_so_many_kept_rows(tmp_path: Path) -> None:
    rows = [{"instruction": "i" if i != 1 else "", "output": f"o{i}"} for i in range(6)]
    read = read_source(write(tmp_path / "a.jsonl", *rows), "benign", limit=2)
    assert [row.id for row in read.rows] == ["a-1", "a-3"]
    assert (read.counts["read"], read.counts["kept"]) == (3, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "q", "answer": "a"}],
            "bad.jsonl:1: got the fields answer, question, which fit no format. Allowed: alpaca (instruction, input?, output",
        ),
        (
            [{"prompt": "p", "completion": "c", "messages": [], "label": True}],
            "bad.jsonl:1: got the fields completion, label, messages, prompt, which fit several formats: messages, canonical.",
        ),
        (
            [{"instruction": "i", "output": "o"}, {"prompt": "p", "response": "r", "is_safe": True}],
            "bad.jsonl:2: got the fields is_safe, prompt, response of the format triples, but the rows before are alpaca.",
        ),
        ([], "bad.jsonl: holds no rows."),
    ],
)
def test_fields_that_fit_no_single_format_are_an_error(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_source(write(tmp_path / "bad.jsonl", *rows), "benign")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"instruction": "i"', "a.jsonl:1: not valid JSON"),
        ("a.json", b'{"instruction": "i"', "a.json: not valid JSON"),
        ("a.json", b"\xff\xfe", "a.json: not valid JSON"),
        ("a.json", b'{"instruction": "i", "output": "o"}', "a.json: got a JSON dict, expected a list of objects."),
        ("a.json", b'[{"instruction": "i", "output": "o"}, 3]', "a.json:2: got a JSON int, expected an object"),
        ("a.csv", b"instruction,output", "a.csv: got neither a .json or .jsonl file nor a Hub name"),
    ],
)
def test_a_broken_file_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read_source(str(tmp_path / name), "benign")


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.json"])
def test_a_missing_file_is_not_taken_as_a_hub_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"gone\.json.*cannot be read \(No such file"):
        read_source(str(tmp_path / name), "benign")


def test_unknown_role_and_limit_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"role: got 'bening', allowed: benign, unsafe\. Did you mean 'benign'\?"):
        read_source("a.jsonl", "bening")
    with pytest.raises(ConfigError, match="limit: got 0, allowed: 1 or more"):
        read_source("a.jsonl", "benign", limit=0)


def test_the_hash_is_that_of_the_file() -> None:
    path = examples_folder() / "benign.jsonl"
    assert read_source(str(path), "benign").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_hub_data_set_is_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library resolves owner/name to a local folder of that name, so its real loader runs here without a network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    write(
        folder / "train.jsonl", {"prompt": "p", "unsafe": "u", "safe": "s"}, {"prompt": "q", "unsafe": "", "safe": "t"}
    )
    read = read_source("owner/name", "unsafe")
    assert (read.name, read.format, len(read.sha256)) == ("owner/name", "pairs", 64)
    assert [(row.id, row.source) for row in read.rows] == [("name-1-unsafe", "owner/name:1")]
    assert left_out(read.counts) == {"empty": 1}


def test_an_unreachable_hub_data_set_says_that_it_was_taken_as_one() -> None:
    with pytest.raises(DataError) as error:
        read_source("nobody/nothing", "benign")
    assert str(error.value).startswith(
        "nobody/nothing: there is no such file, so it was taken as the name of a Hub data set, and its split 'train' could not"
    )
    assert "Check the path or the name, and the network" in str(error.value)
    assert "\n" not in str(error.value)


LABELS = st.sampled_from([True, False, None, 1])
TRIPLES = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["p", "P ", "q", "", None, 3]),
        "response": st.sampled_from(["r", "s", " "]),
        "is_safe": LABELS,
    }
)


@settings(deadline=None)
@given(st.lists(TRIPLES, min_size=1, max_size=12))
def test_every_row_is_kept_or_counted_once(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.jsonl", *rows)
        for role in ("benign", "unsafe"):
            read = read_source(path, role)
            assert read.counts["read"] == len(rows) == read.counts["kept"] + sum(read.counts[kind] for kind in LEFT_OUT)
            assert Counter(p.kind for p in read.problems) == {
                k: read.counts[k] for k in PROBLEM_KINDS if read.counts[k]
            }
            assert all(row.label == (role == "benign") for row in read.rows)
            assert len({row.id for row in read.rows}) == read.counts["kept"] == len(read.rows)


@pytest.mark.parametrize(
    ("file", "role", "where", "kept"),
    [
        ("alpaca/alpaca_20k.jsonl", "benign", {}, 20000),
        ("stl/safety_only.jsonl", "benign", {}, 2483),
        ("harm_labels/train.jsonl", "benign", {}, 3198),
        ("harm_labels/train.jsonl", "unsafe", {}, 3421),
        ("beavertails_pairs/train.jsonl", "unsafe", {"unsafe_noise_cue": False}, 2561),
    ],
)
def test_real_files_are_read_whole(shared_data: Path, file: str, role: str, where: dict[str, Any], kept: int) -> None:
    read = read_source(str(shared_data / file), role, where=where)
    lines = [json.loads(line) for line in (shared_data / file).read_text(encoding="utf-8").splitlines()]
    wanted = [
        line
        for line in lines
        if all(line[key] == value for key, value in where.items())
        and line.get("is_safe", role == "benign") == (role == "benign")
    ]
    assert len(read.rows) == len(wanted) == kept
    assert not read.problems


def test_system_and_history_of_alpaca_rows_are_turns(tmp_path: Path) -> None:
    row = {
        "instruction": "then ?",
        "input": "a mat",
        "output": "a cat",
        "system": "be brief",
        "history": [["hi", "ho"]],
    }
    read = read_source(write(tmp_path / "rows.jsonl", row), "benign")
    assert [(turn["role"], turn["content"]) for turn in read.rows[0].prompt] == [
        ("system", "be brief"), ("user", "hi"), ("assistant", "ho"), ("user", "then ?\n\na mat"),
    ]  # fmt: skip
    assert (read.rows[0].input, read.warnings) == ("", [])
    plain = read_source(write(tmp_path / "rows.jsonl", row | {"system": "", "history": []}), "benign")
    assert (plain.rows[0].prompt, plain.rows[0].input) == ("then ?", "a mat")
    wrong = read_source(write(tmp_path / "rows.jsonl", row | {"history": ["hi"]}), "benign")
    assert "history: expected a list of pairs of texts" in wrong.problems[0].message


def test_columns_that_change_the_meaning_and_are_not_read_are_named(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "r", "is_safe": True, "system": "be brief", "tools": [], "pool": 3}
    assert read_source(write(tmp_path / "rows.jsonl", row), "benign").warnings == [
        "rows.jsonl: system: not read in rows of the format triples."
    ]


@pytest.mark.parametrize(("weight", "kept"), [(0, 0), (1, 1), (None, 1)])
def test_an_answer_of_weight_0_is_not_learnt_and_told(tmp_path: Path, weight: int | None, kept: int) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    turns[-1] |= {} if weight is None else {"weight": weight}  # type: ignore[dict-item]
    read = read_source(write(tmp_path / "rows.jsonl", {"messages": turns}), "benign")
    assert (len(read.rows), read.counts["weight"]) == (kept, 1 - kept)
    assert kept or "the last answer has weight 0" in read.problems[0].message
