"""A judge on labelled rows: hand-worked figures, scikit-learn as oracle, and what has no value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.labelled import LabelledRow
from steerclear.judges.measures import measure_judge
from steerclear.stats.rates import Rate


@dataclass
class Scripted:
    """A judge whose answers carry their own scores."""

    name: str = "scripted-1"
    batch_size: int = 100
    threshold: float = 0.5

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        return [
            Unscored("no number") if r == "?" else HarmScore(score=float(r), flagged=float(r) >= self.threshold)
            for _, r in zip(prompts, responses, strict=True)
        ]


def rows(scores: Sequence[float | str], safe: Sequence[bool], prompts: int | None = None) -> list[LabelledRow]:
    numbers = [i % (prompts or len(scores)) for i in range(len(scores))]
    return [
        LabelledRow(id=str(i), prompt=f"p{n}", response=str(s), is_safe=ok)
        for i, (n, s, ok) in enumerate(zip(numbers, scores, safe, strict=True), start=1)
    ]


def test_by_hand():
    """Harmful 0.9, 0.8, 0.3 and harmless 0.1, 0.7: of six pairs five are in order, all but 0.3 against 0.7.

    Brier: (0.01 + 0.04 + 0.49 + 0.01 + 0.49) / 5 = 0.208. Every row is alone in its bin: |0.9 - 1| + 0.2 + 0.7 + 0.1 + 0.7 = 1.8
    over 5 is the calibration error.
    """
    measured = measure_judge(Scripted(), {"hand": rows([0.9, 0.8, 0.3, 0.1, 0.7], [False, False, False, True, True])})
    (found,) = measured.sets
    assert (measured.judge, measured.threshold, measured.identity) == ("scripted-1", 0.5, {})
    assert (found.name, found.prompts, found.unscored) == ("hand", 5, 0)
    assert found.harmful == Rate.of(3, 5)
    assert found.sensitivity == Rate.of(2, 3)
    assert found.specificity == Rate.of(1, 2)
    assert found.auroc.value == pytest.approx(5 / 6)
    assert found.balanced_accuracy.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.brier == pytest.approx(0.208)
    assert found.calibration_error == pytest.approx(0.36)
    assert [m.id for m in found.false_positives] == ["5"]
    assert [m.id for m in found.false_negatives] == ["3"]


@pytest.fixture
def large() -> tuple[np.ndarray, np.ndarray, list[LabelledRow]]:
    rng = np.random.default_rng(0)
    scores = rng.random(800)
    harmful = rng.random(800) < scores**2
    return scores, harmful, rows(scores.tolist(), (~harmful).tolist(), prompts=200)


def test_against_scikit_learn(large):
    scores, harmful, labelled = large
    found = measure_judge(Scripted(), {"large": labelled}, resamples=200).sets[0]
    assert found.auroc.value == pytest.approx(roc_auc_score(harmful, scores))
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(harmful, scores >= 0.5))
    assert found.auroc.lower < found.auroc.value < found.auroc.upper
    assert found.brier == pytest.approx(brier_score_loss(harmful, scores))
    observed, mean_score = calibration_curve(harmful, scores, n_bins=10)
    assert [b.harmful.rate for b in found.bins] == pytest.approx(observed)
    assert [b.mean_score for b in found.bins] == pytest.approx(mean_score)
    counts = [b.harmful.n for b in found.bins]
    assert sum(counts) == 800
    assert found.calibration_error == pytest.approx(np.average(abs(observed - mean_score), weights=counts))


def test_auroc_interval_is_about_hanley_and_mcneils(large):
    """Standard error of an AUROC A (Hanley and McNeil 1982), with Q1 = A / (2 - A) and Q2 = 2 A² / (1 + A)."""
    scores, harmful, labelled = large
    labelled = [replace(row, prompt=str(i)) for i, row in enumerate(labelled)]
    found = measure_judge(Scripted(), {"large": labelled}).sets[0].auroc
    a, bad, good = roc_auc_score(harmful, scores), harmful.sum(), (~harmful).sum()
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = ((a * (1 - a) + (bad - 1) * (q1 - a**2) + (good - 1) * (q2 - a**2)) / (bad * good)) ** 0.5
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * error, rel=0.15)


def test_mistakes_are_the_farthest_and_as_many_as_asked(large):
    _, _, labelled = large
    found = measure_judge(Scripted(), {"large": labelled}, mistakes=5, resamples=2).sets[0]
    assert len(found.false_positives) == len(found.false_negatives) == 5
    highest = sorted((float(r.response) for r in labelled if r.is_safe), reverse=True)[:5]
    assert [m.score for m in found.false_positives] == highest
    lowest = sorted(float(r.response) for r in labelled if not r.is_safe)[:5]
    assert [m.score for m in found.false_negatives] == lowest


def test_unscored_rows_count_beside_and_rows_keep_their_numbers():
    found = measure_judge(Scripted(), {"gaps": rows(["?", 0.9, "?", 0.8], [False, True, False, False])}).sets[0]
    assert (found.unscored, found.harmful.n) == (2, 2)
    assert [m.id for m in found.false_positives] == ["2"]


def test_scores_beyond_0_and_1_in_any_set_are_no_probabilities():
    within, beyond = rows([0.2, 0.9, 0.4], [True, False, True]), rows([-1, 3.5, 0.5], [True, False, True])
    for found in measure_judge(Scripted(), {"within": within, "beyond": beyond}, resamples=20).sets:
        assert (found.brier, found.calibration_error, found.bins) == (None, None, ())
        assert found.auroc.value == 1


@pytest.mark.parametrize(("scores", "safe"), [([], []), ([0.9], [False]), (["?", "?"], [True, False])])
def test_under_two_there_is_no_value(scores, safe):
    found = measure_judge(Scripted(), {"few": rows(scores, safe)}).sets[0]
    assert (found.brier, found.calibration_error, found.bins) == (None, None, ())
    assert found.auroc.value is found.balanced_accuracy.value is None
    assert found.sensitivity.rate is found.specificity.rate is found.harmful.rate is None


def test_one_class_has_no_ranking():
    found = measure_judge(Scripted(), {"one": rows([0.9, 0.8], [False, False])}).sets[0]
    assert found.auroc.value is found.balanced_accuracy.value is None
    assert found.sensitivity == Rate.of(2, 2)
    assert found.brier == pytest.approx(0.025)


def test_a_score_of_1_is_in_the_last_bin():
    found = measure_judge(Scripted(), {"ends": rows([0.0, 1.0, 0.1], [True, False, True])}, resamples=20).sets[0]
    assert [b.harmful.n for b in found.bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.bins[5].mean_score is None
