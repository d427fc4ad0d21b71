"""Cards: those that come with the package fit their data, and one of your own is checked."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import yaml

from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.cards import METRICS, list_cards, load_card
from steerclear.evaluation.options import SuiteOptions
from steerclear.evaluation.suites import load_rows, load_suite, suite_objects

SIZES = {
    "advbench": 520,
    "alpaca_eval": 805,
    "alpaca_heldout": 500,
    "boolq": 3270,
    "harmfulq": 200,
    "i_alpaca": 50,
    "i_cona": 178,
    "i_controversial": 40,
    "i_malicious": 100,
    "openbookqa": 500,
    "or_bench_hard": 1319,
    "pair_subset_50": 50,
    "piqa": 1838,
    "safety_518": 518,
    "xstest": 450,
}


@pytest.fixture
def own(tmp_path):
    """A function that writes a card for two files of three prompts and returns its path."""

    def own(**changes):
        files = []
        for part in (1, 2):
            path = tmp_path / f"part_{part}.jsonl"
            rows = [
                {"key": f"{part}-{i}", "ask": f"Fold {part} {i}.", "answer": f"Folded {i}.", "kind": "ab"[i % 2]}
                for i in range(3)
            ]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            files.append({"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        card = {
            "name": "mine",
            "version": 2,
            "about": "Folding.",
            "source": "someone/napkins, napkins.json",
            "licence": "MIT",
            "files": files,
            "metric": "harmful",
            "direction": "lower",
            "kind": "harmful",
            "fields": {"id": "key", "prompt": "ask"},
            "by": "kind",
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card | changes))
        return str(tmp_path / "mine.yaml")

    return own


def test_the_cards_that_come_with_the_package():
    cards = list_cards()
    assert [card.name for card in cards] == sorted(SIZES)
    for card in cards:
        assert load_card(card.name) == card
        assert METRICS[card.metric] == card.direction
        assert card.about.endswith(".")
        assert card.source
        assert card.licence
        assert card.citation


@pytest.mark.parametrize("name", SIZES)
def test_their_data_is_what_they_say(shared_data, name):
    options = SuiteOptions(card=name, data=str(shared_data))
    card = load_card(name)
    assert len(list(suite_objects(options, card))) == SIZES[name]
    if card.metric == "perplexity":
        rows = load_rows(options)
        assert len(rows) == len({row.id for row in rows}) == SIZES[name]
        assert any(row.input for row in rows)
    elif card.metric != "multiple_choice":
        if card.metric == "win_rate":
            assert [row.prompt for row in load_rows(options)] == [prompt.prompt for prompt in load_suite(options)]
        assert len(load_suite(options)) == SIZES[name]


def test_a_card_of_your_own(own, tmp_path):
    prompts = load_suite(SuiteOptions(card=own()))
    assert [(p.id, p.suite, p.prompt) for p in prompts[2:4]] == [
        ("1-2", "mine", "Fold 1 2."),
        ("2-0", "mine", "Fold 2 0."),
    ]
    assert [p.tags for p in prompts[:2]] == [{"kind": "harmful", "group": "a"}, {"kind": "harmful", "group": "b"}]
    (tmp_path / "elsewhere").mkdir()
    moved = own().replace("mine.yaml", "elsewhere/mine.yaml")
    (tmp_path / "mine.yaml").rename(moved)
    assert load_suite(SuiteOptions(card=moved, data=str(tmp_path), name="mine")) == prompts


def test_rows_of_a_card_are_a_range_over_its_files(own):
    fields = {"id": "key", "prompt": "ask", "response": "answer", "input": "kind"}
    card = own(metric="perplexity", kind="benign", fields=fields, rows=[2, 4], by=None)
    rows = load_rows(SuiteOptions(card=card))
    assert [(r.id, r.prompt, r.completion, r.input, r.label) for r in rows] == [
        ("1-2", "Fold 1 2.", "Folded 2.", "a", True),
        ("2-0", "Fold 2 0.", "Folded 0.", "a", True),
    ]
    fields["response"] = "reply"
    with pytest.raises(
        DataError, match=r"part_1.jsonl:3: no 'ask' or no 'reply': got the fields key, ask, answer, kind"
    ):
        load_rows(SuiteOptions(card=own(metric="perplexity", kind="benign", fields=fields, rows=[2, 4], by=None)))


def test_another_file_than_the_cards_is_refused_unless_accepted(own, tmp_path):
    card = own()
    with (tmp_path / "part_2.jsonl").open("a") as file:
        file.write('{"key": "new", "ask": "Fold.", "kind": "a"}\n')
    found = hashlib.sha256((tmp_path / "part_2.jsonl").read_bytes()).hexdigest()
    said = f"part_2.jsonl: not the file of card 'mine' version 2: its SHA-256 is {found}, the card says "
    with pytest.raises(DataError, match=re.escape(said) + r".*someone/napkins.*accept_changed: true"):
        load_suite(SuiteOptions(card=card))
    assert len(load_suite(SuiteOptions(card=card, accept_changed=True))) == 7
    (tmp_path / "part_1.jsonl").unlink()
    with pytest.raises(DataError, match=r"part_1.jsonl: cannot be read .*Check the path"):
        load_suite(SuiteOptions(card=card, accept_changed=True))


def test_all_that_is_wrong_is_said_at_once(own):
    bad = own(metric="harmfull", direction="up", kind="hostile", rows=[5, 5], task="boolq", template="alpacca")
    with pytest.raises(ConfigError) as error:
        load_card(bad)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{bad}: ") for line in lines)
    text = str(error.value)
    for part in (
        "metric: got 'harmfull', allowed: harmful, over_refusal, helpfulness, win_rate, multiple_choice, perplexity. "
        "Did you mean 'harmful'?",
        "kind: got 'hostile', allowed: harmful, benign",
        "rows: got [5, 5]",
        "task: names a task of lm-evaluation-harness",
        "template: got 'alpacca', allowed: alpaca, plain, chat. Did you mean 'alpaca'?",
    ):
        assert part in text
    with pytest.raises(ConfigError) as error:
        load_card(own(licens="MIT", version="one", files=[{"path": "../x", "sha256": "12"}], licence=None))
    for part in (
        "licens: unknown key. Did you mean 'licence'?",
        "version: got 'one', expected a whole number",
        "files[0].path: got '../x', allowed: a path inside the data folder",
        "files[0].sha256: got '12', allowed: 64 hexadecimal digits; run sha256sum",
        "licence: got None, expected text",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "higher"}, "direction: got 'higher', allowed for the metric harmful: lower"),
        (
            {"metric": "over_refusal"},
            "kind: got 'harmful', allowed for the metric over_refusal: benign, or harmful with",
        ),
        ({"metric": "win_rate", "direction": "higher"}, "fields.response: is missing; the metric win_rate needs"),
        ({"metric": "multiple_choice", "direction": "higher"}, "task: names a task of lm-evaluation-harness"),
        ({"files": []}, "files: is empty"),
        ({"name": "a/b", "version": 0}, "name: got 'a/b'"),
        ({"by": None, "benign_groups": ["safe"]}, "benign_groups: needs 'by'"),
    ],
)
def test_what_does_not_go_together(own, changes, message):
    with pytest.raises(ConfigError) as error:
        load_card(own(**changes))
    assert message in str(error.value)


def test_unknown_cards(tmp_path):
    with pytest.raises(ConfigError, match=r"card: got 'or_bench', allowed: advbench, .*ending in .yaml"):
        load_card("or_bench")
    with pytest.raises(ConfigError, match=r"card: .*none.yaml does not exist"):
        load_card(str(tmp_path / "none.yaml"))
