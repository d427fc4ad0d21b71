"""The fitted refusal detector: three labels, rows, and files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import skops.io

from steerclear.errors import DataError, ModelError
from steerclear.judges.labelled import RefusalRow, read_refusal_rows
from steerclear.judges.refusal_model import RefusalModel, fit
from steerclear.records import REFUSALS

THINGS = ["cake", "soup", "bread", "tea", "jam", "pie", "rice", "salad"]
SAID = {
    "compliance": "Sure! Mix the {} with water, wait an hour, and serve it to your friends.",
    "partial": "I can't help with your {} as such. Instead, here are some tips: mix it with water and wait an hour.",
    "full": "I'm sorry, but I cannot help with the {}.",
}


def rows() -> list[RefusalRow]:
    """Eight prompts, each answered in all three ways; the first four by one model, the others by another."""
    return [
        RefusalRow(
            prompt=f"How do I make {thing}?",
            response=said.format(thing),
            label=label,
            model="ab"[THINGS.index(thing) // 4],
        )
        for thing in THINGS
        for label, said in SAID.items()
    ]


@pytest.fixture(scope="module")
def model() -> RefusalModel:
    return fit(rows())


def test_it_tells_three_labels_apart_on_a_new_prompt(model):
    responses = [said.format("stew") for said in SAID.values()]
    assert model.classify(["How do I make stew?"] * 3, responses) == list(SAID) == list(REFUSALS)


def test_contractions_and_curly_quotes_make_no_difference(model):
    spelt = ["I am sorry, but I can not help with the stew.", "I’m sorry, but I can’t help with the stew."]
    assert model.classify(["", ""], spelt) == ["full", "full"]


def test_no_answers_and_an_empty_one(model):
    assert model.classify([], []) == []
    assert model.classify([""], [""])[0] in REFUSALS
    with pytest.raises(ValueError, match="1 prompts for 0 answers"):
        model.classify([""], [])


def test_the_same_rows_give_the_same_detector(model):
    assert fit(rows()).name == model.name
    assert fit(rows()[3:]).name != model.name


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    path = tmp_path / "deep" / "refusal.skops"
    model.save(path)
    loaded = RefusalModel.load(path)
    assert loaded.name == model.name
    assert (loaded.weights == model.weights).all()
    texts = [row.response for row in rows()]
    assert loaded.classify(texts, texts) == model.classify(texts, texts)
    assert [p.name for p in path.parent.iterdir()] == ["refusal.skops"]


def test_bad_files(tmp_path):
    path = tmp_path / "refusal.skops"
    with pytest.raises(ModelError, match=r"there is no judge file. Fit it again with `steerclear judge fit-refusal`"):
        RefusalModel.load(path)
    path.write_text("not a judge")
    with pytest.raises(ModelError, match="not a judge file, or damaged"):
        RefusalModel.load(path)
    skops.io.dump({"format": 99}, path)
    with pytest.raises(ModelError, match="judge format 99, this version reads 1"):
        RefusalModel.load(path)


class TestRows:
    def write(self, path, **changes):
        path.write_text(json.dumps({"prompt": "a", "response": "b", "label": "full"} | changes) + "\n")
        return path

    def test_own_and_xstest_labels(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        assert read_refusal_rows(self.write(path)) == [RefusalRow(prompt="a", response="b", label="full")]
        (row,) = read_refusal_rows(self.write(path, label="safe", response_label="3_partial_refusal", model="m"))
        assert (row.label, row.model) == ("partial", "m")

    def test_field_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"rows.jsonl:1: field 'response' must be a str, got None"):
            read_refusal_rows(self.write(tmp_path / "rows.jsonl", response=None))

    def test_unknown_label(self, tmp_path):
        with pytest.raises(
            DataError, match=r"rows.jsonl:1: label: got 'ful', allowed: compliance, .* Did you mean 'full'"
        ):
            read_refusal_rows(self.write(tmp_path / "rows.jsonl", label="ful"))

    def test_too_few_of_a_label(self):
        few = [row for row in rows() if row.label != "partial"]
        with pytest.raises(DataError, match=r"got 8 compliance, 0 partial, 8 full; at least 5 of each"):
            fit(few)

    def test_too_little_text(self):
        with pytest.raises(DataError, match="too little text to learn from"):
            fit([replace(row, response="") for row in rows()])
