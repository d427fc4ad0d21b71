"""Prompts and rows for evaluation, from plain files or from cards."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from steerclear.data.files import read_objects
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.cards import PROMPT_METRICS, Card, card_files
from steerclear.evaluation.openings import Opening, opening_tags
from steerclear.evaluation.options import SuiteOptions
from steerclear.records import GROUP, KIND, Prompt, Row, sha256_of, to_dict, whole_prompt

logger = logging.getLogger(__name__)

ORDINARY = "ordinary"
"""Kind of the prompts of suites about usefulness: nobody would refuse them, so they would only thin out over-refusal."""

ORDINARY_METRICS = ("helpfulness", "win_rate")


def load_suite(options: SuiteOptions) -> list[Prompt]:
    """Return the prompts of a suite, in the order of its files.

    Raises:
        ConfigError: the card's metric is not about prompts.
        DataError: a file is missing, empty, malformed or not the card's, a field is missing, an id occurs twice,
            ``benign_groups`` names a group that does not occur, or no unsafe answer has more than ``prefill_words`` words.
    """
    card = options.own_card
    if card is not None:
        _check_metric(card, PROMPT_METRICS, "prompts to answer")
    found = [_prompt(*at, options, card) for at in suite_objects(options, card)]
    if not found:
        raise DataError(f"{options.path or options.card}: has no prompts.")
    prompts = [prompt for prompt in found if prompt is not None]
    _tell_left_out(len(found) - len(prompts), len(found), options)
    benign_groups = (card or options).benign_groups
    groups = {prompt.tags.get(GROUP) for prompt in prompts}
    absent = [group for group in benign_groups if group not in groups]
    if absent:
        known = ", ".join(sorted(filter(None, groups)))
        raise DataError(
            f"{options.path or options.card}: benign_groups {', '.join(absent)}: no such value of '{(card or options).by}'; "
            f"there are {known}."
        )
    chosen = sample_ids((prompt.id for prompt in prompts), options.limit)
    return [prompt for prompt in prompts if prompt.id in chosen]


def load_rows(options: SuiteOptions) -> list[Row]:
    """Return the rows of a card for perplexity or win rates: prompts with reference answers, in the order of its files.

    A reference answer may be empty; two of AlpacaEval's are.

    Raises:
        ConfigError: not a card, or the card's metric is another.
        DataError: a file is missing, malformed or not the card's, a field is missing, or an id occurs twice.
    """
    card = options.own_card
    if card is None:
        raise ConfigError(f"{options.name}: got a path, expected a card, which says where the reference answers are.")
    _check_metric(card, ("perplexity", "win_rate"), "rows with answers")
    names = card.fields
    rows = []
    for place, row_id, value in suite_objects(options, card):
        text, response = value.get(names.prompt), value.get(str(names.response))
        if not isinstance(text, str | list) or not text or not isinstance(response, str | list):
            raise DataError(
                f"{place}: no '{names.prompt}' or no '{names.response}': got the fields {', '.join(value) or 'none'}."
            )
        given = str(value.get(names.input) or "") if names.input else ""
        rows.append(Row(id=row_id, prompt=text, completion=response, label=True, source=place, input=given))
    chosen = sample_ids((row.id for row in rows), options.limit)
    return [row for row in rows if row.id in chosen]


def held_out_prompts(suites: Iterable[SuiteOptions]) -> list[Prompt]:
    """Return the prompts of suites that must not be among training rows: those to answer, and perplexity's with their inputs.

    Raises:
        SteerClearError: as `load_suite` and `load_rows`.
    """
    prompts = []
    for suite in suites:
        if suite.metric in PROMPT_METRICS:
            prompts += load_suite(suite)
        elif suite.metric == "perplexity":
            prompts += [Prompt(id=row.id, suite=suite.name, prompt=whole_prompt(row)) for row in load_rows(suite)]
    return prompts


def prompt_hashes(prompts: Iterable[Prompt]) -> dict[str, str]:
    """Return for each suite a hash of what is asked."""
    suites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for prompt in prompts:
        suites[prompt.suite].append(to_dict(prompt))
    return {name: sha256_of(asked) for name, asked in suites.items()}


def _check_metric(card: Card, metrics: tuple[str, ...], what: str) -> None:
    if card.metric not in metrics:
        raise ConfigError(f"card '{card.name}' has no {what}: its metric is {card.metric}, not {' or '.join(metrics)}.")


def suite_objects(options: SuiteOptions, card: Card | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place (``file:line``), id and value of each object of a suite: the files checked, the card's ``rows`` alone.

    Raises:
        DataError: a file is missing, malformed or not the card's, or an id occurs twice.
    """
    if card is None:
        paths, key, first, last = [Path(str(options.path))], "id", 0, None
    else:
        folder = Path(str(options.card)).parent if options.data is None else Path(options.data)
        paths, key = card_files(card, folder, accept_changed=options.accept_changed), card.fields.id
        first, last = card.rows or (0, None)
    seen: dict[str, str] = {}
    found = ((path, line, value) for path in paths for line, value in read_objects(path))
    for number, (path, line, value) in enumerate(found):
        place = f"{path}:{line}"
        name = str(value.get(key, line))
        if name in seen:
            raise DataError(f"{place}: id '{name}' occurs already in {seen[name]}. Make ids unique.")
        seen[name] = place
        if number >= first and (last is None or number < last):
            yield place, name, value


def sample_ids(ids: Iterable[str], limit: int | None) -> set[str]:
    """Return a fixed sample of ids, chosen by their hashes; smaller samples lie inside larger ones."""
    ranked = sorted(set(ids), key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[:limit])


def _prompt(place: str, name: str, value: dict[str, Any], options: SuiteOptions, card: Card | None) -> Prompt | None:
    """Return the prompt of an object; None where its unsafe answer is too short to begin an answer and leave a rest."""
    if card is None:
        own = "prompt" if "prompt" in value else "instruction"
        text, missing = value.get(own), f"text in '{own}'" if own in value else "'prompt' (or 'instruction')"
    else:
        text, missing = value.get(card.fields.prompt), f"'{card.fields.prompt}'"
    if not isinstance(text, str | list) or not text:
        raise DataError(f"{place}: no {missing}: got the fields {', '.join(value) or 'none'}.")
    form = card or options
    tags = {KIND: ORDINARY if card is not None and card.metric in ORDINARY_METRICS else form.kind}
    if form.by is not None:
        if value.get(form.by) is None:
            raise DataError(f"{place}: no '{form.by}', the field of 'by': got the fields {', '.join(value)}.")
        tags[GROUP] = str(value[form.by])
        if tags[GROUP] in form.benign_groups:
            tags[KIND] = "benign"
    if options.is_prefilled:
        begun = _opening(place, value, options, card)
        if begun is None:
            return None
        tags |= opening_tags(begun)
    return Prompt(id=name, suite=options.name, prompt=text, tags=tags)


def _opening(place: str, value: dict[str, Any], options: SuiteOptions, card: Card | None) -> str | None:
    if options.prefill is not None:
        return options.prefill
    name = str((card and card.fields.unsafe) or options.prefill_field)
    answer = value.get(name)
    if not isinstance(answer, str):
        raise DataError(
            f"{place}: no text in '{name}', the field of the unsafe answer: got the fields {', '.join(value)}."
        )
    return Opening(words=options.prefill_words).of(answer)


def _tell_left_out(count: int, total: int, options: SuiteOptions) -> None:
    if count == total:
        raise DataError(
            f"{options.path or options.card}: no unsafe answer has more than prefill_words {options.prefill_words} words, so "
            "none is left to go on with. Lower prefill_words; for text without spaces, which is one word, use prefill."
        )
    if count:
        logger.warning(
            "%s: %d of %d prompts are left out: their unsafe answers have no more than %s words.",
            options.name, count, total, options.prefill_words,
        )  # fmt: skip
