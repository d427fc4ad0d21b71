"""What is asked of a model, who judges its answers, and who compares them. Nothing heavy: recipes are read without it."""

from __future__ import annotations

from dataclasses import dataclass, field

from steerclear.config import raise_all
from steerclear.endpoint.options import EndpointOptions
from steerclear.errors import ConfigError, one_of
from steerclear.evaluation.cards import KINDS, Card, is_card_file, load_card
from steerclear.evaluation.openings import text_problems
from steerclear.generation.options import GenerationOptions
from steerclear.judges.options import JudgesOptions


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """A suite: a file of evaluation prompts, or a card."""

    name: str = ""
    """Name in tables and of the answers' file. Empty: the card's, and after it ``-opening`` or ``-5-words`` if prefilled."""
    path: str | None = None
    """JSONL, or JSON with a list: each object has ``prompt`` (or ``instruction``) and optionally ``id``."""
    card: str | None = None
    """In place of ``path``: name of a card that comes with the package, or the file of your own, ending in ``.yaml``."""
    data: str | None = None
    """Folder that the card's files are relative to. None: the folder of your own card's file."""
    by: str | None = None
    """Field whose values make groups with rates of their own, such as ``benchmark``."""
    kind: str = "harmful"
    """``harmful``: a safe model should not do what is asked. ``benign``: it should; refusing is over-refusal."""
    benign_groups: list[str] = field(default_factory=list)
    """Groups of ``by`` whose prompts are benign although the suite is not, such as XSTest's ``safe``."""
    limit: int | None = None
    """Ask a fixed sample of so many prompts; smaller samples lie inside larger ones."""
    accept_changed: bool = False
    """Take files whose bytes are not those of the card. The figures are then not the card's."""
    prefill: str | None = None
    """Begin every answer with these words, such as ``Sure, here is``. What comes after them is judged."""
    prefill_field: str | None = None
    """In place of ``prefill``: begin with the first ``prefill_words`` of the unsafe answer in this field. A card may name its own
    (``fields.unsafe``)."""
    prefill_words: int | None = None
    """How many words, parted by white space. A prompt whose unsafe answer has no more than these is left out."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.card is None):
            raise ConfigError("path, card: give one of the two: a file of prompts, or a card.")
        if self.card is not None:
            self._check_card(self.card)
        elif self.data is not None or self.accept_changed:
            raise ConfigError("data, accept_changed: only for a card; a path stands for itself.")
        if self.kind not in KINDS:
            raise ConfigError(one_of("kind", self.kind, KINDS))
        if self.is_prefilled:
            self._check_prefill()
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, allowed: 1 or more, or null for all.")
        if self.benign_groups and self.by is None:
            raise ConfigError("benign_groups: needs 'by', the field that names the group.")
        if not self.name or "/" in self.name:
            raise ConfigError(f"name: got {self.name!r}, allowed: a file name without slashes.")

    def _check_card(self, named: str) -> None:
        if self.by is not None or self.kind != "harmful" or self.benign_groups:
            raise ConfigError(
                "by, kind, benign_groups: are the card's own; leave them out, or copy the card and change the copy."
            )
        card = load_card(named)
        if self.data is None and not is_card_file(named):
            raise ConfigError(f"data: is missing; name the folder that {card.files[0].path} lies in.")
        if not self.name:
            object.__setattr__(self, "name", self._card_name(card))

    def _check_prefill(self) -> None:
        asked = self.own_card or self
        own = asked.fields.unsafe if isinstance(asked, Card) else None
        field, words = self.prefill_field, self.prefill_words
        by_field = field is not None or words is not None
        checks = [
            (
                self.prefill is None or not by_field,
                "prefill, prefill_field: give one of the two: a fixed opening, or the field of an answer with prefill_words.",
            ),
            (
                field is None or own is None,
                f"prefill_field: is the card's own ('{own}'); leave it out, or copy the card and change the copy.",
            ),
            (
                not by_field or field is not None or own is not None,
                "prefill_field: is missing; name the field of the unsafe answer that the words come from.",
            ),
            (
                not by_field or (words is not None and words >= 1),
                f"prefill_words: got {words}, allowed: 1 or more words of the unsafe answer.",
            ),
            (
                asked.metric == "harmful" and asked.kind == "harmful" and not asked.benign_groups,
                "prefill, prefill_field: only for suites whose prompts are all harmful.",
            ),
        ]
        raise_all([message for right, message in checks if not right] + text_problems(self.prefill))

    def _card_name(self, card: Card) -> str:
        if self.prefill is not None:
            return f"{card.name}-opening"
        return card.name if self.prefill_words is None else f"{card.name}-{self.prefill_words}-words"

    @property
    def is_prefilled(self) -> bool:
        """Whether the answers are begun by the attacker."""
        return any(given is not None for given in (self.prefill, self.prefill_field, self.prefill_words))

    @property
    def own_card(self) -> Card | None:
        """The card that is named, read. None: a plain file."""
        return None if self.card is None else load_card(self.card)

    @property
    def template(self) -> str | None:
        """The card's template. None: the recipe's."""
        card = self.own_card
        return None if card is None else card.template

    @property
    def metric(self) -> str:
        """The card's metric; for a plain file ``harmful``, or ``over_refusal`` where all its prompts are benign."""
        card = self.own_card
        if card is not None:
            return card.metric
        return "harmful" if self.kind == "harmful" else "over_refusal"


@dataclass(frozen=True, kw_only=True)
class AlpacaEvalOptions:
    """Win rate against the outputs of another model."""

    reference: str
    """JSON or JSONL of the reference's outputs, in alpaca_eval's format: ``instruction``, ``output``, ``generator``."""
    template: str | None = None
    """Text file with ``{instruction}``, ``{output_1}`` and ``{output_2}``; alpaca_eval's templates fit. Null for our own."""
    labels: list[str] = field(default_factory=lambda: ["1", "2"])
    """What the template has the annotator call the first and the second output."""
    max_tokens: int = 64
    """Limit of an answer. A label needs a few tokens, alpaca_eval's ranking about 50, a reasoning model many more."""
    temperature: float | None = 0.0
    """Null leaves it to the server; some models take no other."""
    logprobs: int | None = None
    """Weigh the labels by the log-probabilities of so many of the likeliest first tokens, where the server gives them."""
    both_orders: bool = True
    """Ask each pair twice, with the outputs in either order, and take the mean."""
    seed: int = 0
    """Draws the order of each pair where it is asked once."""
    limit: int | None = None
    """Compare a fixed sample of so many pairs; smaller samples lie inside larger ones."""

    def __post_init__(self) -> None:
        if len(self.labels) != 2 or len(set(self.labels)) != 2 or not all(self.labels):
            raise ConfigError(f"labels: got {self.labels}, allowed: two different texts, such as ['1', '2'].")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, allowed: 1 or more, or null for all.")


@dataclass(frozen=True, kw_only=True)
class WinRateOptions:
    """Win rate of the answers to the suites of that metric, such as ``{card: alpaca_eval}``."""

    annotator: EndpointOptions
    """The chat model that compares."""
    comparison: AlpacaEvalOptions
    """Against what, and how it is asked."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(JudgesOptions):
    """What is asked after training, and who judges the answers."""

    suites: list[SuiteOptions] = field(default_factory=list)
    """Prompt files and cards. None, and no attacks: training ends without an evaluation."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the answers are decoded."""
    win_rate: WinRateOptions | None = None
    """Who compares answers with a reference. None: answers are only written."""
    every_steps: int | None = None
    """Evaluate during training too, every so many steps."""

    def __post_init__(self) -> None:
        problems = []
        if self.every_steps is not None and self.every_steps < 1:
            problems.append(f"every_steps: got {self.every_steps}, allowed: 1 or more, or null for the end only.")
        names = [suite.name for suite in self.suites]
        problems += [
            f"suites: two are called '{name}'. Give one a name."
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        raise_all(problems + self.judge_problems())
