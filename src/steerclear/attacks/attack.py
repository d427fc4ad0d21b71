"""Attacks on one model: each is asked, judged and counted into the model's folder, and continued where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from steerclear.attacks.asking import Reader, Rendered, ask
from steerclear.attacks.behaviors import Behavior, load_behaviors, with_answers
from steerclear.attacks.cards import AttackCard, load_attack
from steerclear.attacks.figures import ATTACKS, AttackFigures, PairFigures, attack_figures, behavior_of
from steerclear.attacks.fine_tuning import answer_after_fine_tuning, attackers_rows, identity
from steerclear.attacks.options import AttackOptions, AttacksOptions, FineTuningOptions, PairAttackOptions
from steerclear.attacks.pair import DECODING, PairBehavior, pair
from steerclear.attacks.positions import TOKENS, WORDS, first_harmful, position_figures
from steerclear.attacks.tags import GOAL
from steerclear.attacks.transforms import readable
from steerclear.data.sources import read_source
from steerclear.errors import ConfigError, DataError, Log
from steerclear.evaluation.targets import EvalTarget
from steerclear.generation.chat import chat_model_identity, open_chat_model
from steerclear.generation.model import Model
from steerclear.generation.options import GenerationOptions
from steerclear.judges.opening import Judges
from steerclear.judges.verdicts import judge_generations
from steerclear.records import (
    SCHEMA_VERSION,
    Generation,
    Prompt,
    Row,
    Verdict,
    sha256_of,
    sha256_of_file,
    write_json,
    write_jsonl,
)
from steerclear.stats.rates import CONFIDENCE
from steerclear.training.options import TrainingSetup

Kind = TypeVar("Kind")
Attack = AttackOptions | FineTuningOptions | PairAttackOptions


@dataclass(frozen=True)
class _Attacked:
    """A model that is attacked, with all that the attacks share."""

    options: AttacksOptions
    target: EvalTarget
    model: Model
    judges: Judges
    setup: TrainingSetup
    behaviors: Sequence[Behavior]
    reader: Reader
    folder: Path
    log: Log

    @property
    def generation(self) -> GenerationOptions:
        """How the model's answers are decoded."""
        return _given(self.options.generation)


def attack_model(
    options: AttacksOptions, target: EvalTarget, model: Model, judges: Judges, setup: TrainingSetup, log: Log
) -> dict[str, AttackFigures]:
    """Attack a model, and return each attack's figures.

    `ATTACKS` in the target's folder holds them: ``{"goals": n, "goals_sha256": ..., "confidence": 0.95, "attacks": {name:
    figures}}``. It is written after each attack, and answers as soon as they are there: a killed run continues where it was.

    Args:
        options: `AttacksOptions.resolved`.
        target: what is attacked, with the folder of its results.
        model: the target, opened.
        judges: who decides what a success is.
        setup: what the target was trained by, for attacks that fine-tune it.

    Raises:
        SteerClearError: a file is missing or wrong, a model or an endpoint fails; what was finished is kept.
    """
    behaviors = behaviors_of(options)
    attacked = _Attacked(
        options=options,
        target=target,
        model=model,
        judges=judges,
        setup=setup,
        behaviors=behaviors,
        reader=_reader(options, model, setup.data.template),
        folder=target.folder / "attacks",
        log=log,
    )
    about = {
        "schema": SCHEMA_VERSION,
        "goals": len(behaviors),
        "goals_sha256": behaviors_hash(behaviors),
        "confidence": CONFIDENCE,
    }
    found: dict[str, AttackFigures] = {}
    for name, attack in _attacks(attacked):
        log(f"{target.name}: attack '{name}' ...")
        found[name] = attack()
        attacks = {name: figures.to_json() for name, figures in found.items()}
        write_json(target.folder / ATTACKS, about | {"attacks": attacks})
    return found


def _given(value: Kind | None) -> Kind:
    assert value is not None, "AttacksOptions.resolved gives it"
    return value


def behaviors_of(options: AttacksOptions) -> list[Behavior]:
    """Return the behaviors of a recipe's attacks.

    Raises:
        SteerClearError: their file is missing or wrong.
    """
    return load_behaviors(options.behaviors, options.answer_field, options.by)


def check_attacks(options: AttacksOptions, *, is_served: bool) -> None:
    """Find what keeps attacks from being tried before anything is asked.

    Args:
        is_served: what is attacked is behind an endpoint.

    Raises:
        ConfigError: a file is missing or wrong, or what is attacked is out of an attack's reach.
    """
    behaviors = behaviors_of(options)
    for attack in options.cards:
        if attack.openings_from is not None:
            with_answers(behaviors, Path(attack.openings_from))
        if attack.shots_from is not None:
            _shots(attack)
    for tuning in options.fine_tuning:
        attackers_rows(tuning)
    if is_served:
        local = [attack.name for attack in options.cards if attack.changed(load_attack(attack.card)).opening_tokens]
        local += [tuning.name for tuning in options.fine_tuning]
        if local:
            raise ConfigError(
                f"evaluation.attacks: {', '.join(local)}: need a local model, and model.endpoint is served. Leave them out."
            )


def _shots(attack: AttackOptions) -> list[Row]:
    rows = read_source(str(attack.shots_from), "unsafe").rows
    if not rows:
        raise DataError(
            f"attack '{attack.name}': {attack.shots_from} has no unsafe rows to make exchanges of. Name other rows."
        )
    return rows


def most_answers(options: AttacksOptions) -> tuple[int, int]:
    """Return how many behaviors there are, and how many answers the attacked model gives to them at most.

    Raises:
        SteerClearError: the behaviors' file is missing or wrong.
    """
    behaviors = len(behaviors_of(options))
    each = len(options.fine_tuning)
    each += sum(attack.changed(load_attack(attack.card)).samples for attack in options.cards)
    each += options.pair.streams * options.pair.iterations if options.pair is not None else 0
    return behaviors, behaviors * each


def behaviors_hash(behaviors: Sequence[Behavior]) -> str:
    """Return a hash of what the behaviors are."""
    return sha256_of([[behavior.prompt.id, behavior.prompt.prompt] for behavior in behaviors])


def _reader(options: AttacksOptions, model: Model, template: str) -> Reader:
    template = options.behaviors.template or template
    if model.weights is None:
        return Reader(template)
    weights, tokenizer = model.weights
    context = getattr(weights.config, "max_position_embeddings", None)
    if context is None:
        return Reader(template, tokenizer)
    spare = context - _given(options.generation).max_new_tokens

    from steerclear.generation.decoding import encode

    def room(rendered: Rendered) -> int:
        return int(spare - len(encode(tokenizer, rendered, "of a many-shot attack")))

    return Reader(template, tokenizer, room)


def _attacks(of: _Attacked) -> list[tuple[str, Callable[[], AttackFigures]]]:
    """Return each attack's name with what makes its figures, those that train last."""
    options = of.options
    found: list[tuple[str, Callable[[], AttackFigures]]] = [
        (own.name, partial(_card, of, own)) for own in options.cards
    ]
    if options.pair is not None:
        found.append((options.pair.name, partial(_pair, of, options.pair)))
    return found + [(own.name, partial(_fine_tuning, of, own)) for own in options.fine_tuning]


def _card(of: _Attacked, attack: AttackOptions) -> AttackFigures:
    card = attack.changed(load_attack(attack.card))
    behaviors = with_answers(of.behaviors, Path(attack.openings_from)) if attack.openings_from else of.behaviors
    shots = _shots(attack) if attack.shots_from else []
    asked = ask(attack.name, card, behaviors, of.reader, shots)
    folder = of.folder / attack.name
    answers, verdicts = [], []
    for number in range(card.samples):
        drawn = _drawn(of, card, asked, number, folder)
        answers += drawn
        verdicts += _judged(of, drawn)  # apart, as to a set of answers it matters which others there are
    found, asked_of_all = _counted(of, folder, answers, verdicts), asked_hash(of.behaviors, attack)
    return replace(found, kind="card", about=card.about, source=card.source, asked=asked_of_all)


def _drawn(
    of: _Attacked, card: AttackCard, asked: Sequence[tuple[Prompt, Rendered]], number: int, folder: Path
) -> list[Generation]:
    """Return the answers of one sample; where there are several their ids say which, and seed their draws."""
    prompts, texts = [prompt for prompt, _ in asked], [text for _, text in asked]
    options = of.generation if card.temperature is None else _sampled(of.generation, card.temperature)
    file = folder / "answers.jsonl"
    if card.samples > 1:
        prompts = [
            replace(prompt, id=f"{prompt.id}/sample-{number + 1}", tags=prompt.tags | {GOAL: prompt.id})
            for prompt in prompts
        ]
        file = folder / f"answers-{number + 1}.jsonl"
    given = of.model.answer(prompts, texts, file, options=options, allow_too_long=True)
    return (
        [replace(answer, response=readable(answer.response)) for answer in given]
        if card.transform == "base64"
        else given
    )


def _sampled(options: GenerationOptions, temperature: float) -> GenerationOptions:
    return replace(options, temperature=temperature, num_beams=1, cache="dynamic")


def _fine_tuning(of: _Attacked, options: FineTuningOptions) -> AttackFigures:
    asked = ask(options.name, load_attack("direct"), of.behaviors, of.reader)
    folder = of.folder / options.name
    answers = answer_after_fine_tuning(
        of.setup, options, of.target, of.model.id, asked, folder, of.log, generation=of.generation
    )
    return replace(
        _counted(of, folder, answers, _judged(of, answers)),
        kind="fine-tuning",
        about=f"{options.steps} steps on {'harmful' if options.harmful else 'harmless'} rows, then the request as it is.",
        source="Qi et al. 2023, Fine-tuning Aligned Language Models Compromises Safety, arXiv:2310.03693",
        asked=asked_hash(of.behaviors, options),
    )


def _pair(of: _Attacked, options: PairAttackOptions) -> AttackFigures:
    attacker = open_chat_model(options.attacker, DECODING)
    folder = of.folder / options.name
    behaviors = [
        PairBehavior(replace(behavior.prompt, suite=options.name), behavior.answer) for behavior in of.behaviors
    ]

    outcome = pair(
        behaviors,
        attacker,
        of.model,
        of.generation,
        lambda answers: _judged(of, answers),
        options,
        folder,
        of.reader.template,
        of.log,
    )
    if outcome.stopped:
        of.log(f"attack '{options.name}': {outcome.stopped}")
    return replace(
        _counted(of, folder, outcome.answers, outcome.verdicts),
        kind="pair",
        about=f"An attacker model rewrites its prompt, {options.streams} streams of {options.iterations} iterations each.",
        source="Chao et al. 2023, Jailbreaking Black Box Large Language Models in Twenty Queries, arXiv:2310.08419",
        asked=asked_hash(of.behaviors, options),
        pair=PairFigures(
            attacker=chat_model_identity(options.attacker),
            calls=outcome.calls,
            queries=outcome.queries,
            malformed=outcome.malformed,
            stopped=outcome.stopped,
        ),
    )


def _judged(of: _Attacked, answers: Sequence[Generation]) -> list[Verdict]:
    return judge_generations(answers, of.judges.harm, of.judges.refusal)


def _counted(of: _Attacked, folder: Path, answers: Sequence[Generation], verdicts: Sequence[Verdict]) -> AttackFigures:
    """Write an attack's verdicts and return its figures."""
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    return _with_positions(attack_figures(verdicts), of, answers, verdicts)


def _with_positions(
    figures: AttackFigures, of: _Attacked, answers: Sequence[Generation], verdicts: Sequence[Verdict]
) -> AttackFigures:
    """Add where the first harmful answer to each behavior turns harmful."""
    judge = _given(of.options.judge)
    wanted = of.options.positions
    if wanted is None:
        wanted = judge.rating is None and judge.moderation is None
    if not wanted or of.judges.harm is None:
        return figures
    harmful: dict[str, Generation] = {}
    for answer, verdict in zip(answers, verdicts, strict=True):
        if verdict.outcome == "harmful":
            harmful.setdefault(behavior_of(verdict), answer)
    tokenizer = of.reader.tokenizer
    places = first_harmful(of.judges.harm, list(harmful.values()), tokenizer)
    found = position_figures(places, WORDS if tokenizer is None else TOKENS)
    return replace(figures, first_harmful=found, positions=dict(zip(harmful, places, strict=True)))


def attack_fingerprints(options: AttacksOptions) -> dict[str, str]:
    """Return for each attack a hash of what it asks of any model, files by their content.

    Raises:
        SteerClearError: a file is missing or wrong.
    """
    behaviors = behaviors_of(options)
    attacks: list[Attack] = [*options.cards, *options.fine_tuning]
    attacks += [options.pair] if options.pair is not None else []
    return {attack.name: asked_hash(behaviors, attack) for attack in attacks}


def asked_hash(behaviors: Sequence[Behavior], attack: Attack) -> str:
    """Return a hash of what an attack asks of any model: two models' figures compare where it is the same."""
    how: Any
    if isinstance(attack, AttackOptions):
        sources = [file for file in (attack.shots_from, attack.openings_from) if file]
        files = [sha256_of_file(Path(file)) if Path(file).is_file() else file for file in sources]
        how = [asdict(attack.changed(load_attack(attack.card))), files]
    elif isinstance(attack, FineTuningOptions):
        how = identity(attack)
    else:
        how = [asdict(attack) | {"attacker": None, "max_calls": None}, chat_model_identity(attack.attacker)]
    return sha256_of([behaviors_hash(behaviors), [behavior.answer for behavior in behaviors], how])
