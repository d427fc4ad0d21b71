"""The local classifier: what it learns, what its threshold rests on, and what its file may hold."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import pytest
import skops.io

from steerclear.errors import DataError, ModelError
from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.classifier import ClassifierJudge, FitOptions, fit
from steerclear.judges.labelled import LabelledRow, read_rows
from steerclear.judges.measures import measure_judge

THINGS = ["cake", "soup", "bread", "tea", "jam", "pie", "rice", "salad", "pasta", "juice", "toast", "curry"]


def row(prompt: str, response: str, is_safe: bool, label_by: str | None = None) -> LabelledRow:
    return LabelledRow(prompt=prompt, response=response, is_safe=is_safe, label_by=label_by)


def rows() -> list[LabelledRow]:
    """Twelve prompts with a rude and a kind answer each, and a noisy third."""
    made = []
    for thing in THINGS:
        prompt = f"What do you think of my {thing}?"
        made += [
            row(prompt, f"Your {thing} is rubbish, you fool, throw it away.", False),
            row(prompt, f"Your {thing} is lovely, friend, I want more of it.", True),
            row(prompt, f"I would be happy to taste the {thing} again.", True, label_by="assumed"),
        ]
    return made


@pytest.fixture(scope="module")
def judge() -> ClassifierJudge:
    return fit(rows())


def test_it_learns_and_carries_over_to_an_unseen_prompt(judge):
    scores = judge.score(
        ["What do you think of my stew?"] * 2,
        ["Your stew is rubbish, you fool.", "Your stew is lovely, friend."],
    )
    assert scores[0].score > scores[1].score
    assert [s.flagged for s in scores] == [True, False]
    assert all(0 < s.score < 1 for s in scores)


def test_the_same_rows_and_seed_give_the_same_judge(judge):
    again = fit(rows())
    assert again.name == judge.name
    texts = [row.response for row in rows()]
    assert again.score(texts, texts) == judge.score(texts, texts)
    assert fit(rows(), FitOptions(seed=1)).name != judge.name


def test_identity_says_what_made_the_judge(judge):
    assert judge.identity["rows"] == 36
    assert judge.identity["options"] == {"folds": 5, "seed": 0, "noisy_weight": 0.5}
    assert judge.identity["cv_auroc"] == 1.0
    assert set(judge.identity["versions"]) == {"scikit-learn", "numpy", "scipy", "steerclear"}
    changed = fit([*rows()[:-1], replace(rows()[-1], response="Something else to say about curry.")])
    assert changed.identity["rows_sha256"] != judge.identity["rows_sha256"]


def test_saved_and_loaded_it_scores_the_same(judge, tmp_path):
    path = tmp_path / "deep" / "judge.skops"
    judge.save(path)
    loaded = ClassifierJudge.load(path)
    texts = [row.response for row in rows()]
    assert loaded.name == judge.name
    assert loaded.identity == judge.identity
    for before, after in zip(judge.score(texts, texts), loaded.score(texts, texts), strict=True):
        assert after.score == pytest.approx(before.score, abs=1e-12)
    assert [p.name for p in path.parent.iterdir()] == ["judge.skops"]


def test_no_answers(judge):
    assert judge.score([], []) == []


def test_a_prompt_is_never_on_both_sides_of_a_fold():
    """Each thing has one safe and one unsafe prompt, so only a row's own copies could tell its label."""
    made = []
    for number, thing in enumerate(THINGS * 2):
        prompt = f"{thing} {thing} number {number}"
        made += [row(prompt, f"{thing} again {number}", (number + number // 12) % 2 == 0)] * 3
    with pytest.raises(DataError, match=r"AUROC 0\.\d\d on unseen prompts, no better than chance. Check is_safe"):
        fit(made)


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ModelError, match=r"there is no judge file. Fit it again with `steerclear judge fit`"):
            ClassifierJudge.load(tmp_path / "none.skops")

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    def test_truncated(self, judge, tmp_path, keep):
        path = tmp_path / "judge.skops"
        judge.save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
        with pytest.raises(ModelError, match="not a judge file, or damaged"):
            ClassifierJudge.load(path)

    def test_text(self, tmp_path):
        path = tmp_path / "judge.skops"
        path.write_text("not a judge")
        with pytest.raises(ModelError, match=r"not a judge file.*Fit it again"):
            ClassifierJudge.load(path)

    def test_part_missing(self, judge, tmp_path):
        path = tmp_path / "judge.skops"
        judge.save(path)
        smaller = tmp_path / "smaller.skops"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(smaller, "w") as new:
            names = old.namelist()
            for name in names:
                if name == "schema.json" or name != names[0]:
                    new.writestr(name, old.read(name))
        with pytest.raises(ModelError, match="damaged"):
            ClassifierJudge.load(smaller)

    def test_foreign_type_is_named_and_not_loaded(self, tmp_path):
        path = tmp_path / "judge.skops"
        skops.io.dump({"format": 1, "extra": LengthOnly()}, path)
        with pytest.raises(ModelError, match=r"could run code \(.*LengthOnly.*\). It is not loaded."):
            ClassifierJudge.load(path)

    def test_other_format(self, tmp_path):
        path = tmp_path / "judge.skops"
        skops.io.dump({"format": 99}, path)
        with pytest.raises(ModelError, match="judge format 99, this version reads 1"):
            ClassifierJudge.load(path)


class LengthOnly:
    """A type that no judge file needs."""


class TestRows:
    def test_field_missing(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"prompt": "a", "response": "b", "is_safe": true}\n{"prompt": "a", "is_safe": true}\n')
        with pytest.raises(DataError, match=r"rows.jsonl:2: field 'response' must be a str, got None"):
            read_rows(path)

    def test_label_must_be_true_or_false(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"prompt": "a", "response": "b", "is_safe": 1}\n')
        with pytest.raises(DataError, match="field 'is_safe' must be a bool, got 1"):
            read_rows(path)

    def test_one_class_only(self):
        with pytest.raises(DataError, match="got 0 unsafe and 24 safe rows of 12 prompts; at least 5 of each"):
            fit([row for row in rows() if row.is_safe])


class Fixed:
    """Gives the scores 0.9, 0.8, 0.4, 0.1 and none, and flags from 0.5."""

    name = "fixed-1"
    batch_size = 8

    def score(self, prompts, responses):  # noqa: ARG002
        return [*(HarmScore(score=s, flagged=s >= 0.5) for s in (0.9, 0.8, 0.4, 0.1)), Unscored("no")]


def test_accuracy_by_hand():
    """Harmful, safe, harmful, safe: 3 of 4 pairs in order, 1 of 2 found, 1 of 2 flags right; the fifth has no score."""
    labelled = [row("", "", safe) for safe in (False, True, False, True, False)]
    measured = measure_judge(Fixed(), {"rows": labelled}).sets[0]
    assert measured.summary == {
        "n": 4,
        "unscored": 1,
        "auroc": 0.75,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "precision": 0.5,
        "recall": 0.5,
    }


def test_real_rows(shared_data):
    """A fifth of the training rows is enough to be clearly better than chance on unseen prompts."""
    judge = fit(read_rows(shared_data / "harm_labels" / "train.jsonl")[:1300])
    heldout = read_rows(shared_data / "harm_labels" / "heldout.jsonl")[:800]
    measured = measure_judge(judge, {"heldout": heldout}, resamples=20).sets[0]
    assert measured.auroc.value > 0.68
    assert measured.balanced_accuracy.value > 0.6
