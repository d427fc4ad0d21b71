"""What an attack asks: the behaviors as the attacked model reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steerclear.attacks.behaviors import Behavior
from steerclear.attacks.cards import REQUEST, AttackCard
from steerclear.attacks.tags import ASKED, SHOTS
from steerclear.attacks.transforms import transform_of
from steerclear.data.templates import begin_answer, render_prompt
from steerclear.errors import ConfigError, DataError
from steerclear.evaluation.openings import opening_tags
from steerclear.records import Messages, Prompt, Row, flat_text, text_of

Rendered = str | Messages


@dataclass(frozen=True)
class Reader:
    """How the attacked model reads."""

    template: str
    """Template of its prompts, one of `steerclear.data.templates.TEMPLATES`."""
    tokenizer: Any | None = None
    """None: it is behind an endpoint."""
    room: Callable[[Rendered], int] | None = None
    """Tokens that are left in the context beside what is read and the answer. None: not known."""


def ask(
    name: str, card: AttackCard, behaviors: Sequence[Behavior], reader: Reader, shots: Sequence[Row] = ()
) -> list[tuple[Prompt, Rendered]]:
    """Return each behavior's prompt with what the model reads, but for those whose unsafe answer is too short for the opening.

    Args:
        name: the attack's name, which becomes the prompts' suite.
        shots: rows that faked exchanges are made of.

    Raises:
        ConfigError: openings by tokens and no tokenizer.
        DataError: the card takes openings, and no behavior has an unsafe answer that is long enough.
    """
    asked = []
    opening = card.opening
    if card.opening_tokens is not None and reader.tokenizer is None:
        raise ConfigError(f"attack '{card.name}': opening_tokens needs a local model. Set opening_words instead.")
    for behavior in behaviors:
        begun = None if opening is None else opening.of(behavior.answer, reader.tokenizer)
        if opening is None or begun is not None:
            asked.append(_ask(name, card, behavior, reader, begun, shots))
    if not asked:
        raise DataError(
            f"attack '{name}': no behavior has an unsafe answer that is longer than the opening. Set behaviors' answer_field or "
            "openings_from, or take fewer words."
        )
    return asked


def _ask(
    name: str, card: AttackCard, behavior: Behavior, reader: Reader, opening: str | None, shots: Sequence[Row]
) -> tuple[Prompt, Rendered]:
    request = text_of(behavior.prompt.prompt)
    written = transform_of(card.transform)(request) if card.transform else request
    said = card.template.replace(REQUEST, written)
    tags = dict(behavior.prompt.tags)
    if said != request:
        tags[ASKED] = said
    if opening is not None:
        tags |= opening_tags(opening)

    def rendered(rows: Sequence[Row]) -> Rendered:
        whole = _conversation(card.system, rows, said, reader.template)
        return whole if opening is None else begin_answer(whole, opening)

    chosen = _fitting(_shots_for(behavior, shots, card.shots), rendered, reader)
    if card.shots:
        tags[SHOTS] = str(len(chosen))
    return Prompt(id=behavior.prompt.id, suite=name, prompt=behavior.prompt.prompt, tags=tags), rendered(chosen)


def _conversation(system: str | None, rows: Sequence[Row], said: str, template: str) -> Rendered:
    """Return system message, faked exchanges and request as one conversation, or as one text."""
    if template == "chat":
        turns: Messages = [{"role": "system", "content": system}] if system else []
        for row in rows:
            turns += [
                {"role": "user", "content": flat_text(row.prompt)},
                {"role": "assistant", "content": flat_text(row.completion)},
            ]
        return [*turns, {"role": "user", "content": said}]
    parts = [f"{system}\n\n"] if system else []
    parts += [
        f"{render_prompt(flat_text(row.prompt), row.input, template)}{flat_text(row.completion)}\n\n" for row in rows
    ]
    return "".join([*parts, str(render_prompt(said, "", template))])


def _shots_for(behavior: Behavior, rows: Sequence[Row], count: int) -> list[Row]:
    """Return so many rows, in an order that is the behavior's own and always the same; never one that asks for it."""
    own = text_of(behavior.prompt.prompt).strip().lower()
    others = [row for row in rows if flat_text(row.prompt).strip().lower() != own]
    return sorted(others, key=lambda row: hashlib.sha256(f"{behavior.prompt.id}\0{row.id}".encode()).digest())[:count]


def _fitting(rows: list[Row], rendered: Callable[[Sequence[Row]], Rendered], reader: Reader) -> list[Row]:
    """Return as many of the first rows as the context holds, one at least."""
    if reader.room is None or not rows:
        return rows
    fits, too_many = 1, len(rows) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if reader.room(rendered(rows[:middle])) >= 0 else (fits, middle)
    return rows[:fits]
