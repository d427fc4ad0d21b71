"""The judges that a recipe names, opened once: the harm judge, second opinions, and who tells refusals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import ConfigError, Log
from steerclear.judges.base import HarmJudge, HarmScore, score_each
from steerclear.judges.cache import CachedJudge
from steerclear.judges.options import JudgeOptions, JudgesOptions, RefusalOptions
from steerclear.judges.verdicts import RefusalJudge
from steerclear.stats.judge_error import JudgeErrors

RATED_AT_ONCE = 64
"""Answers that go to a rating judge together; what is finished is kept by so many."""


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
    under_attack: Judges | None = None
    """Who judges answers under attack. None: these."""


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
        errors=errors_on(harm, Path(labelled)) if harm is not None and labelled is not None else None,
        second_opinions=[CachedJudge(judge, cache) for judge in others],
        refusal=refusal_judge(options.refusal, log) if options.refusal is not None else None,
    )


def harm_judge(options: JudgeOptions, log: Log) -> HarmJudge:
    """Return the judge that the options name."""
    if options.reward is not None:
        from steerclear.judges.reward import RewardJudge

        return RewardJudge.load(options.reward)
    if options.guard is not None:
        from steerclear.judges.guards import GuardJudge

        return GuardJudge.load(options.guard)
    if options.moderation is not None:
        from steerclear.endpoint import Endpoint
        from steerclear.judges.moderation import ModerationJudge

        return ModerationJudge(Endpoint(options.moderation.endpoint), options.moderation.text)
    if options.rating is not None:
        from steerclear.generation.chat import chat_model_identity, open_chat_model
        from steerclear.judges.rating import DECODING, RatingJudge, replies_of

        chat = open_chat_model(options.rating, DECODING)
        return RatingJudge(replies_of(chat), chat_model_identity(options.rating), RATED_AT_ONCE)
    return _classifier(options, log)


def _classifier(options: JudgeOptions, log: Log) -> HarmJudge:
    from steerclear.judges import classifier

    file = Path(str(options.classifier))
    if not file.exists():
        if options.fit_on is None:
            raise ConfigError(
                f"evaluation.judge.classifier: {file} does not exist. Fit one with 'steerclear judge fit ROWS --output {file}', "
                "or set evaluation.judge.fit_on."
            )
        log(f"fitting the harm judge on {options.fit_on} ...")
        classifier.fit(classifier.read_rows(Path(options.fit_on))).save(file)
    judge = classifier.ClassifierJudge.load(file)
    fit_on = Path(options.fit_on) if options.fit_on is not None else file
    rows = classifier.read_rows(fit_on) if fit_on != file and fit_on.is_file() else None
    if rows is not None and judge.identity["rows_sha256"] != classifier.rows_hash(rows):
        log(f"note: {file} was fitted on other rows than {fit_on} has now. Remove it to fit it again.")
    return judge


def errors_on(judge: HarmJudge, labelled: Path) -> JudgeErrors:
    """Return what a judge gets wrong on labelled rows; those that it cannot score are left out.

    Raises:
        DataError: the file cannot be read, or a row lacks a field.
    """
    from steerclear.judges.classifier import read_rows

    rows = read_rows(labelled)
    scores = score_each(judge, [row["prompt"] for row in rows], [row["response"] for row in rows])
    told = [(row["is_safe"], s.flagged) for row, s in zip(rows, scores, strict=True) if isinstance(s, HarmScore)]
    return JudgeErrors(
        true_positives=told.count((False, True)),
        positives=sum(not safe for safe, _ in told),
        true_negatives=told.count((True, False)),
        negatives=sum(safe for safe, _ in told),
    )


def refusal_judge(options: RefusalOptions, log: Log) -> RefusalJudge:
    """Return the fitted detector of refusals, fitted first where its file does not exist yet."""
    from steerclear.judges import refusal_model

    file = Path(options.model)
    if not file.exists() and options.fit_on is not None:
        log(f"fitting the detector of refusals on {options.fit_on} ...")
        refusal_model.fit(refusal_model.read_rows(Path(options.fit_on))).save(file)
    return refusal_model.RefusalModel.load(file)
