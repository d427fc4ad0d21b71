"""The one door: from files to the rows and the manifest of a run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steerclear.config import build
from steerclear.data import examples_folder
from steerclear.data.manifest import hash_rows
from steerclear.data.options import DataOptions
from steerclear.data.prepare import PreparedData, prepare_data
from steerclear.data.sources import read_source
from steerclear.errors import ConfigError, DataError
from steerclear.records import Prompt, read_jsonl

BENIGN = str(examples_folder() / "benign.jsonl")
UNSAFE = str(examples_folder() / "unsafe.jsonl")
PROMPTS = [
    Prompt(id=value["id"], suite="examples", prompt=value["prompt"])
    for _, value in read_jsonl(examples_folder() / "prompts.jsonl")
]


def prepare(prompts: Any = (), **options: Any) -> PreparedData:
    return prepare_data(DataOptions(**({"benign": BENIGN, "unsafe": UNSAFE, "heldout_count": 4} | options)), prompts)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def alpaca(n: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"id": f"r{i}", "instruction": f"Count to {i}.", "output": f"I count to {i}."} for i in range(start, start + n)
    ]


def test_the_examples_give_disjoint_parts() -> None:
    data = prepare(PROMPTS)
    parts = [{row.id for row in part} for part in (data.benign, data.unsafe, data.heldout)]
    assert [len(part) for part in parts] == [20, 12, 4]
    assert len(set.union(*parts)) == 36
    assert all(row.label for row in data.benign + data.heldout)
    assert not any(row.label for row in data.unsafe)
    assert data.messages == []
    assert data.problems == []


def test_the_manifest_tells_what_was_used() -> None:
    data = prepare(PROMPTS, unsafe_count=6, seed=3)
    source = {"left_out": {}, "where": {}}
    hashes = {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in (BENIGN, UNSAFE)}
    assert data.manifest == {
        "schema_version": 1,
        "sources": [
            source
            | {"name": "benign.jsonl", "format": "alpaca", "role": "benign", "sha256": hashes[BENIGN]}
            | {"rows_read": 24, "rows_kept": 24},
            source
            | {"name": "unsafe.jsonl", "format": "triples", "role": "unsafe", "sha256": hashes[UNSAFE]}
            | {"rows_read": 12, "rows_kept": 12},
        ],
        "selection": {
            "safe_sides": False,
            "benign_count": None,
            "unsafe_count": 6,
            "added_count": None,
            "heldout_count": 4,
            "template": "alpaca",
            "seed": 3,
            "on_contamination": "error",
            "contamination_similarity": None,
        },
        "contamination": {"evaluation_prompts": 12, "rows_left_out": 0},
        "rows": {"benign": 20, "added": 0, "unsafe": 6, "heldout": 4},
        "sha256": {
            "benign": hash_rows(data.benign),
            "added": hash_rows([]),
            "unsafe": hash_rows(data.unsafe),
            "heldout": hash_rows(data.heldout),
        },
        "sampling": {},
        "tokens": {},
    }
    text = json.dumps(data.manifest, allow_nan=False)
    assert str(examples_folder()) not in text
    assert data.unsafe[0].prompt not in text


def test_the_same_options_give_the_same_rows_and_another_seed_others() -> None:
    first = prepare(benign_count=5, seed=1)
    assert first == prepare(benign_count=5, seed=1)
    assert first.manifest["sha256"] != prepare(benign_count=5, seed=2).manifest["sha256"]


def test_a_changed_text_changes_its_part_of_the_hash_alone(tmp_path: Path) -> None:
    rows = alpaca(6)
    before = prepare(benign=write(tmp_path / "a.jsonl", *rows), heldout_count=0).manifest["sha256"]
    rows[2]["output"] += " Done."
    after = prepare(benign=write(tmp_path / "a.jsonl", *rows), heldout_count=0).manifest["sha256"]
    assert {part for part in before if before[part] != after[part]} == {"benign"}


def test_subsets_are_nested_and_the_heldout_rows_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *alpaca(60))
    runs = [prepare(benign=path, benign_count=count, unsafe_count=count, heldout_count=10) for count in (3, 6, 12)]
    for small, large in itertools.pairwise(runs):
        assert small.benign == large.benign[: len(small.benign)]
        assert small.unsafe == large.unsafe[: len(small.unsafe)]
        assert small.heldout == large.heldout


def test_added_rows_are_all_used_and_change_no_other_choice(tmp_path: Path) -> None:
    benign, added = write(tmp_path / "b.jsonl", *alpaca(30)), write(tmp_path / "a.jsonl", *alpaca(5, start=100))
    without = prepare(benign=benign, benign_count=10)
    data = prepare(benign=benign, benign_count=10, extra=added)
    assert [row.id for row in data.added] == [f"r{i}" for i in range(100, 105)]
    assert (data.benign, data.heldout, data.unsafe) == (without.benign, without.heldout, without.unsafe)
    assert data.manifest["sha256"]["added"] != without.manifest["sha256"]["added"]


def test_a_number_of_added_rows_lies_inside_a_larger_one(tmp_path: Path) -> None:
    added = write(tmp_path / "a.jsonl", *alpaca(30, start=100))
    few, more = prepare(extra=added, extra_count=5), prepare(extra=added, extra_count=12)
    assert (len(few.added), len(more.added)) == (5, 12)
    assert few.added == more.added[:5]
    assert few.manifest["selection"]["added_count"] == 5
    with pytest.raises(DataError, match=r"data.extra_count: 31 rows are asked for, but there are 30"):
        prepare(extra=added, extra_count=31)


def test_added_rows_must_not_hold_an_evaluation_prompt(tmp_path: Path) -> None:
    added = write(tmp_path / "a.jsonl", {"instruction": PROMPTS[0].prompt, "output": "No."}, *alpaca(2))
    with pytest.raises(DataError, match="holds an evaluation prompt"):
        prepare(PROMPTS, extra=added)
    assert len(prepare(PROMPTS, extra=added, on_contamination="drop", benign_count=5).added) == 2


def test_the_safe_sides_are_those_of_the_chosen_pairs(tmp_path: Path) -> None:
    pairs = [{"id": f"p{i}", "prompt": f"how {i}?", "unsafe": f"so {i}.", "safe": f"no {i}."} for i in range(20)]
    pairs.append({"id": "p20", "prompt": "how 20?", "unsafe": "so 20.", "safe": ""})
    source = write(tmp_path / "pairs.jsonl", *pairs)
    data = prepare(benign=write(tmp_path / "b.jsonl", *alpaca(9)), unsafe=source, unsafe_count=7, safe_sides=True)
    stems = [row.id.removesuffix("-unsafe") for row in data.unsafe]
    assert [row.id.removesuffix("-safe") for row in data.added] == [stem for stem in stems if stem != "p20"]
    assert all(row.label and row.completion.startswith("no ") for row in data.added)
    every = prepare(benign=write(tmp_path / "b.jsonl", *alpaca(9)), unsafe=source, unsafe_count=None, safe_sides=True)
    assert (len(every.unsafe), len(every.added)) == (21, 20)
    two = [{"prompt": f"how {i}?", "response": "so.", "is_safe": i > 3} for i in range(6)]
    with pytest.raises(DataError, match=r"data\.safe_sides: t\.jsonl has rows of the format triples"):
        prepare(unsafe=write(tmp_path / "t.jsonl", *two), unsafe_count=2, safe_sides=True)


def test_several_sources_are_joined_and_a_repeated_row_is_kept_once(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", *alpaca(5))
    second = write(tmp_path / "b.jsonl", *alpaca(3, start=5), alpaca(1)[0] | {"id": "other"})
    data = prepare(benign=[first, second], heldout_count=0)
    assert {row.id for row in data.benign} == {f"r{i}" for i in range(8)}
    assert data.manifest["sources"][1]["left_out"] == {"duplicate": 1}
    problem = "b.jsonl:4: the same prompt and completion as a.jsonl:1. The row is left out."
    assert data.messages == [
        f"b.jsonl: 1 of 4 rows are faulty and left out as benign rows (1 duplicate). First: {problem}"
    ]
    assert [p.message for p in data.problems] == [problem]


def test_pairs_serve_both_roles(tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{i}", "unsafe": "u", "safe": "s", "noisy": i > 2} for i in range(6)]
    path = write(tmp_path / "p.jsonl", *pairs)
    data = prepare(benign=path, unsafe=path, unsafe_where={"noisy": False}, heldout_count=1)
    assert (len(data.benign), len(data.unsafe)) == (5, 3)
    assert data.manifest["sources"][1]["left_out"] == {"filtered": 3}
    assert data.manifest["sources"][1]["where"] == {"noisy": False}


def test_no_unsafe_source_gives_no_unsafe_rows() -> None:
    data = prepare(unsafe=None)
    assert data.unsafe == []
    assert data.manifest["rows"]["unsafe"] == 0


def test_warnings_are_passed_on(tmp_path: Path) -> None:
    path = write(tmp_path / "kto.jsonl", {"prompt": "p", "completion": "c", "label": False})
    (message,) = prepare(unsafe=path).messages
    assert "kto.jsonl: in 1 of 1 rows label false may mean merely worse" in message


@pytest.mark.parametrize("part", ["benign", "unsafe"])
def test_an_evaluation_prompt_in_any_row_is_an_error(part: str) -> None:
    asked = getattr(prepare(heldout_count=0), part)[-1]
    prompts = [Prompt(id="x", suite="s", prompt=f"{asked.prompt} {asked.input}".upper())]
    with pytest.raises(DataError, match=f"{asked.source} holds s/x .*\n.*data.on_contamination: drop"):
        prepare(prompts, benign_count=1, unsafe_count=1)


def test_drop_leaves_rows_with_an_evaluation_prompt_out_and_still_fills_the_counts() -> None:
    full = prepare()
    prompts = [
        Prompt(id=row.id, suite="s", prompt=row.prompt) for row in (full.heldout[0], full.unsafe[0], full.benign[0])
    ]
    data = prepare(prompts, on_contamination="drop", unsafe_count=11, benign_count=18)
    assert (len(data.benign), len(data.unsafe), len(data.heldout)) == (18, 11, 4)
    assert {p.id for p in prompts}.isdisjoint(row.id for row in data.benign + data.unsafe + data.heldout)
    assert data.manifest["contamination"] == {"evaluation_prompts": 3, "rows_left_out": 3}
    assert data.messages == ["3 training rows hold an evaluation prompt and are left out."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"heldout_count": 200},
            "data.heldout_count: 200 rows are asked for to be held out, but there are 24 and some",
        ),
        (
            {"benign_count": 24},
            "data.benign_count: 24 rows are asked for, but there are 20. Lower the count or add rows. "
            "Held out are 4 more (data.heldout_count).",
        ),
        ({"unsafe_count": 13}, "data.unsafe_count: 13 rows are asked for, but there are 12."),
        ({"unsafe": None, "unsafe_count": 1}, "data.unsafe_count: 1 rows are asked for, but there are 0."),
        (
            {"unsafe_where": {"is_safe": True}},
            "unsafe.jsonl: none of its 12 rows can be used as unsafe rows: 12 filtered.",
        ),
        ({"benign": UNSAFE}, "unsafe.jsonl: none of its 12 rows can be used as benign rows: 12 other label."),
        ({"unsafe": BENIGN}, "benign.jsonl:1 and benign.jsonl:1 have the same id 'benign-01'."),
    ],
)
def test_what_cannot_be_had_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        prepare(**options)


def test_a_row_to_imitate_and_to_avoid_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "u.jsonl", {"prompt": "count to 3.", "response": "I  count to 3.", "is_safe": False})
    with pytest.raises(
        DataError, match=r"a\.jsonl:4 and u\.jsonl:1 are the same prompt and completion, once to imitate"
    ):
        prepare(benign=write(tmp_path / "a.jsonl", *alpaca(9)), unsafe=path)


def test_files_of_the_same_name_whose_rows_have_no_ids_are_an_error(tmp_path: Path) -> None:
    paths = []
    for name in ("jan", "feb"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "log.jsonl", {"instruction": name, "output": "o"}))
    with pytest.raises(DataError, match=r"have the same id 'log-1'.*rename one of two files of the same name"):
        prepare(benign=paths, heldout_count=0)


def test_a_conversation_that_the_template_cannot_render_is_found_before_training(tmp_path: Path) -> None:
    turn, answer = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
    path = write(tmp_path / "m.jsonl", {"messages": [turn, answer, turn, answer]})
    with pytest.raises(DataError, match=r"^m.jsonl:1: the template alpaca takes .* Set data.template: chat"):
        prepare(unsafe=path)
    assert len(prepare(unsafe=path, template="chat").unsafe) == 1


def test_wrong_options_are_told_together() -> None:
    wrong = {
        "benign_count": 0,
        "heldout_count": -1,
        "template": "chatt",
        "on_contamination": "warn",
        "contamination_similarity": 70,
    }
    with pytest.raises(ConfigError) as error:
        build(DataOptions, wrong)
    assert str(error.value).splitlines() == [
        "benign_count: got 0, allowed: 1 or more, or null for all.",
        "heldout_count: got -1, allowed: 0 or more.",
        "template: got 'chatt', allowed: alpaca, plain, chat. Did you mean 'chat'?",
        "on_contamination: got 'warn', allowed: error, drop.",
        "contamination_similarity: got 70.0, allowed: above 0 and at most 1, or null.",
    ]


def test_nothing_is_prepared_without_benign_rows() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.benign: got nothing, expected a file or a Hub name of rows to imitate"
    ):
        prepare_data(DataOptions())


def test_preparing_data_imports_neither_torch_nor_the_hub() -> None:
    code = (
        "import sys; from steerclear.data.prepare import DataOptions, prepare_data; "
        f"prepare_data(DataOptions(benign={BENIGN!r}, unsafe={UNSAFE!r}, heldout_count=2)); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_prompts_have_both_labels() -> None:
    labels = [value["label"] for _, value in read_jsonl(examples_folder() / "prompts.jsonl")]
    assert (labels.count("safe"), labels.count("unsafe")) == (6, 6)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_every_format_of_the_documentation_is_read_as_it_says(tmp_path: Path) -> None:
    examples = re.findall(
        r"^\*\*(\w+)\*\*:.*?^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert [name for name, _ in examples] == ["alpaca", "triples", "pairs", "messages", "canonical"]
    for name, text in examples:
        path = tmp_path / f"{name}.jsonl"
        path.write_text(text)
        reads = [read_source(str(path), role) for role in ("benign", "unsafe")]
        assert {read.format for read in reads} == {name}
        assert sum(len(read.rows) for read in reads) >= 1
        assert not any(read.problems for read in reads)


def test_the_papers_data(shared_data: Path) -> None:
    prompts = [
        Prompt(id=value["id"], suite=value["benchmark"], prompt=value["prompt"])
        for _, value in read_jsonl(shared_data / "safety_benchmarks" / "all_518.jsonl")
    ]
    options = DataOptions(
        benign=str(shared_data / "alpaca" / "alpaca_20k.jsonl"),
        unsafe=str(shared_data / "beavertails_pairs" / "train.jsonl"),
        unsafe_where={"unsafe_noise_cue": False},
        unsafe_count=500,
    )
    data = prepare_data(options, prompts)
    assert data.manifest["rows"] == {"benign": 19800, "added": 0, "unsafe": 500, "heldout": 200}
