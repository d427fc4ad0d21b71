"""Tables from files: the same rows from every kind, CSV as people write it, labels in every spelling, columns by name."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steerclear.data.columns import ImportOptions, fields_of, format_of, raw_row
from steerclear.data.files import LOOKED_AT, open_table
from steerclear.data.formats import LeftOutError
from steerclear.errors import ConfigError, DataError

COLUMNS = ("prompt", "response", "is_safe")


def read(path: Path, encoding: str | None = None) -> list[tuple[int, Any]]:
    table = open_table(path, encoding)
    return list(table.rows(table.columns))


def labelled(label: object, **options: Any) -> Any:
    """What a label is read as."""
    values = {"prompt": "p", "response": "r", "is_safe": label}
    return raw_row(values, {name: name for name in COLUMNS}, "triples", ImportOptions(**options).words())["is_safe"]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [
        {"prompt": "007", "response": 'He said "no",\nthen left; 渡邊 🙂', "is_safe": "yes"},
        {"prompt": "a;b\tc", "response": "NA", "is_safe": None},
        {"prompt": None, "response": "nan", "is_safe": "0"},
    ]
    for name, delimiter in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "e.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=2)
    for path in sorted(tmp_path.iterdir()):
        assert [values for _, values in read(path)] == rows, path.name
    assert [line for line, _ in read(tmp_path / "a.csv")] == [2, 4, 5]  # where each row begins in the file
    assert [line for line, _ in read(tmp_path / "f.parquet")] == [1, 2, 3]


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@example([('"', "\r", "\n"), (" ", ",", "\x00"), ("", "", "")], "utf-8")
def test_csv_comes_back_as_it_was_written(rows: list[tuple[str, str, str]], encoding: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        expected = [dict(zip(COLUMNS, (cell or None for cell in row), strict=True)) for row in rows]
        assert [values for _, values in read(path)] == expected


def test_csv_with_blank_lines_spaces_in_the_header_and_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('prompt, response,\n\n"two\nlines",r,x\np\n\nq,s,,t\np,r,\n')
    (first, short, long, last) = read(path)
    assert first == (3, {"prompt": "two\nlines", "response": "r", "": "x"})
    assert last == (8, {"prompt": "p", "response": "r", "": None})
    for (line, fault), (number, got) in zip((short, long), ((5, 1), (7, 4)), strict=True):
        assert isinstance(fault, LeftOutError)
        assert (line, fault.kind, str(fault)) == (number, "cells", f"got {got} cells, the header has 3.")


def test_a_cell_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"prompt,response\np,{'long ' * 50_000}\n")
    assert len(read(path)[0][1]["response"]) == 250_000


def test_another_encoding_is_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("prompt,response\ncafé,“so”\n".encode("cp1252"))
    with pytest.raises(DataError, match=re.escape("t.csv: not UTF-8 text. Say how it is encoded: --encoding cp1252")):
        read(path)
    assert read(path, "cp1252") == [(2, {"prompt": "café", "response": "“so”"})]


def test_parquet_types_are_read_as_what_they_say(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], None]
    table = pa.table(
        {
            "messages": turns,
            "label": pa.array(["yes", "no"]).dictionary_encode(),
            "weight": [0.5, float("nan")],
            "a.b": [1, 2],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [
        (1, {"messages": turns[0], "label": "yes", "weight": 0.5, "a.b": 1}),
        (2, {"messages": None, "label": "no", "weight": None, "a.b": 2}),
    ]
    assert list(open_table(tmp_path / "t.parquet").rows({"a.b"})) == [(1, {"a.b": 1}), (2, {"a.b": 2})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv: holds no rows."),
        (
            "t.csv",
            b'prompt,response\np,r\nq,"open\n',
            "t.csv:3: not valid CSV in the row that begins here (unexpected end",
        ),
        ("t.csv", b'prompt,response\n"a"b,r\n', "t.csv:2: not valid CSV"),
        ("t.csv", b"prompt,response,prompt\n", "t.csv: columns 1 and 3 have the same name."),
        ("t.jsonl", b'{"prompt"\n', "t.jsonl:1: not valid JSON"),
        ("t.json", b"{}", "t.json: got a JSON dict, expected a list of objects."),
        ("t.json", b"[]", "t.json: holds no rows."),
        ("t.parquet", b"PAR1 no", "t.parquet: not a whole Parquet file"),
        ("t.xlsx", b"PK", "t.xlsx: got a file of the kind '.xlsx', allowed: .csv, .tsv, .jsonl, .json, .parquet."),
    ],
)
def test_a_broken_file_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["gone.csv", "gone.jsonl", "gone.json", "gone.parquet"])
def test_a_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"gone\.\w+: cannot be read \(No such file"):
        open_table(tmp_path / name)


@pytest.mark.parametrize("safe", [True, 1, 1.0, "1", "1.0", "true", "TRUE ", "Yes", "y", "t", "Safe"])
@pytest.mark.parametrize("unsafe", [False, 0, 0.0, "0", "0.0", "false", "False", "no", "N", "f", "unsafe"])
def test_labels_are_read_in_common_spellings(safe: object, unsafe: object) -> None:
    assert (labelled(safe), labelled(unsafe)) == (True, False)
    # Asked the other way round, as for a column "is harmful".
    turned = {
        "safe_values": ["0", "no", "n", "f", "false", "unsafe"],
        "unsafe_values": ["1", "yes", "y", "t", "true", "safe"],
    }
    assert (labelled(safe, **turned), labelled(unsafe, **turned)) == (False, True)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_blank_label_is_none(blank: str | None) -> None:
    assert labelled(blank) is None


def test_own_words_replace_the_common_ones_of_their_side() -> None:
    own = {"unsafe_values": ["Toxic", "1"]}
    assert [labelled(value, **own) for value in ("toxic ", 1, "yes")] == [False, False, True]
    for value in ("no", "0", "0.5", True):
        if value is not True:
            with pytest.raises(LeftOutError, match="is_safe: got "):
                labelled(value, **own)


def test_an_unknown_label_says_what_is_allowed_and_shows_no_text() -> None:
    with pytest.raises(LeftOutError) as error:
        labelled("maybe")
    assert error.value.kind == "label"
    assert str(error.value) == (
        "is_safe: got 'maybe', allowed: true, 1, yes, y, t, safe (safe) and false, 0, no, n, f, unsafe (unsafe). "
        "See --safe-values and --unsafe-values."
    )
    with pytest.raises(LeftOutError, match="got a text of 23 characters"):
        labelled("a whole answer by fault")


def test_messages_and_weights_written_as_text() -> None:
    values = {"messages": '[{"role": "user", "content": "hi"}]', "weight": "0.5"}
    fields = {"messages": "messages", "weight": "weight"}
    assert raw_row(values, fields, "messages", {}) == {"messages": [{"role": "user", "content": "hi"}], "weight": 0.5}
    broken = {"messages": "[hi", "weight": "heavy"}
    assert raw_row(broken, fields, "messages", {}) == broken


def test_columns_are_named_by_the_mapping_or_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt,completion,question,is_safe\n")
    table = open_table(path)
    fields = fields_of(table, {"prompt": "question", "response": "completion"})
    assert (fields["prompt"], fields["response"], fields["is_safe"]) == ("question", "completion", "is_safe")
    assert "completion" not in fields  # it is the response now
    assert format_of(table, fields, None) == "triples"
    with pytest.raises(ConfigError, match=re.escape("map: prompt=qestion: t.csv has no such column")) as error:
        fields_of(table, {"prompt": "qestion"})
    assert str(error.value).endswith("Did you mean 'question'?")


def test_columns_that_fit_no_format_or_several_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"Prompt,respones,{'a text ' * 9}\n")
    table = open_table(path)
    with pytest.raises(DataError) as error:
        format_of(table, fields_of(table, {}), None)
    assert "t.csv: got the columns Prompt, respones, (a name of 62 characters), which do not fit any format." in str(
        error.value
    )
    assert "Did you mean --map prompt=Prompt --map response=respones?" in str(error.value)
    path.write_text("prompt,response,completion,label,is_safe\n")
    table = open_table(path)
    with pytest.raises(DataError, match=r"fit several formats: triples, canonical\. Say which: --format triples"):
        format_of(table, fields_of(table, {}), None)
    assert format_of(table, fields_of(table, {}), "canonical") == "canonical"
    with pytest.raises(DataError, match=r"do not fit it. Allowed: pairs \(prompt, unsafe, safe\)"):
        format_of(table, fields_of(table, {}), "pairs")


def test_a_json_rows_missing_field_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"prompt": "p", "response": "r", "is_safe": true}\n' * (LOOKED_AT + 1) + '{"prompt": "p", "n": 1}\n'
    )
    table = open_table(path)
    assert table.columns == list(COLUMNS)
    *_, (line, values) = table.rows(table.columns)
    assert line == LOOKED_AT + 2
    with pytest.raises(LeftOutError, match="it has no response"):
        raw_row(values, fields_of(table, {}), "triples", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": {"promt": "question"}}, "map: got 'promt', allowed: "),
        ({"map": {"question": "prompt"}}, "Write the field first: --map prompt=question."),
        ({"safe_values": ["a", "B"], "unsafe_values": ["b "]}, "safe_values, unsafe_values: got b in both."),
        ({"only": "bening"}, "only: got 'bening', allowed: benign, unsafe. Did you mean 'benign'?"),
        ({"format": "triple"}, "Did you mean 'triples'?"),
        ({"encoding": "base64"}, "encoding: got 'base64'"),
        ({"encoding": "latin-99"}, "encoding: got 'latin-99', allowed: such as utf-8"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        ImportOptions(**options)
