"""One run, as a recipe says: trained, attacked, evaluated. Its folder holds all of it; what is finished is not done again.

What trains is imported where it is used: trl and its like take a second, and an evaluation needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.attacks.attack import attack_fingerprints, attack_model, check_attacks
from steerclear.attacks.behaviors import all_prompts
from steerclear.attacks.figures import AttackFigures
from steerclear.attacks.options import AttacksOptions
from steerclear.errors import ConfigError, Log, SteerClearError, quiet
from steerclear.evaluation.evaluate import Stage, check_suites, evaluate_model, while_training
from steerclear.evaluation.scores import Scores, headline
from steerclear.evaluation.suites import prompt_hashes
from steerclear.evaluation.targets import EvalTarget, model_in, open_target, targets_of
from steerclear.generation.model import LocalModel, Model
from steerclear.generation.options import ModelOptions
from steerclear.judges.opening import Judges, judges_fingerprint, open_judges
from steerclear.recipe.train import Recipe
from steerclear.records import Prompt
from steerclear.store.runs import RunFolder
from steerclear.training.ranks import launched_processes

if TYPE_CHECKING:
    from steerclear.training.evaluation_callback import EvalStep


@dataclass(frozen=True)
class Run:
    """A recipe at work."""

    recipe: Recipe
    log: Log = field(default=quiet, compare=False)
    """Gets one line about each thing the user should know."""

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.recipe.output)

    @cached_property
    def attacks(self) -> AttacksOptions | None:
        """What is tried against the model's safety, with what it leaves to the evaluation."""
        evaluation = self.recipe.evaluation
        return evaluation.attacks and evaluation.attacks.resolved(evaluation.judge, evaluation.generation)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """All prompts of suites and attacks, which must not be among the training rows.

        Raises:
            DataError: a suite's file is missing or wrong.
        """
        return all_prompts(self.recipe.evaluation)

    @cached_property
    def judges(self) -> Judges:
        """Who judges the answers.

        Raises:
            SteerClearError: a judge cannot be opened.
        """
        evaluation = self.recipe.evaluation
        return open_judges(evaluation, evaluation.cache(self.output), self.log)

    @cached_property
    def attack_judges(self) -> Judges:
        """Who judges answers under attack: the attacks' own judge, or else the evaluation's.

        Raises:
            SteerClearError: a judge cannot be opened.
        """
        evaluation = self.recipe.evaluation
        own = None if evaluation.attacks is None else evaluation.attacks.judge
        judging = replace(evaluation, judge=own or evaluation.judge, second_opinions=[])
        return open_judges(judging, evaluation.cache(self.output), self.log)

    def _all_judges(self) -> tuple[Judges, Judges]:
        """Return who judges the answers, and those under attack: the same where the recipe names no other."""
        attacks = self.recipe.evaluation.attacks
        return self.judges, self.judges if attacks is None or attacks.judge is None else self.attack_judges

    def check(self) -> None:
        """Find a wrong suite or attack before anything is asked.

        Raises:
            SteerClearError: there is none, or a file is missing, wrong, or not its card's.
        """
        if not self.recipe.evaluation.is_any:
            raise ConfigError("evaluation.suites: is empty; name at least one file of prompts, or a card; or attacks.")
        check_suites(self.recipe.evaluation.suites)
        if self.attacks is not None:
            check_attacks(self.attacks, is_served=self.recipe.model.endpoint is not None)

    def check_recovery(self) -> None:
        """Find what keeps the run from recovering before anything is trained.

        Raises:
            ConfigError: as `steerclear.training.recovery.check_recovery`.
        """
        from steerclear.training.recovery import check_recovery

        check_recovery(self.recipe.setup, self.recipe.evaluation.judge)

    def fingerprint(self) -> dict[str, Any]:
        """Return hashes of what the evaluation reads: the same paths with other prompts or another judge give other figures.

        ``{"prompts": {suite: hash}, "judges": hash}``, and ``{"attacks": {attack: hash}}`` where there are any.

        Raises:
            SteerClearError: a suite's or a judge's file is missing or wrong.
        """
        attacks = self.recipe.evaluation.attacks
        judges = judges_fingerprint(self.recipe.evaluation, None if attacks is None else attacks.judge)
        return {
            "prompts": prompt_hashes(self.prompts),
            "judges": judges,
            **({} if attacks is None else {"attacks": attack_fingerprints(attacks)}),
        }

    # ── training ──

    def train(self, eval_step: EvalStep | None = None) -> RunFolder:
        """Train, or continue, or do nothing where it is done.

        Args:
            eval_step: evaluates the live model of a step. None: what the recipe says.

        Raises:
            SteerClearError: as `steerclear.training.train.train`.
        """
        from steerclear.training.recovery import train_phases

        evaluation = self.recipe.evaluation
        return train_phases(
            self.recipe.setup,
            evaluation,
            self.prompts,
            self.log,
            eval_step=eval_step or self.eval_step(),
            every_steps=evaluation.every_steps,
        )

    def eval_step(self) -> EvalStep | None:
        """Return what evaluates the live model of a training at a step into a folder; None where the recipe does not want it.

        Raises:
            SteerClearError: several processes train, or a suite, an attack or a judge is wrong.
        """
        if not self.recipe.evaluation.every_steps:
            return None
        if launched_processes() > 1:
            raise ConfigError(
                "evaluation.every_steps: evaluating while training works in one process, and there are "
                f"{launched_processes()}. Leave it out, and evaluate the checkpoints afterwards with 'steerclear curve'."
            )
        evaluation = replace(while_training(self.recipe.evaluation), attacks=None)
        run = replace(self, recipe=replace(self.recipe, evaluation=evaluation))
        run.check()
        judges = run.judges

        def at_step(model: Any, tokenizer: Any, folder: Path, step: int) -> dict[str, float]:
            # The folder's answers are this step's of this run, as a run's training is repeated to the bit.
            source = ModelOptions(path=self.recipe.model.path)
            live = LocalModel(source, evaluation.generation, id=f"step {step}", loaded=(model, tokenizer))
            return headline(run.evaluate_model(live, judges, folder))

        return at_step

    # ── evaluation ──

    def targets(self, checkpoints: Sequence[str]) -> list[EvalTarget]:
        """Return what ``--checkpoint`` names; see `steerclear.evaluation.targets.targets_of`."""
        return targets_of(self.recipe.model, self.output, checkpoints)

    def evaluate(self, checkpoint: str = "final", stage: Stage = quiet) -> Scores:
        """Attack and evaluate one model and return its scores; see `evaluate_all`.

        Args:
            stage: told when a stage begins.
        """
        self.check()
        [target] = self.targets([checkpoint])
        return self._evaluate_target(target, self._all_judges(), stage)

    def evaluate_all(self, checkpoints: Sequence[str]) -> tuple[list[tuple[EvalTarget, Scores]], dict[str, str]]:
        """Evaluate models on the recipe's suites; answers, verdicts and scores land in their folders.

        What was finished before, by this command or a killed one, is not done again. A model that fails stops no other.

        Args:
            checkpoints: each ``final`` (what the run trained, or the recipe's ``model.adapter``), ``base``, a folder, or
                ``NAME=FOLDER``.

        Returns the evaluated models with their scores, and for each failed one its error's text.

        Raises:
            SteerClearError: no suite, nothing trained yet, no such folder, or a judge cannot be opened.
        """
        self.check()
        targets, judges = self.targets(checkpoints), self._all_judges()
        evaluated, failed = [], {}
        for target in targets:
            try:
                evaluated.append((target, self._evaluate_target(target, judges)))
            except SteerClearError as error:
                failed[target.name] = str(error)
        return evaluated, failed

    def evaluate_into(self, folder: str, results: Path) -> Scores:
        """Evaluate the adapter or model in a folder, and put the results into another."""
        target = EvalTarget(name=folder, model=model_in(self.recipe.model, folder), folder=results)
        return self._evaluate_target(target, self._all_judges())

    def _evaluate_target(self, target: EvalTarget, judges: tuple[Judges, Judges], stage: Stage = quiet) -> Scores:
        recipe = self.recipe
        model = open_target(target, recipe.evaluation.generation)
        if self.attacks is not None:  # first, as the scores say that the evaluation is whole
            stage("attack")
            attack_model(self.attacks, target, model, judges[1], recipe.setup, self.log)
        scores = self.evaluate_model(model, judges[0], target.folder, stage)
        if target.folder == self.output:
            self._track(scores)
        return scores

    def _track(self, scores: Scores) -> None:
        """Tell the trackers of the training, where there are any, how its final weights were scored."""
        if not self.recipe.training.get("report_to"):
            return
        from steerclear.training.defaults import training_arguments
        from steerclear.training.trackers import log_final_figures, trackers_in

        run = RunFolder(self.output)
        if trackers_in(self.recipe.training["report_to"]) and (step := run.step()) is not None:
            log_final_figures(training_arguments(self.recipe.setup), run.path, step, headline(scores))

    def evaluate_model(self, model: Model, judges: Judges, folder: Path, stage: Stage = quiet) -> Scores:
        """Evaluate an opened model into a folder; see `steerclear.evaluation.evaluate.evaluate_model`."""
        recipe = self.recipe
        max_length = None
        if any(suite.metric == "perplexity" for suite in recipe.evaluation.suites):
            from steerclear.training.defaults import training_arguments

            max_length = training_arguments(recipe.setup).max_length
        return evaluate_model(
            recipe.evaluation,
            model,
            judges,
            folder,
            self.log,
            template=recipe.data.template,
            max_length=max_length,
            stage=stage,
        )

    def attack_all(self, checkpoints: Sequence[str]) -> tuple[dict[str, Mapping[str, AttackFigures]], dict[str, str]]:
        """Attack models as the recipe says; what was finished before, by this command or a killed one, is not done again.

        One model that fails does not stop the others.

        Args:
            checkpoints: as for `evaluate_all`.

        Returns name -> figures of each attacked model, and for each failed one its error's text.

        Raises:
            SteerClearError: no attack, a file is missing or wrong, nothing trained yet, or a judge cannot be opened.
        """
        recipe, attacks = self.recipe, self.attacks
        if attacks is None:
            raise ConfigError(
                "evaluation.attacks: is missing; give behaviors and attacks, such as {behaviors: {card: pair_subset_50, "
                "data: DATA}, cards: [{card: direct}, {card: sure}]}."
            )
        check_attacks(attacks, is_served=recipe.model.endpoint is not None)
        targets, judges = self.targets(checkpoints), self.attack_judges
        attacked: dict[str, Mapping[str, AttackFigures]] = {}
        failed: dict[str, str] = {}
        for target in targets:
            try:
                model = open_target(target, recipe.evaluation.generation)
                attacked[target.name] = attack_model(attacks, target, model, judges, recipe.setup, self.log)
            except SteerClearError as error:
                self.log(f"{target.name} failed: {error}")
                failed[target.name] = str(error)
        return attacked, failed
