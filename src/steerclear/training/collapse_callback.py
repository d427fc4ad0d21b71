"""The guard against collapse: probes the model while it trains, and stops or lowers λ before the model is beyond use."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steerclear.data.prepare import PreparedData
from steerclear.data.templates import render_row
from steerclear.data.tokenization import AvoidTokens, NothingLeftError, TokenizedRow, tokenize_row
from steerclear.errors import ConfigError, DataError, Log, ModelError
from steerclear.generation.decoding import Decoder, batches, encode, too_long
from steerclear.generation.options import GenerationOptions
from steerclear.judges.degeneracy import degeneracy
from steerclear.judges.refusal import is_refusal
from steerclear.records import Prompt, Row, read_records, text_of, whole_prompt, write_jsonl
from steerclear.store.runs import RunFolder
from steerclear.training.arguments import SteerClearConfig
from steerclear.training.collapse import Probe, decide, explain, last_passed, load_trained, save_trained
from steerclear.training.kto import KTO, KtoBaselineConfig
from steerclear.training.options import CollapseOptions
from steerclear.training.ranks import launched_processes
from steerclear.training.trainer import SteerClearTrainer

EXAMPLE_LENGTH = 60
"""Characters that are shown of a degenerate answer."""


def check_alone() -> None:
    """Find processes that the guard would have to share a probe with.

    Raises:
        ConfigError: there are several.
    """
    if launched_processes() > 1:
        raise ConfigError(
            f"collapse: probing while training works in one process, and there are {launched_processes()}. Set collapse to null, "
            "or train in one process."
        )


def check_penalty(arguments: SteerClearConfig | KtoBaselineConfig) -> None:
    """Find an objective that the guard cannot watch.

    Raises:
        ConfigError: it has no penalty to lower.
    """
    if isinstance(arguments, KtoBaselineConfig):
        raise ConfigError(
            f"collapse: got objective '{KTO}', which it cannot watch. Set collapse to null, and evaluation.every_steps instead."
        )


def check_guard(prepared: PreparedData) -> None:
    """Find rows that the guard cannot work with before a model is loaded.

    Raises:
        ConfigError: there are no held-out rows.
    """
    if not prepared.heldout:
        raise ConfigError("collapse: got no held-out benign rows to measure on. Set data.heldout_count to 1 or more.")


class CollapseCallback(TrainerCallback):
    """Probes the live model every so many steps, without a trace on the training; `steerclear.training.collapse` decides.

    A probe is on disk before any checkpoint of its step or a later one, and none is written of a step that stops, so a killed
    training comes back with what its guard knew.

    Args:
        trainer: the one that is watched.
        run: the run's folder; probes land in ``guard.jsonl``.
        template: how rows are rendered.

    Raises:
        ConfigError: no probe row fits into the model's context or into ``max_length``.
    """

    def __init__(
        self,
        options: CollapseOptions,
        prepared: PreparedData,
        trainer: SteerClearTrainer,
        run: RunFolder,
        template: str,
        log: Log,
    ) -> None:
        self._options, self._log = options, log
        self._tokenizer: Any = trainer.processing_class
        self._generation = GenerationOptions(max_new_tokens=options.max_new_tokens)
        self._file = run.path / "guard.jsonl"
        self._checkpoints = run.checkpoints
        self._probes: list[Probe] = []
        heldout = prepared.heldout[: options.benign_prompts]
        asked = [*prepared.unsafe[: options.unsafe_prompts], *heldout]
        self._prompts, self._encoded = self._askable(asked, template, trainer.model.config)
        self._benign = self._measurable(heldout, template, trainer.args.max_length)

    def _askable(self, rows: Sequence[Row], template: str, config: Any) -> tuple[list[Prompt], dict[str, list[int]]]:
        """Return the prompts of rows with their token ids, without those that do not fit into the model's context."""
        rendered = [render_row(row, template) for row in rows]
        encoded = {row.id: encode(self._tokenizer, row.prompt, row.id) for row in rendered}
        left_out = too_long(encoded, self._generation, getattr(config, "max_position_embeddings", None))
        prompts = [Prompt(id=row.id, suite="guard", prompt=whole_prompt(row)) for row in rows if row.id not in left_out]
        if not prompts:
            raise ConfigError(
                f"collapse: none of its prompts fits; the first has {next(iter(left_out.values()))}. Lower "
                "collapse.max_new_tokens."
            )
        return prompts, encoded

    def _measurable(self, rows: Sequence[Row], template: str, max_length: int | None) -> list[TokenizedRow]:
        """Return benign rows with their labels, without those of which no answer token lies within ``max_length``."""
        tokenized = []
        for row in (render_row(row, template) for row in rows):
            try:
                tokenized.append(
                    tokenize_row(
                        self._tokenizer,
                        row.prompt,
                        row.completion,
                        True,
                        avoid=AvoidTokens(),
                        weight=row.weight,
                        max_length=max_length,
                    )
                )
            except NothingLeftError:
                continue
        if not tokenized:
            raise ConfigError(
                f"collapse: no answer token of its benign rows lies within training.max_length {max_length}. Raise it, or "
                "collapse.benign_prompts."
            )
        return tokenized

    # ── while training ──

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Take up what was known at the step that training continues from, or probe the model before its first step."""
        if not state.global_step:
            self._probes = []
            self._probe(args, state, model)
            return
        known = read_records(self._file, Probe) if self._file.is_file() else []
        self._probes = [probe for probe in known if probe.step <= state.global_step]
        if not self._probes:
            raise DataError(
                f"{self._file}: has no probe up to step {state.global_step}, from which training continues. Remove the run's "
                "folder to train anew."
            )
        args.penalty_weight = self._probes[-1].penalty_weight

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Probe where the step is due."""
        if state.global_step % self._options.every_steps and state.global_step < state.max_steps:
            return
        self._probe(args, state, model)
        if self._probes[-1].action == "lowered":
            args.penalty_weight = self._probes[-1].penalty_weight
            load_trained(model, self._weights(last_passed(self._probes)))
        elif self._stopped:
            control.should_training_stop, control.should_save = True, False

    def on_epoch_end(self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep a stopped training from a checkpoint, which would be continued."""
        if self._stopped:
            control.should_save = False

    @property
    def _stopped(self) -> bool:
        return self._probes[-1].action == "stopped"

    def _probe(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        seen = self._look(model, state.global_step, args.penalty_weight)
        if not self._probes and seen.benign_loss is None:
            raise ModelError(
                "the model's loss on benign rows is not a number before the first step. Check its weights."
            )
        probe = decide(seen, self._probes, self._options, last=state.global_step >= state.max_steps)
        if probe.action != "passed":
            self._log(explain(probe, self._probes))
        self._probes.append(probe)
        if probe.action == "passed":
            self._keep(model)
        write_jsonl(self._file, self._probes)

    def _weights(self, step: int) -> Path:
        # Beside the checkpoints, as they are of no use after the training either.
        return self._checkpoints / f"within-limits-{step}.safetensors"

    def _keep(self, model: Any) -> None:
        """Save the weights of the last probe, and remove those that no checkpoint could come back to."""
        saved_at = [int(path.name.rpartition("-")[2]) for path in self._checkpoints.glob("checkpoint-*")]
        needed = [self._weights(last_passed(self._probes, step)) for step in (None, *saved_at)]
        save_trained(model, needed[0])
        for file in set(self._checkpoints.glob("within-limits-*.safetensors")) - set(needed):
            file.unlink()

    def _look(self, model: Any, step: int, penalty_weight: float) -> Probe:
        training = model.training
        try:
            # Data order and dropout of the steps to come must not depend on the probe.
            with torch.random.fork_rng(), torch.no_grad():
                model.eval()
                loss = self._benign_loss(model)
                responses = self._responses(model)
        finally:
            model.train(training)
        asked = [text_of(prompt.prompt) for prompt in self._prompts]
        kinds = degeneracy(asked, responses, [is_refusal(response) for response in responses])
        pairs = [(kind, response) for kind, response in zip(kinds, responses, strict=True) if kind is not None]
        return Probe(
            step=step,
            answers=len(responses),
            degenerate=dict(Counter(kind for kind, _ in pairs)),
            examples={kind: response[:EXAMPLE_LENGTH] for kind, response in reversed(pairs)},
            benign_loss=loss if math.isfinite(loss) else None,
            penalty_weight=penalty_weight,
        )

    def _responses(self, model: Any) -> list[str]:
        decoder = Decoder(model, self._tokenizer, self._generation)
        answers = {
            answer.id: answer.response
            for batch in batches(self._prompts, self._encoded, self._generation)
            for answer in decoder.answer(batch, [self._encoded[prompt.id] for prompt in batch])
        }
        return [answers[prompt.id] for prompt in self._prompts]

    def _benign_loss(self, model: Any) -> float:
        total = tokens = 0.0
        for row in self._benign:
            ids_1T = torch.tensor([row.input_ids], device=model.device)
            labels_1T = torch.tensor([row.labels], device=model.device)
            output = model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), signed_labels=labels_1T)
            total, tokens = total + float(output.benign_total), tokens + float(output.benign_tokens)
        return total / tokens

    # ── afterwards ──

    def restore(self, model: Any) -> None:
        """Give the model of a stopped training its last weights within the limits."""
        if self._stopped:
            load_trained(model, self._weights(last_passed(self._probes)))

    def summary(self) -> dict[str, Any]:
        """Return what the run's record says of the guard: how it ended, λ at the end, whose step's weights, all probes."""
        return {
            "ended": self._probes[-1].action,
            "kept_step": last_passed(self._probes),
            "penalty_weight": self._probes[-1].penalty_weight,
            "probes": [
                {
                    "step": probe.step,
                    "degenerate": probe.broken / probe.answers,
                    "benign_loss": probe.benign_loss,
                    "action": probe.action,
                    "over": probe.over,
                }
                for probe in self._probes
            ],
        }
