"""Files between the stages: read with clear errors, written all or nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from steerclear.errors import DataError, StorageError
from steerclear.records import (
    Generation,
    JsonlAppender,
    read_jsonl,
    read_records,
    sha256_of,
    text_of,
    write_json,
    write_jsonl,
    write_text,
)  # fmt: skip


def answer(number: int) -> Generation:
    return Generation(id=str(number), suite="s", prompt="p", response="é\u2028\n", finish="eos", tokens=3)


def test_records_survive_a_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "new" / "g.jsonl"
    write_jsonl(file, [answer(1), answer(2)])
    assert read_records(file, Generation) == [answer(1), answer(2)]


def test_an_unfinished_line_is_cut_and_continued(tmp_path: Path) -> None:
    file = tmp_path / "g.jsonl"
    with JsonlAppender(file) as out:
        out.append(answer(1), answer(2))
    file.write_bytes(file.read_bytes()[:-9])
    with JsonlAppender(file) as out:
        out.append(answer(3))
    assert [record.id for record in read_records(file, Generation)] == ["1", "3"]


def test_reading_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"rows.jsonl:3: not valid JSON \(.*column"):
        list(read_jsonl(file))
    file.write_text("[1]\n")
    with pytest.raises(DataError, match=r"rows.jsonl:1: got a JSON list, expected an object"):
        list(read_jsonl(file))
    file.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: not a Generation record: got fields \['a'\]"):
        read_records(file, Generation)
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"not UTF-8"):
        list(read_jsonl(file))
    with pytest.raises(DataError, match=r"absent.jsonl: cannot be read \(No such file"):
        list(read_jsonl(tmp_path / "absent.jsonl"))


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs the device /dev/full, which writes as a full disk does"
)
def test_a_full_disk_while_appending() -> None:
    with (
        pytest.raises(StorageError, match=r"No space left on device.*free some space"),
        JsonlAppender(Path("/dev/full")) as out,
    ):
        out.append(answer(1))


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scores.json"
    write_json(file, {"old": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"scores.json: cannot be written.*run the same command again"):
        write_json(file, {"new": 2})
    assert file.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written"):
        write_text(tmp_path / "file" / "x.txt", "")


def test_hashes_ignore_the_order_of_keys() -> None:
    assert sha256_of({"a": 1, "b": [2]}) == sha256_of({"b": [2], "a": 1}) != sha256_of({"a": 1, "b": [3]})


def test_the_users_words() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert (text_of("x"), text_of(turns), text_of([])) == ("x", "c", "")


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    plain, own = tmp_path / "plain", tmp_path / "own"
    plain.write_text("x")
    write_text(own, "x")
    assert own.stat().st_mode == plain.stat().st_mode
    own.chmod(0o640)
    write_text(own, "y")
    assert own.stat().st_mode & 0o777 == 0o640
