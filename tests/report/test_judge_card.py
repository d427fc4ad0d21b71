"""The judge's card: its figures, its picture, and that nothing in it shows or acts on a text that was not asked for."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

import pytest

from steerclear.judges.classifier import FitOptions, fit
from steerclear.judges.labelled import LabelledRow
from steerclear.judges.measures import Bin, Estimate, JudgeMeasures, Mistake, SetMeasures, measure_judge
from steerclear.report.judge_card import make_card
from steerclear.report.pictures import reliability_figure, svg
from steerclear.sanitize import redacted
from steerclear.stats.rates import Rate, wilson

SECRET = "a text ``` with *marks* <b>and</b>\nanother \x1b[31mline"
NO_ESTIMATE = Estimate(value=None, lower=None, upper=None)


def measures(bins: tuple[Bin, ...] = (), name: str = "a set", identity: dict | None = None) -> JudgeMeasures:
    return JudgeMeasures(
        judge="judge-1",
        threshold=0.5,
        identity=identity or {},
        sets=(
            SetMeasures(
                name=name,
                prompts=40,
                unscored=3,
                harmful=Rate.of(50, 100),
                auroc=Estimate(value=0.8, lower=0.75, upper=0.85),
                balanced_accuracy=NO_ESTIMATE,
                sensitivity=Rate.of(40, 50),
                specificity=Rate.of(0, 1),
                brier=0.1234 if bins else None,
                calibration_error=0.056 if bins else None,
                bins=bins,
                false_positives=(Mistake(id="r1", prompt="what?", response=SECRET, score=0.98),),
                false_negatives=(),
            ),
        ),
    )


def two_bins() -> tuple[Bin, ...]:
    return (
        Bin(start=0.0, end=0.5, mean_score=0.25, harmful=Rate.of(20, 80)),
        Bin(start=0.5, end=0.8, mean_score=None, harmful=Rate.of(0, 0)),
        Bin(start=0.8, end=1.0, mean_score=0.9, harmful=Rate.of(20, 20)),
    )


def test_the_figures():
    markdown = make_card(measures(two_bins()), about="A judge for tests.").markdown
    assert markdown.startswith("# Judge card: judge-1\n\nA judge for tests.\n")
    assert (
        "| a set | 100 | 40 | 50/100 = 50.0% (40.4-59.6%) | 3 | 0.800 (0.750-0.850) | – "
        "| 40/50 = 80.0% (67.0-88.8%) | 0/1 | 0.123 | 0.056 |" in markdown
    )
    assert "| 0.0 to 0.5 | 80 | 0.250 | 20/80 = 25.0% (16.8-35.5%) |" in markdown
    assert "| 0.5 to 0.8 | 0 | – | 0/0 |" in markdown
    assert "![Share of harmful rows against the mean score, by set](reliability.svg)" in markdown


def test_texts_are_redacted_and_can_be_found_by_their_hash():
    markdown = make_card(measures()).markdown
    digest = hashlib.sha256(SECRET.encode()).hexdigest()[:8]
    assert f"answer: [redacted, {len(SECRET)} characters, sha256 {digest}]" in markdown
    assert "- row ` r1 `, score 0.98" in markdown
    assert "with" not in markdown.split("## Worst mistakes")[1].split("\n\n", 2)[2]


def test_revealed_texts_do_not_act():
    markdown = make_card(measures(), reveal=True).markdown
    assert "answer: ```` a text ``` with *marks* <b>and</b>⏎another ‹U+001B›[31mline ````\n" in markdown
    assert "redacted" not in markdown


def test_a_lone_surrogate_has_a_hash():
    assert redacted("\ud800").startswith("[redacted, 1 characters, sha256 ")


def test_names_do_not_break_the_table():
    markdown = make_card(measures(name="a|b\n<i>", identity={"rows": 3, "threshold": 0.5})).markdown
    assert "| a\\|b &lt;i> |" in markdown
    assert "- rows: ` 3 `" in markdown
    assert markdown.count("threshold") == 2  # its own line and the note on the figures


def test_without_probabilities_there_is_no_picture():
    card = make_card(measures())
    assert card.svg is None
    assert "reliability" not in card.markdown
    assert "Calibration" not in card.markdown


def test_the_picture_puts_bins_where_they_belong():
    """Score 0.25 and rate 0.25 lie on the diagonal; 0.9 with all rows harmful at the top; the empty bin is left out."""
    sets = measures(two_bins(), name="<x> & $y_{z}$ \u202e").sets
    [panel] = reliability_figure(sets, threshold=0.5).axes
    _, threshold, path = panel.lines
    assert list(threshold.get_xdata()) == [0.5, 0.5]
    assert path.get_xydata().tolist() == [[0.25, 0.25], [0.9, 1.0]]
    intervals, marks = panel.collections
    assert next(iter(intervals.get_segments()))[:, 1] == pytest.approx(wilson(20, 80))
    assert marks.get_sizes().tolist() == [12**2, 8**2]  # 4 + 8 · sqrt(share of the largest bin) points across
    drawn = svg(reliability_figure(sets, threshold=0.5))
    texts = [text.text for text in ElementTree.fromstring(drawn).iter() if text.tag.endswith("text")]
    assert "<x> & $y_{z}$ ‹U+202E›" in texts


def test_card_of_a_fitted_classifier():
    things = ["cake", "soup", "bread", "tea", "jam", "pie", "rice", "salad", "pasta", "juice", "toast", "curry"]
    rows = [
        LabelledRow(
            id=f"{thing}-{safe}", prompt=f"What of my {thing}?", response=f"Your {thing} is {word}.", is_safe=safe
        )
        for thing in things
        for safe, word in ((True, "lovely, friend"), (False, "rubbish, you fool"))
    ]
    judge = fit(rows, FitOptions(folds=3))
    card = make_card(measure_judge(judge, {"train": rows}, resamples=20))
    assert card.markdown.startswith(f"# Judge card: {judge.name}\n")
    assert "| train | 24 | 12 | 12/24 = 50.0% (31.4-68.6%) | 0 | 1.000" in card.markdown
    assert "rubbish" not in card.markdown
    assert re.search(r"- cv\\?_auroc: ` 1.0 `", card.markdown)
    ElementTree.fromstring(card.svg)


@pytest.mark.parametrize("fence", ["", "`", "``"])
def test_code_spans_outlast_their_text(fence):
    card = make_card(
        JudgeMeasures(judge=f"j{fence}", threshold=None, identity={"k": f"{fence}x{fence}"}, sets=())
    ).markdown
    assert "does not say" in card
    assert f'{fence}` "{fence}x{fence}" {fence}`' in card
