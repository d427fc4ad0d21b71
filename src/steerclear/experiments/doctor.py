"""`steerclear doctor`: is everything there, and what will this recipe cost? Measured, not guessed: it runs one micro-batch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from steerclear.data.chat import chat_form
from steerclear.data.prepare import PreparedData
from steerclear.data.signed_labels import decode
from steerclear.errors import Log, SteerClearError
from steerclear.experiments.run import Run
from steerclear.generation.decoding import stop_ids
from steerclear.recipe.train import load_recipe
from steerclear.store.runs import versions
from steerclear.training.cost import heaviest_rows, micro_batch_seconds, peak_memory, sample_trainer
from steerclear.training.options import TrainingSetup
from steerclear.training.train import Trainer, check_training


def diagnose(arguments: Sequence[str], log: Log) -> bool:
    """Print one line for each check and return whether all passed. Without arguments only the installation is checked."""
    log("ok    versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    log(
        f"ok    devices: {', '.join(devices) or 'no GPU'}; {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    )
    if not arguments:
        return True
    try:
        run = Run(load_recipe(arguments))
        prepared = _check_data(run, log)
        with tempfile.TemporaryDirectory() as scratch:
            return _check_training(run.recipe.setup, prepared, scratch, log)
    except SteerClearError as error:
        for line in str(error).splitlines():
            log(f"FAIL  {line}")
        return False


def _check_data(run: Run, log: Log) -> PreparedData:
    prompts, judge = run.prompts, run.recipe.evaluation.judge
    run.check_recovery()
    prepared, _ = check_training(run.recipe.setup, prompts)
    for message in prepared.messages:
        log(f"note  {message}")
    log(
        f"ok    data: {len(prepared.benign)} benign, {len(prepared.added)} added, {len(prepared.unsafe)} unsafe, "
        f"{len(prepared.heldout)} held out; {len(prompts)} evaluation prompts, none of them among the rows"
    )
    if prompts and not judge.kinds():
        log("note  no harm judge (evaluation.judge): every answer will be unscored")
    elif judge.classifier and not any(path and Path(path).is_file() for path in (judge.classifier, judge.fit_on)):
        raise SteerClearError(f"evaluation.judge: neither {judge.classifier} nor fit_on ({judge.fit_on}) is a file.")
    return prepared


def _check_training(setup: TrainingSetup, prepared: PreparedData, scratch: str, log: Log) -> bool:
    trainer = sample_trainer(setup, prepared, scratch)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    total = sum(p.numel() for p in trainer.model.parameters())
    log(f"ok    model: {total:,} weights, {sum(p.numel() for p in trained):,} of them trained")
    good = _check_end_token(trainer, log)
    _check_template(trainer.processing_class, setup.data.template, log)
    seconds = micro_batch_seconds(trainer, heaviest_rows(trainer))
    good &= _check_gradients(trainer, log)
    _report_cost(trainer, prepared, seconds, log)
    return good


def _check_end_token(trainer: Trainer, log: Log) -> bool:
    """Find answers that do not teach the model to stop where generation stops."""
    tokenizer: Any = trainer.processing_class
    stops = stop_ids(trainer.model, tokenizer)
    kinds = [decode(torch.tensor(row["labels"])) for row in trainer.train_dataset]
    learnt = [kind.targets[kind.imitate].tolist() for kind in kinds if bool(kind.imitate.any())]
    ended = [next((y for y in reversed(targets) if y in stops), None) for targets in learnt]
    ends = sorted({y for y in ended if y is not None})
    names = " and ".join(repr(tokenizer.decode([y])) for y in ends)
    example = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    log(f"note  a row as the model sees it: {example[:60]!r} ... {example[-30:]!r}")
    count = len(ended) - ended.count(None)
    if count < 0.5 * len(ended):
        known = ", ".join(repr(tokenizer.decode([y])) for y in sorted(stops)) or "there is none"
        log(
            f"FAIL  end token: only {count} of {len(ended)} answers end with one at which generation stops ({known}), so the "
            "model would not learn to stop. Raise training.max_length, set an eos_token in the tokenizer, or mend its chat "
            "template."
        )
        return False
    log(f"ok    end token: {count} of {len(ended)} benign answers end with {names} (the rest were cut)")
    return True


def _check_template(tokenizer: Any, template: str, log: Log) -> None:
    """Say where a chat template does not open the turn that is to be answered."""
    if template != "chat" or tokenizer.chat_template is None:
        return
    form = chat_form(tokenizer)
    if form.header:
        log(
            "note  the chat template adds no generation prompt (add_generation_prompt): what stands before an answer is taken "
            f"from its own rendering ({form.header!r}). A server that asks this model must add it too."
        )


def _check_gradients(trainer: Trainer, log: Log) -> bool:
    # A fresh LoRA's A matrices have an exact zero gradient, as B is zero; so "has one" is the test, and B must not be zero.
    named = [(name, p.grad) for name, p in trainer.model.named_parameters() if p.requires_grad]
    missing = [name for name, grad in named if grad is None or not bool(grad.isfinite().all())]
    if missing or not any(grad is not None and bool(grad.any()) for _, grad in named):
        names = missing or [name for name, _ in named]
        log(f"FAIL  gradients: {len(names)} of {len(named)} trained tensors get none, such as {names[0]}")
        return False
    log(f"ok    gradients: all {len(named)} trained tensors receive one")
    return True


def _report_cost(trainer: Trainer, prepared: PreparedData, seconds: float, log: Log) -> None:
    args = trainer.args
    rows = len(prepared.benign) + len(prepared.added) + len(prepared.unsafe)
    micro_batches = rows * args.num_train_epochs / args.per_device_train_batch_size
    if args.max_steps > 0:
        micro_batches = args.max_steps * args.gradient_accumulation_steps
    log(
        f"ok    cost: a micro-batch of the longest rows takes {seconds:.2f} s, so training takes at most "
        f"about {micro_batches * seconds / 60:.0f} min on this device; peak memory {peak_memory() / 2**30:.1f} GiB before the "
        "optimizer's state"
    )
