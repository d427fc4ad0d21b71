"""`steerclear import` through the command line: files written, rows left out, dry run, and what a recipe makes of it."""

from __future__ import annotations

import csv
import errno
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data import import_rows as module
from steerclear.data.columns import ImportOptions
from steerclear.data.import_rows import parse_mapping
from steerclear.data.options import DataOptions
from steerclear.data.prepare import prepare_data
from steerclear.data.sources import ROLES, Problem, read_source
from steerclear.errors import ConfigError, DataError
from steerclear.records import Row, read_records, text_key

Run = Callable[..., tuple[int, str, str]]
"""What the fixture `steerclear` is."""

LOGS = [
    {"prompt": "how to wait ?", "response": "Sit, and\nwait “long”.", "is_safe": "true"},
    {"prompt": "how to sneak ?", "response": 'By the "exit".', "is_safe": "false"},
    {"prompt": "How to  wait ?", "response": "sit, and wait “long”.", "is_safe": "1"},
    {"prompt": "", "response": "nothing asked", "is_safe": "yes"},
    {"prompt": "how to doze ?", "response": "unlabelled words", "is_safe": ""},
    {"prompt": "how to nap ?", "response": "wrongly labelled words", "is_safe": "perhaps"},
    {"prompt": "how to cheat ?", "response": "both ways", "is_safe": "no"},
    {"prompt": "how to cheat ?", "response": "both ways", "is_safe": "SAFE"},
    {"prompt": "007", "response": "渡邊 🙂", "is_safe": "unsafe"},
]
"""What a user may have; `KEPT` and `LEFT_OUT` are worked out by hand."""

KEPT = {
    "benign.jsonl": [("how to wait ?", "Sit, and\nwait “long”.", True)],
    "unsafe.jsonl": [("how to sneak ?", 'By the "exit".', False), ("007", "渡邊 🙂", False)],
}
LEFT_OUT = ["duplicate", "empty", "unlabelled", "label", "conflict", "conflict"]


def write_csv(path: Path, rows: list[dict[str, Any]] = LOGS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_in(folder: Path) -> dict[str, list[Any]]:
    return {
        name: [(row.prompt, row.completion, row.label) for row in read_records(folder / name, Row)]
        for name in KEPT
        if (folder / name).exists()
    }


def test_every_kind_of_file_is_imported_alike(steerclear: Run, tmp_path: Path) -> None:
    write_csv(tmp_path / "logs.csv")
    write_jsonl(tmp_path / "logs.jsonl", LOGS)
    (tmp_path / "logs.json").write_text(json.dumps(LOGS))
    pq.write_table(pa.Table.from_pylist(LOGS), tmp_path / "logs.parquet")
    for kind in ("csv", "jsonl", "json", "parquet"):
        rows = tmp_path / f"rows-{kind}"
        code, out, err = steerclear("import", str(tmp_path / f"logs.{kind}"), output=rows)
        assert code == 0, err
        assert out.splitlines()[0] == f"logs.{kind} (triples): 9 read, 1 benign, 2 unsafe"
        assert out.splitlines()[-1] == "1 benign rows, 2 unsafe rows"
        assert rows_in(rows) == KEPT
        problems = read_records(rows / "left_out.jsonl", Problem)
        assert [problem.kind for problem in problems] == LEFT_OUT


def test_the_record_says_what_was_read_and_left_out(steerclear: Run, tmp_path: Path) -> None:
    steerclear("import", str(write_csv(tmp_path / "logs.csv")), output=tmp_path / "rows")
    record = json.loads((tmp_path / "rows" / "import.json").read_text())
    (source,) = record["sources"]
    assert record["rows"] == {"benign": 1, "unsafe": 2}
    assert (source["name"], source["format"], source["read"]) == ("logs.csv", "triples", 9)
    assert len(source["sha256"]) == 64
    assert source["fields"] == {"prompt": "prompt", "response": "response", "is_safe": "is_safe"}
    # Lines of the CSV file: the header is 1, and the first answer takes two.
    lines = {kind: (rows["count"], rows["lines"]) for kind, rows in source["left_out"].items()}
    assert lines == {
        "duplicate": (1, [5]),
        "empty": (1, [6]),
        "unlabelled": (1, [7]),
        "label": (1, [8]),
        "conflict": (2, [9, 10]),
    }
    assert source["left_out"]["duplicate"]["first"] == "the same prompt and completion as logs.csv:2."
    assert set(record["files"]) == {"benign.jsonl", "unsafe.jsonl", "left_out.jsonl"}
    assert str(tmp_path) not in json.dumps(record)
    assert "words" not in json.dumps(record)


def test_what_is_imported_can_be_trained_on(steerclear: Run, tmp_path: Path) -> None:
    logs = [{"prompt": f"q{i}", "response": f"a{i}", "is_safe": i % 3 > 0, "id": f"log-{i}"} for i in range(12)]
    steerclear("import", str(write_csv(tmp_path / "logs.csv", logs)), output=tmp_path / "rows")
    options = DataOptions(
        benign=str(tmp_path / "rows" / "benign.jsonl"), unsafe=str(tmp_path / "rows" / "unsafe.jsonl"), heldout_count=2
    )
    data = prepare_data(options)
    assert (len(data.benign), len(data.heldout), len(data.unsafe)) == (6, 2, 4)
    assert {row.id for row in data.unsafe} == {"log-0", "log-3", "log-6", "log-9"}
    assert data.messages == data.problems == []


def test_dry_run_writes_nothing_and_shows_no_text(steerclear: Run, tmp_path: Path) -> None:
    logs = write_csv(tmp_path / "logs.csv")
    code, out, err = steerclear("import", str(logs), "--dry-run", output=tmp_path / "rows")
    assert code == 0
    assert list(tmp_path.iterdir()) == [logs]
    assert "logs.csv (triples): 9 read, 1 benign, 2 unsafe" in out
    assert "columns: prompt, response, is_safe\n" in out
    assert "left out, conflict: 2, on line 9, 10." in out
    assert "unsafe, logs.csv:4\n  prompt: [redacted, 14 characters, sha256 " in out
    for row in LOGS:
        for text in (row["prompt"], row["response"]):
            assert not text or text not in out + err
    _, revealed, _ = steerclear("import", str(logs), "--dry-run", "--reveal")
    assert "  completion: Sit, and⏎wait “long”." in revealed


def test_dry_run_shows_ten_rows_of_both_labels(steerclear: Run, tmp_path: Path) -> None:
    for unsafe, shown in ((8, 5), (2, 2)):
        logs = [{"prompt": f"q{i}", "response": "a\x1b[1m", "is_safe": i >= unsafe} for i in range(30)]
        path = write_jsonl(tmp_path / "logs.jsonl", logs)
        _, out, _ = steerclear("import", str(path), "--dry-run", "--reveal")
        assert (len(re.findall("^unsafe, ", out, re.M)), len(re.findall("^benign, ", out, re.M))) == (shown, 10 - shown)
        assert "\x1b" not in out


def test_columns_and_labels_by_other_names(steerclear: Run, tmp_path: Path) -> None:
    logs = [
        {"question": "q1", "answer": "a1", "verdict": "ok", "day": "Monday"},
        {"question": "q2", "answer": "a2", "verdict": "Toxic ", "day": "Monday"},
        {"question": "q3", "answer": "a3", "verdict": "true", "day": "Monday"},
    ]
    path = write_csv(tmp_path / "logs.csv", logs)
    maps = ("--map", "prompt=question", "--map", "response=answer", "--map", "is_safe=verdict")
    words = ("--safe-values", "ok,fine", "--unsafe-values", "toxic")
    code, out, _ = steerclear("import", str(path), *maps, *words, output=tmp_path / "rows")
    assert code == 0
    assert "columns: prompt (from question), response (from answer), is_safe (from verdict); not used: day" in out
    assert "is_safe: got 'true', allowed: ok, fine (safe) and toxic (unsafe)." in out
    assert rows_in(tmp_path / "rows") == {"benign.jsonl": [("q1", "a1", True)], "unsafe.jsonl": [("q2", "a2", False)]}
    # A mapping misspelt, and none.
    code, _, err = steerclear("import", str(path), "--map", "prompt=questoin", "--dry-run")
    assert (code, "Did you mean 'question'?" in err) == (2, True)
    code, _, err = steerclear("import", str(path), "--dry-run")
    assert (code, "logs.csv: got the columns question, answer, verdict, day, which do not fit any format" in err) == (
        2,
        True,
    )


def test_files_whose_labels_are_not_understood_are_refused(steerclear: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "logs.csv", [{"prompt": "p", "response": "r", "is_saef": "good"}])
    code, _, err = steerclear("import", str(path), output=tmp_path / "rows")
    assert code == 2
    assert "There is no row to keep. Did you mean --map is_safe=is_saef?" in err
    assert not (tmp_path / "rows").exists()
    code, _, err = steerclear("import", str(path), "--map", "is_safe=is_saef", output=tmp_path / "rows")
    assert (code, "is_safe: got 'good', allowed: true, 1" in err, "--safe-values" in err) == (2, True, True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("only", "kept"), [("benign", "benign.jsonl"), ("unsafe", "unsafe.jsonl")])
def test_only_one_kind(steerclear: Run, tmp_path: Path, only: str, kept: str) -> None:
    path = write_csv(tmp_path / "logs.csv")
    _, out, _ = steerclear("import", str(path), output=tmp_path / "rows", only=only)
    assert rows_in(tmp_path / "rows") == {kept: KEPT[kept]}
    assert re.search(r"left out, other label: [12], on line \d", out)
    assert "left out, conflict: 2" in out  # also where only one of the two was asked for


def test_rows_without_a_label_need_to_be_called_something(steerclear: Run, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path = write_csv(tmp_path / "chat.csv", [{"messages": json.dumps(turns)}])
    code, _, err = steerclear("import", str(path), "--dry-run")
    assert (code, "say with --only what all such rows are" in err) == (2, True)
    _, out, _ = steerclear("import", str(path), "--dry-run", only="unsafe")
    assert "unsafe, chat.csv:2\n  prompt, user: [redacted, 1 characters" in out
    logs = write_csv(tmp_path / "logs.csv", [{"asked": "q", "said": "a"}])
    maps = ("--map", "instruction=asked", "--map", "output=said")
    assert steerclear("import", str(logs), *maps, output=tmp_path / "rows", only="unsafe")[0] == 0
    assert rows_in(tmp_path / "rows") == {"unsafe.jsonl": [("q", "a", False)]}


def test_pairs_give_both_sides_and_several_files_share_ids_and_texts(steerclear: Run, tmp_path: Path) -> None:
    pairs = [
        {"id": "x", "prompt": "q1", "safe": "good", "unsafe": "bad"},
        {"id": "x", "prompt": "q2", "safe": "", "unsafe": "worse"},
        {"id": "y", "prompt": "q3", "safe": "same", "unsafe": "Same"},
    ]
    logs = [
        {"id": "x", "prompt": "q1", "response": "good", "is_safe": 1},
        {"id": "z", "prompt": "q2", "response": "worse", "is_safe": 1},
    ]
    first, second = write_csv(tmp_path / "pairs.csv", pairs), write_jsonl(tmp_path / "logs.jsonl", logs)
    code, out, _ = steerclear("import", str(first), str(second), output=tmp_path / "rows")
    assert code == 0
    assert [(row.id, row.source) for name in KEPT for row in read_records(tmp_path / "rows" / name, Row)] == [
        ("x-safe", "pairs.csv:2"),
        ("x-unsafe", "pairs.csv:2"),
    ]
    assert "left out, conflict: 3, on line 3, 4, 4" in out  # the other file calls "worse" safe
    assert "left out, duplicate: 1, on line 1. First: the same prompt and completion as pairs.csv:2." in out


def test_ktos_false_may_be_merely_worse(steerclear: Run, tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": "c", "label": False}, {"prompt": "q", "completion": "c", "label": True}]
    path = write_jsonl(tmp_path / "kto.jsonl", rows)
    _, out, _ = steerclear("import", str(path), "--dry-run")
    assert "warning: kto.jsonl: in 1 of 1 unsafe rows label false may mean merely worse" in out
    write_jsonl(path, [row | {"harm_score": 0.9} for row in rows])
    assert "warning" not in steerclear("import", str(path), "--dry-run")[1]


def test_the_same_import_again_has_nothing_to_do_and_another_is_refused(steerclear: Run, tmp_path: Path) -> None:
    path, rows = write_csv(tmp_path / "logs.csv"), tmp_path / "rows"
    rows.mkdir()  # an empty folder is taken
    assert steerclear("import", str(path), output=rows)[0] == 0
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in rows.iterdir()}
    code, out, _ = steerclear("import", str(path), output=rows)
    assert (code, "holds this import already" in out) == (0, True)
    code, _, err = steerclear("import", str(path), output=rows, only="benign")
    assert (code, "holds an import of other files or with other options" in err) == (2, True)
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in rows.iterdir()} == before
    (rows / "unsafe.jsonl").write_text("")
    code, _, err = steerclear("import", str(path), output=rows)
    assert (code, "unsafe.jsonl was changed since it was imported" in err) == (2, True)
    code, _, err = steerclear("import", str(path), output=tmp_path)
    assert (code, "is no empty folder and holds no import" in err) == (2, True)
    assert path.exists()


def test_a_full_disk_leaves_nothing_behind(steerclear: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_csv(tmp_path / "logs.csv")
    monkeypatch.setattr(module, "write_json", full)
    code, _, err = steerclear("import", str(path), output=tmp_path / "rows")
    assert (code, "cannot be written (No space left on device)" in err) == (2, True)
    assert list(tmp_path.iterdir()) == [path]


TRIPLES = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["p", "P ", "q", "", None, 3]),
        "response": st.sampled_from(["r", "s", " "]),
        "is_safe": st.sampled_from([True, False, None]),
    }
)


@settings(deadline=None)
@given(st.lists(st.lists(TRIPLES, min_size=1, max_size=8), min_size=1, max_size=2))
def test_rows_are_those_that_training_reads_less_the_disputed_and_all_are_counted(files: list[list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [write_jsonl(Path(folder) / f"{number}.jsonl", rows) for number, rows in enumerate(files)]
        expected = {}
        for role in ROLES:
            seen: dict[tuple[str, str], str] = {}
            expected[role] = [row for path in paths for row in read_source(str(path), role, seen=seen).rows]
        texts = [{text_key(row) for row in rows} for rows in expected.values()]
        disputed = texts[0] & texts[1]
        wanted = {role: [row for row in rows if text_key(row) not in disputed] for role, rows in expected.items()}
        if any(wanted.values()):
            found = module.preview(paths, ImportOptions())
            assert {"benign": found.first[True], "unsafe": found.first[False]} == wanted
            for source, rows in zip(found.sources, files, strict=True):
                left_out = sum(reason.count for reason in source.left_out.values())
                assert source.read == len(rows) == source.benign + source.unsafe + left_out
        else:
            with pytest.raises(DataError, match="There is no row to keep"):
                module.preview(paths, ImportOptions())


def test_wrong_arguments(steerclear: Run, tmp_path: Path) -> None:
    path = str(write_csv(tmp_path / "logs.csv"))
    code, _, err = steerclear("import", path)
    assert (code, "got neither --output FOLDER nor --dry-run" in err) == (2, True)
    code, _, err = steerclear("import", path, "--reveal", output=tmp_path / "rows")
    assert (code, "got --reveal without --dry-run" in err) == (2, True)
    assert parse_mapping(["prompt=a=b", "id = n"]) == {"prompt": "a=b", "id": "n"}
    with pytest.raises(ConfigError, match="map: got 'prompt', expected FIELD=COLUMN"):
        parse_mapping(["prompt"])
    with pytest.raises(ConfigError, match="map: got two columns for prompt: a, b"):
        parse_mapping(["prompt=a", "prompt=b"])


def test_labelled_sets_are_imported_whole(steerclear: Run, shared_data: Path, tmp_path: Path) -> None:
    code, out, err = steerclear("import", str(shared_data / "harm_labels" / "train.jsonl"), output=tmp_path / "rows")
    assert code == 0, err
    assert "6619 read, 3198 benign, 3421 unsafe" in out
