"""The cross-fitted judge: no classifier rules on a prompt that it was fitted on, and a kill costs one fit at most."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data.near_duplicates import group_near
from steerclear.errors import ConfigError, DataError
from steerclear.judges import cross_fitted
from steerclear.judges.base import HarmJudge, score_each
from steerclear.judges.cache import CachedJudge
from steerclear.judges.classifier import ClassifierJudge, FitOptions
from steerclear.judges.cross_fitted import CrossFittedJudge, fit_cross, fold_of
from steerclear.judges.labelled import LabelledRow, rows_hash

THINGS = ["cake", "soup", "bread", "tea", "jam", "pie", "rice", "salad", "pasta", "juice", "toast", "curry"]
UNSEEN = [f"Do you like {name}?" for name in ("Ann", "Bob", "Cy", "Dee", "Eve")]


def prompt_of(thing: str) -> str:
    return f"What do you think of my {thing}?"


def rows() -> list[LabelledRow]:
    made = []
    for thing in THINGS:
        for response, is_safe in (
            (f"Your {thing} is rubbish, you fool, throw it away.", False),
            (f"Your {thing} is lovely, friend, I want more of it.", True),
        ):
            made.append(LabelledRow(prompt=prompt_of(thing), response=response, is_safe=is_safe))
    return made


def groups() -> dict[str, str]:
    return {prompt: prompt for prompt in [*map(prompt_of, THINGS), *UNSEEN]}


OPTIONS = FitOptions(folds=2)


@functools.cache
def fitted() -> CrossFittedJudge:
    return fit_cross(rows(), groups(), folds=3, options=OPTIONS)


def fitted_on(judge: ClassifierJudge, fold: int, all_rows: list[LabelledRow], own: dict[str, str]) -> set[str]:
    """The prompts that a classifier was fitted on, proven by the hash of its rows."""
    others = [row for row in all_rows if fold_of(own[row.prompt], 3) != fold]
    assert judge.identity["rows_sha256"] == rows_hash(others)
    return {row.prompt for row in others}


def test_it_is_a_harm_judge_that_scores_as_its_classifiers_do() -> None:
    judge: HarmJudge = fitted()
    prompts = [prompt_of(thing) for thing in THINGS] + UNSEEN
    answers = [f"{number} is rubbish, you fool." for number in range(len(prompts))]
    scores = score_each(judge, prompts, answers)
    alone = [
        fitted().classifiers[fitted().fold(prompt)].score([prompt], [answer])[0]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    assert scores == alone
    assert len({fitted().fold(prompt) for prompt in prompts}) == 3
    assert judge.score([], []) == []


@settings(deadline=None)
@given(st.sampled_from(THINGS), st.sampled_from(["Rubbish.", "Lovely, friend.", ""]))
def test_the_classifier_that_rules_has_none_of_the_prompts_rows(thing: str, answer: str) -> None:
    judge, prompt = fitted(), prompt_of(thing)
    asked: list[int] = []
    spies = [_Spy(classifier, asked, number) for number, classifier in enumerate(judge.classifiers)]
    CrossFittedJudge(spies, judge.groups).score([prompt], [answer])  # type: ignore[arg-type]
    (fold,) = asked
    assert prompt not in fitted_on(judge.classifiers[fold], fold, rows(), judge.groups)


class _Spy:
    def __init__(self, judge: ClassifierJudge, asked: list[int], number: int) -> None:
        self.judge, self.asked, self.number = judge, asked, number
        self.identity = judge.identity

    def score(self, prompts: list[str], responses: list[str]) -> Any:
        self.asked.append(self.number)
        return self.judge.score(prompts, responses)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=2), min_size=1, max_size=30),
    st.integers(2, 6),
)
def test_a_group_is_never_torn_apart(own: dict[str, str], folds: int) -> None:
    judge = CrossFittedJudge([fitted().classifiers[0]] * folds, own)
    seen = {group: {judge.fold(prompt) for prompt in own if own[prompt] == group} for group in own.values()}
    assert all(len(places) == 1 and places <= set(range(folds)) for places in seen.values())


def test_a_near_duplicate_goes_with_the_prompt_that_was_fitted_on() -> None:
    near = "What do you think of my cakes?"
    own = group_near([*map(prompt_of, THINGS), near, *UNSEEN], 0.8)
    assert own[near] == own[prompt_of("cake")] != own[prompt_of("soup")]
    judge = fit_cross(rows(), own, folds=3, options=OPTIONS)
    fold = judge.fold(near)
    assert prompt_of("cake") not in fitted_on(judge.classifiers[fold], fold, rows(), own)


def test_a_prompt_that_nobody_grouped_is_an_error() -> None:
    with pytest.raises(DataError, match="a prompt that was not among those grouped before the fit"):
        score_each(fitted(), ["Another?"], ["Yes."])
    with pytest.raises(DataError, match="24 of 24 have a prompt without a group"):
        fit_cross(rows(), {}, folds=3, options=OPTIONS)


def test_one_fold_is_too_few() -> None:
    with pytest.raises(ConfigError, match="folds: got 1, allowed: 2 or more"):
        fit_cross(rows(), groups(), folds=1)


def test_the_name_follows_all_that_changes_scores() -> None:
    judge = fitted()
    assert judge.name == fit_cross(rows(), groups(), folds=3, options=OPTIONS).name
    moved = {**groups(), UNSEEN[0]: prompt_of("cake")}
    assert CrossFittedJudge(judge.classifiers, moved).name != judge.name
    assert CrossFittedJudge(judge.classifiers[::-1], groups()).name != judge.name


def test_what_is_fitted_is_kept_and_a_kill_costs_one_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counter(fail_at=3)
    monkeypatch.setattr(cross_fitted, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        fit_cross(rows(), groups(), folds=3, options=OPTIONS, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-1-of-3.skops", "fold-2-of-3.skops"]
    judge = fit_cross(rows(), groups(), folds=3, options=OPTIONS, folder=tmp_path)
    assert counted.calls == 4
    again = fit_cross(rows(), groups(), folds=3, options=OPTIONS, folder=tmp_path)
    assert counted.calls == 4
    assert again.name == judge.name == fitted().name
    prompts = [prompt_of(thing) for thing in THINGS]
    assert again.score(prompts, prompts) == fitted().score(prompts, prompts)


class _Counter:
    def __init__(self, fail_at: int = 0) -> None:
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, *arguments: Any) -> ClassifierJudge:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return fit(*arguments)


fit = cross_fitted.fit


def test_a_file_of_other_rows_or_options_or_a_damaged_one_is_fitted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = _Counter()
    monkeypatch.setattr(cross_fitted, "fit", counted)
    keep = functools.partial(fit_cross, folds=3, folder=tmp_path)
    keep(rows(), groups(), options=OPTIONS)
    changed = rows()
    changed[0] = replace(changed[0], response=changed[0].response + "!")
    keep(changed, groups(), options=OPTIONS)
    assert counted.calls == 3 + 2  # the fold without that prompt has the same rows as before
    keep(changed, groups(), options=FitOptions(folds=2, seed=1))
    assert counted.calls == 5 + 3
    (tmp_path / "fold-2-of-3.skops").write_bytes(b"PK damaged")
    keep(changed, groups(), options=FitOptions(folds=2, seed=1))
    assert counted.calls == 8 + 1


def test_its_scores_are_cached_under_its_name(tmp_path: Path) -> None:
    cached = CachedJudge(fitted(), tmp_path)
    prompt = prompt_of("cake")
    assert cached.score([prompt], ["Rubbish."]) == fitted().score([prompt], ["Rubbish."])
    assert cached.file.name == f"{fitted().name}.jsonl"
