"""The watch against collapse: probes the model while it trains, and stops or lowers λ before the model is beyond use.

The list of probes is all there is to know: each says what was seen at a step and what was done, so those up to a checkpoint's
step are the state of a training that continues from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from steerclear.data.prepare import PreparedData
from steerclear.data.tokenization import AvoidTokens, NothingLeftError, TokenizedRow, tokenize_row
from steerclear.errors import ConfigError, DataError, Log, ModelError
from steerclear.generation.decoding import Decoder, batches, encode, too_long
from steerclear.generation.options import GenerationOptions
from steerclear.generation.weights import at_rest
from steerclear.judges.degeneracy import degeneracy
from steerclear.judges.refusal import is_refusal
from steerclear.records import Prompt, Row, read_records, text_of, whole_prompt, write_jsonl
from steerclear.store.runs import RunFolder
from steerclear.training.options import CollapseOptions

EXAMPLE_LENGTH = 60
"""Characters that are shown of a degenerate answer."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was seen of the model at a step, and what was done about it."""

    step: int
    answers: int
    degenerate: dict[str, int]
    """Kind of degeneracy -> number of answers."""
    examples: dict[str, str]
    """Kind of degeneracy -> the start of one such answer."""
    benign_loss: float | None
    """Mean over the answer tokens of the held-out rows, in nats. None: not a finite number."""
    penalty_weight: float
    """λ of the steps after this probe."""
    action: str = "passed"
    """``passed``, ``lowered`` or ``stopped``."""
    over: list[str] | None = None
    """What is over the limits, in words. None: nothing."""

    @property
    def broken(self) -> int:
        """Number of degenerate answers."""
        return sum(self.degenerate.values())


def decide(probe: Probe, earlier: Sequence[Probe], options: CollapseOptions, *, last: bool) -> Probe:
    """Return the probe with what is over the limits and what is to be done about it.

    Args:
        earlier: the probes before it, that before the first step first.
        last: no step follows, so lowering λ would change nothing.
    """
    over = _over_limits(probe, earlier, options)
    if not over:
        return probe
    lowered = sum(one.action == "lowered" for one in earlier)
    # Where the loss is not a number, the optimizer's moments are not either, and would spoil the weights again.
    helps = not last and probe.penalty_weight > 0 and probe.benign_loss is not None
    if options.action == "lower" and lowered < options.max_lowerings and helps:
        return replace(probe, over=over, action="lowered", penalty_weight=probe.penalty_weight * options.factor)
    return replace(probe, over=over, action="stopped")


def _over_limits(probe: Probe, earlier: Sequence[Probe], options: CollapseOptions) -> list[str]:
    first = earlier[0] if earlier else probe
    over = []
    if probe.broken / probe.answers > first.broken / first.answers + options.max_degenerate_rise:
        over.append(
            f"{probe.broken} of {probe.answers} answers are degenerate ({_kinds(probe)}; before the first step {first.broken} "
            f"were){_example(probe)}"
        )
    losses = [one.benign_loss for one in earlier if one.benign_loss is not None]
    if probe.benign_loss is None:
        over.append("the benign loss is not a number any more")
    elif losses and probe.benign_loss > min(losses) + options.max_loss_rise:
        over.append(
            f"the benign loss is {probe.benign_loss:.2f} nats, {probe.benign_loss - min(losses):.2f} above its lowest so far"
        )
    return over


def _kinds(probe: Probe) -> str:
    counts = sorted(probe.degenerate.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts)


def _example(probe: Probe) -> str:
    shown = [kind for kind in probe.degenerate if probe.examples.get(kind)]
    return f", such as {probe.examples[max(shown, key=probe.degenerate.__getitem__)]!r}" if shown else ""


def last_passed(probes: Sequence[Probe], step: int | None = None) -> int:
    """Return the step of the last weights within the limits, or of the last at or before a step."""
    return max(probe.step for probe in probes if probe.action == "passed" and (step is None or probe.step <= step))


def explain(probe: Probe, earlier: Sequence[Probe]) -> str:
    """Return for the user, in two or three sentences, what was over the limits at a probe, what is done and what to do."""
    seen, first, kept = " and ".join(probe.over or ()), earlier[0].penalty_weight, last_passed(earlier)
    good = f"the weights of step {kept}" if kept else "the weights before the first step"
    if probe.action == "lowered":
        return (
            f"collapse, step {probe.step}: {seen}. Training goes on from {good}, with penalty_weight "
            f"{probe.penalty_weight:g} in place of {earlier[-1].penalty_weight:g}."
        )
    advice = (
        f"Set penalty_weight below {first:g}, or push fewer tokens (avoid_tokens: first, a smaller avoid_first_k) or less far "
        "(a larger avoid_until, for objectives per token)."
        if first > 0
        else "There is no penalty (penalty_weight 0): train for fewer steps, or lower learning_rate."
    )
    return f"collapse, step {probe.step}: training is stopped, as {seen}. Kept are {good}. {advice}"


def save_trained(model: Any, file: Path) -> None:
    """Save the weights that train into a file, which is whole or absent."""
    weights = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    unfinished = file.with_name(f".{file.name}.unfinished")
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, unfinished)
    unfinished.replace(file)


def load_trained(model: Any, file: Path) -> None:
    """Put the weights of `save_trained` back into the model that they came from."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in load_file(file).items():
            parameters[name].copy_(weight)


class CollapseCallback(TrainerCallback):
    """Probes the live model every so many steps, without a trace on the training; `decide` says what follows.

    A probe is on disk before any checkpoint of its step or a later one, and none is written of a step that stops, so a killed
    training comes back with what was seen of it.

    Args:
        trainer: the one that is watched.
        run: the run's folder; probes land in ``guard.jsonl``.

    Raises:
        ConfigError: no probe row fits into the model's context or into ``max_length``.
    """

    def __init__(
        self,
        options: CollapseOptions,
        prepared: PreparedData,
        trainer: Any,
        run: RunFolder,
        log: Log,
    ) -> None:
        self._options, self._log = options, log
        self._tokenizer: Any = trainer.processing_class
        self._generation = GenerationOptions(max_new_tokens=options.max_new_tokens)
        self._file = run.path / "guard.jsonl"
        self._checkpoints = run.checkpoints
        self._probes: list[Probe] = []
        probed = {"unsafe": options.unsafe_prompts, "heldout": options.benign_prompts}
        rows = [row for part, count in probed.items() for row in getattr(prepared, part)[:count]]
        rendered = [row for part, count in probed.items() for row in prepared.rendered[part][:count]]
        self._prompts, self._encoded = self._askable(rows, rendered, trainer.model.config)
        heldout = prepared.rendered["heldout"][: options.benign_prompts]
        self._benign = self._measurable(heldout, trainer.args.max_length)

    def _askable(
        self, rows: Sequence[Row], rendered: Sequence[Row], config: Any
    ) -> tuple[list[Prompt], dict[str, list[int]]]:
        """Return the prompts of rows with their token ids, without those that do not fit into the model's context."""
        encoded = {row.id: encode(self._tokenizer, row.prompt, row.id) for row in rendered}
        left_out = too_long(encoded, self._generation, getattr(config, "max_position_embeddings", None))
        prompts = [Prompt(id=row.id, suite="guard", prompt=whole_prompt(row)) for row in rows if row.id not in left_out]
        if not prompts:
            raise ConfigError(
                f"collapse: none of its prompts fits; the first has {next(iter(left_out.values()))}. Lower "
                "collapse.max_new_tokens."
            )
        return prompts, encoded

    def _measurable(self, rendered: Sequence[Row], max_length: int | None) -> list[TokenizedRow]:
        """Return rendered benign rows with their labels, without those of which no answer token lies within ``max_length``."""
        tokenized = []
        for row in rendered:
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
        # Data order and dropout of the steps to come must not depend on the probe.
        with torch.random.fork_rng(), at_rest(model):
            loss, responses = self._benign_loss(model), self._responses(model)
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
        """Return what the run's record says of the watch: how it ended, λ at the end, whose step's weights, all probes."""
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
