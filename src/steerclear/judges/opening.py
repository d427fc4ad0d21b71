"""The judges that a recipe names, opened once: the harm judge, second opinions, and who tells refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.errors import ConfigError, Log
from steerclear.generation.chat import chat_model_identity
from steerclear.judges.base import HarmJudge
from steerclear.judges.cache import CachedJudge
from steerclear.judges.labelled import read_refusal_rows, read_rows, rows_hash
from steerclear.judges.measures import judge_errors, score_rows
from steerclear.judges.options import JudgeOptions, JudgesOptions, RefusalOptions
from steerclear.judges.verdicts import RefusalJudge
from steerclear.records import sha256_of, sha256_of_file
from steerclear.stats.judge_error import JudgeErrors
from steerclear.store.runs import model_fingerprint


@dataclass(frozen=True)
class Judges:
    """Who judges."""

    harm: HarmJudge | None
    """Decides the verdicts."""
    second_opinions: list[HarmJudge]
    """Judge the same answers, for agreement and for rates of their own."""
    refusal: RefusalJudge | None
    errors: JudgeErrors | None = None
    """What the harm judge gets wrong on labelled rows. None: not measured."""


def open_judges(options: JudgesOptions, cache: Path, log: Log) -> Judges:
    """Open the judges; what is fitted on first use is fitted now.

    Args:
        cache: folder of the scores that are kept.

    Raises:
        SteerClearError: a judge's file, model or key is missing.
    """
    if not options.judge.kinds():
        log("no harm judge (evaluation.judge): every answer will be unscored.")
    harm = CachedJudge(harm_judge(options.judge, log), cache) if options.judge.kinds() else None
    others = [harm_judge(other, log) for other in options.second_opinions]
    labelled = options.judge.labelled
    return Judges(
        harm=harm,
        errors=judge_errors(score_rows(harm, read_rows(Path(labelled))))
        if harm is not None and labelled is not None
        else None,
        second_opinions=[CachedJudge(judge, cache) for judge in others],
        refusal=refusal_judge(options.refusal, log) if options.refusal is not None else None,
    )


def harm_judge(options: JudgeOptions, log: Log) -> HarmJudge:
    """Return the judge that the options name.

    Raises:
        SteerClearError: none is named, or its file, model or key is missing or wrong.
    """
    if not options.kinds():
        raise ConfigError(
            "judge: none is named. Give --classifier FILE, --guard.model MODEL, --reward.model MODEL, --rating.model.path MODEL "
            "or --moderation.endpoint.model NAME."
        )
    (kind,) = options.kinds()
    return OPENERS[kind](options, log)


def _reward(options: Any, _log: Log) -> HarmJudge:
    from steerclear.judges.reward import RewardJudge

    return RewardJudge.load(options.reward)


def _guard(options: Any, _log: Log) -> HarmJudge:
    from steerclear.judges.guards import GuardJudge

    return GuardJudge.load(options.guard)


def _moderation(options: Any, _log: Log) -> HarmJudge:
    from steerclear.endpoint import Endpoint
    from steerclear.judges.moderation import ModerationJudge

    return ModerationJudge(Endpoint(options.moderation.endpoint), options.moderation.text)


def _rating(options: Any, _log: Log) -> HarmJudge:
    from steerclear.generation.chat import open_chat_model
    from steerclear.judges.rating import DECODING, RatingJudge

    return RatingJudge(open_chat_model(options.rating, DECODING), chat_model_identity(options.rating))


def _classifier(options: JudgeOptions, log: Log) -> HarmJudge:
    from steerclear.judges.classifier import ClassifierJudge, fit

    file = Path(str(options.classifier))
    if not file.exists():
        if options.fit_on is None:
            raise ConfigError(
                f"evaluation.judge.classifier: {file} does not exist. Fit one with 'steerclear judge fit ROWS --output {file}', "
                "or set evaluation.judge.fit_on."
            )
        log(f"fitting the harm judge on {options.fit_on} ...")
        fit(read_rows(Path(options.fit_on))).save(file)
    judge = ClassifierJudge.load(file)
    fit_on = Path(options.fit_on) if options.fit_on is not None else file
    rows = read_rows(fit_on) if fit_on != file and fit_on.is_file() else None
    if rows is not None and judge.identity["rows_sha256"] != rows_hash(rows):
        log(f"note: {file} was fitted on other rows than {fit_on} has now. Remove it to fit it again.")
    return judge


OPENERS: dict[str, Callable[[JudgeOptions, Log], HarmJudge]] = {
    "classifier": _classifier,
    "reward": _reward,
    "guard": _guard,
    "moderation": _moderation,
    "rating": _rating,
}
"""Kind of judge -> what opens it. A new kind needs its options in `JudgeOptions`, too."""


def refusal_judge(options: RefusalOptions, log: Log) -> RefusalJudge:
    """Return the fitted detector of refusals, fitted first where its file does not exist yet."""
    from steerclear.judges.refusal_model import RefusalModel, fit

    file = Path(options.model)
    if not file.exists() and options.fit_on is not None:
        log(f"fitting the detector of refusals on {options.fit_on} ...")
        fit(read_refusal_rows(Path(options.fit_on))).save(file)
    return RefusalModel.load(file)


def judges_fingerprint(options: JudgesOptions, under_attack: JudgeOptions | None = None) -> str:
    """Return a hash of what the judges' files hold: the same paths with another judge give figures that do not compare.

    A judge that is fitted on rows is known by these, as it has no file before its first use; any other by its own file.

    Args:
        under_attack: who judges answers under attack, where that is another.

    Raises:
        SteerClearError: a file is missing or wrong.
    """
    refusal = options.refusal
    parts = [
        _contents(options.judge),
        [_contents(other) for other in options.second_opinions],
        *([] if under_attack is None else [_contents(under_attack)]),
        refusal and _fitted(refusal.model, refusal.fit_on),
    ]
    return sha256_of(parts)


def _contents(options: JudgeOptions) -> list[Any]:
    return [
        options.classifier and _fitted(options.classifier, options.fit_on),
        options.reward and model_fingerprint(options.reward.model),
        options.guard and model_fingerprint(options.guard.model),
        options.rating and chat_model_identity(options.rating),
        options.labelled and sha256_of_file(Path(options.labelled)),
    ]


def _fitted(file: str, fit_on: str | None) -> str:
    has_rows = fit_on is not None and Path(fit_on).is_file()
    return sha256_of_file(Path(str(fit_on) if has_rows else file))
