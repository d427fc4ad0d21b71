"""`SteerClearTrainer`: TRL's SFTTrainer with a second term that steers clear of unsafe answers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from trl import SFTTrainer, pack_dataset

from steerclear.data.signed_labels import IGNORED, decode, is_avoided
from steerclear.errors import ConfigError, DataError
from steerclear.losses.formulas import decay_weights
from steerclear.losses.options import SEQUENCE_OBJECTIVES
from steerclear.training.arguments import SteerClearConfig
from steerclear.training.head import adapter_switch, add_objective_head, sequence_index
from steerclear.training.packed_attention import use_packed_attention
from steerclear.training.ranks import sum_over_ranks
from steerclear.training.rows import fill_batches, tokenize_rows
from steerclear.training.sampler import ADDED, BENIGN, UNSAFE, StratifiedSampler, rows_per_step, seed_of_rows


class SteerClearTrainer(SFTTrainer):
    """Trains on benign rows and away from unsafe ones.

    The data set has the columns of TRL's unpaired preference, ``prompt``, ``completion`` (text or messages) and ``label``
    (true: imitate, false: avoid), and optionally ``weight``, ``id`` and ``added`` (true: drawn by ``extra_share``); or it is
    tokenized: ``input_ids`` and signed ``labels`` (`steerclear.data.signed_labels`). All other arguments are those of
    `trl.SFTTrainer`.

    Raises:
        ConfigError: λ > 0 and no unsafe row, or an argument that this trainer cannot honour.
        DataError: a column is missing, or a row has no answer token left.
    """

    _tag_names = ["steerclear", "sft"]  # noqa: RUF012 (declared so by the base class)
    loss_is_scaled_for_ga = True

    def __init__(self, model: Any, args: SteerClearConfig | None = None, **kwargs: Any) -> None:
        if not isinstance(args, SteerClearConfig):
            raise ConfigError(f"args: got {type(args).__name__}, expected a SteerClearConfig.")
        for name in ("data_collator", "compute_loss_func", "formatting_func"):
            if kwargs.get(name) is not None:
                raise ConfigError(
                    f"{name}: not supported by SteerClearTrainer, which tokenizes and scores rows itself."
                )
        self.tokens_cut: dict[str, dict[str, int]] = {}
        """For each data set: rows that are cut at ``max_length``, tokens they lose, and benign rows that are left out."""
        super().__init__(model, args, **kwargs)
        if self.aux_loss_enabled:
            raise ConfigError(
                "router_aux_loss_coef: only 0 is supported by SteerClearTrainer. Set router_aux_loss_coef=0.0."
            )
        parts = self.train_dataset["part"]
        if args.penalty_weight > 0 and UNSAFE not in parts:
            raise ConfigError(
                f"penalty_weight: got {args.penalty_weight} with no unsafe row in the training data. Add rows with label false, "
                "or set penalty_weight to 0 for plain SFT."
            )
        if args.extra_share is not None and ADDED not in parts:
            raise ConfigError(
                f"extra_share: got {args.extra_share} with no added row. Add rows (data.extra), or leave it out."
            )
        base_model = getattr(self.model, "get_base_model", lambda: self.model)()
        add_objective_head(
            base_model,
            args.loss_options,
            anchored=args.kl_weight > 0,
            without_adapter=adapter_switch(self.model, args.needs_base),
        )
        if self.padding_free:
            use_packed_attention(base_model)
        # The paper drops the bound's factor 1/2, and its λ are meant without it.
        self._penalty_scale = 2.0 if args.normalization == "paper" and args.objective == "emd_bound" else 1.0
        self._passes = {UNSAFE: 1.0}
        """How often each row of a part is seen in an epoch."""
        self._sums: dict[str, dict[str, Tensor | float]] = {
            "train": defaultdict(float),
            "eval": defaultdict(float),
        }

    # ── data ──

    def _prepare_dataset(
        self,
        dataset: Dataset,
        processing_class: Any,
        args: SteerClearConfig,
        packing: bool,
        _: Any,
        dataset_name: str,
    ) -> Dataset:
        """Tokenize and pack, in place of TRL's preparation: that one keeps no label and drops rows silently."""
        if not isinstance(dataset, Dataset):
            raise ConfigError(f"{dataset_name}: got {type(dataset).__name__}, expected a datasets.Dataset.")
        columns = dataset.column_names
        if "input_ids" not in columns:
            dataset, self.tokens_cut[dataset_name] = tokenize_rows(
                dataset, processing_class, args.avoided, args, dataset_name
            )
        elif "labels" not in columns:
            raise DataError(f"{dataset_name}: has input_ids but no labels column; see steerclear.data.signed_labels.")
        if packing and "seq_lengths" not in dataset.column_names:
            dataset = _pack(dataset, args.max_length, apart=args.sampling == "stratified")
        if "part" not in dataset.column_names:
            dataset = _with_parts(dataset)
        if dataset_name == "train":
            return dataset
        return fill_batches(dataset, args, lambda row: {"labels": [IGNORED] * len(row["labels"])})

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        """Return the stratified sampler; uniform sampling is the base class's."""
        parts = self.train_dataset["part"]  # ``train_dataset`` has lost that column by now
        shares = {UNSAFE: self.args.unsafe_share} if self.args.penalty_weight > 0 and UNSAFE in parts else {}
        if self.args.extra_share is not None:
            shares[ADDED] = self.args.extra_share
        if self.args.sampling == "uniform" or not shares:
            return super()._get_train_sampler(train_dataset)
        sampler = StratifiedSampler(parts, rows_per_step(self.args), shares, seed_of_rows(self.args))
        self._passes |= sampler.passes
        return sampler

    def sampling_summary(self) -> dict[str, Any]:
        """Return how rows are drawn: the sampling, the rows of an optimizer step, and how often an epoch passes over a part."""
        sampler = self._get_train_sampler()
        stratified = isinstance(sampler, StratifiedSampler)
        return {
            "sampling": "stratified" if stratified else "uniform",
            "rows_per_step": rows_per_step(self.args),
            **{f"{part}_passes_per_epoch": passes for part, passes in self._passes.items()},
        }

    # ── loss ──

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """Return the micro-batches of an optimizer step and its denominators over all of them and all ranks.

        The denominators take the place of the base class's one count of items: [benign tokens, unsafe tokens or sequences].
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.zeros(2, dtype=torch.long, device=device)
        for batch in batches:
            counts = counts + self._counts(batch).to(device)
        return batches, self.accelerator.reduce(counts, reduction="sum")

    def _counts(self, batch: dict[str, Tensor]) -> Tensor:
        decoded = decode(batch["labels"][:, 1:])
        avoided = decoded.avoid.sum()
        if self.args.objective in SEQUENCE_OBJECTIVES:
            sequences = sequence_index(batch["labels"], batch.get("position_ids"))[:, 1:]
            avoided = torch.tensor(sequences[decoded.avoid].unique().numel(), device=avoided.device)
        elif self.args.token_decay < 1:
            sequences = sequence_index(batch["labels"], batch.get("position_ids"))[:, 1:]
            avoided = decay_weights(sequences[decoded.avoid], self.args.token_decay).sum()
        return torch.stack((decoded.imitate.sum(), avoided))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return L = L_SFT + λ L_avoid of a micro-batch, and the anchor, as its share of the optimizer step (Eqs. 6, 8).

        Args:
            num_items_in_batch: the denominators of `get_batch_samples`; None, as in evaluation, takes those of this batch.
        """
        labels = inputs.pop("labels")
        output = model(**inputs, signed_labels=labels)
        local = torch.stack((output.benign_tokens, output.penalty_count)).to(output.benign_total.device)
        if num_items_in_batch is None:
            denominators, share = local, 1.0
        elif self.args.normalization == "paper":
            # Each micro-batch, on each rank, is a batch of the paper; the step is their mean.
            denominators, share = local, 1.0 / self.current_gradient_accumulation_steps
        else:
            # Wrappers average gradients over ranks, and these denominators count all ranks' tokens.
            denominators, share = num_items_in_batch.to(local.device), float(self.accelerator.num_processes)
        benign_mean, penalty_mean = (
            total / count.clamp(min=1)
            for total, count in zip(
                (output.benign_total, self._penalty_scale * output.penalty_total), denominators, strict=True
            )
        )
        self._record(output, labels, inputs)
        loss = benign_mean + self.args.penalty_weight * penalty_mean
        if output.anchor_total is not None:
            loss = loss + self.args.kl_weight * output.anchor_total / denominators[0].clamp(min=1)
        loss = share * loss
        return (loss, output) if return_outputs else loss

    # ── what is logged ──

    def _record(self, output: Any, labels: Tensor, inputs: dict[str, Tensor]) -> None:
        mode = "train" if self.model.training else "eval"
        sums = self._sums[mode]
        for name, value in output.items():
            sums[name] = sums[name] + value.detach()
        if mode == "train":
            seen = inputs["attention_mask"].sum() if "attention_mask" in inputs else torch.tensor(labels.numel())
            self._total_train_tokens += int(self.accelerator.reduce(seen.to(labels.device), reduction="sum"))
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each term's sum and count since the last log, and means made from those, over all ranks."""
        mode = "train" if self.model.training else "eval"
        prefix = "eval_" if mode == "eval" else ""
        sums = {name: sum_over_ranks(self, value) for name, value in sorted(self._sums[mode].items())}
        self._sums[mode].clear()
        if sums:
            logs.update({prefix + name: value for name, value in sums.items()})
            sums["penalty_total"] *= self._penalty_scale
            tokens = sums["benign_tokens"] + sums["unsafe_tokens"]
            ratios = {
                "benign_loss": (sums["benign_total"], sums["benign_tokens"]),
                "penalty": (sums["penalty_total"], sums["penalty_count"]),
                "unsafe_probability": (sums["unsafe_probability"], sums["unsafe_tokens"]),
                "unsafe_token_share": (sums["unsafe_tokens"], tokens),
                "anchor": (sums.get("anchor_total", 0.0), sums["benign_tokens"] if "anchor_total" in sums else 0),
            }
            # A mean over nothing is left out: 0 would be a value.
            means = {name: total / count for name, (total, count) in ratios.items() if count}
            logs.update({prefix + name: value for name, value in means.items()})
            if "eval_loss" in logs:  # else the mean over batches, which hold different numbers of tokens
                terms = {"benign_loss": 1.0, "penalty": self.args.penalty_weight, "anchor": self.args.kl_weight}
                logs["eval_loss"] = sum(weight * means.get(name, 0.0) for name, weight in terms.items())
            if mode == "train" and self.state.epoch is not None:
                logs["unsafe_row_repeats"] = self.state.epoch * self._passes[UNSAFE]
        super().log(logs, start_time)


def _with_parts(dataset: Dataset) -> Dataset:
    """Return the rows with a column that names the part of the data that each belongs to."""

    def part(row: dict[str, Any]) -> dict[str, str]:
        if any(map(is_avoided, row["labels"])):
            return {"part": UNSAFE}
        return {"part": ADDED if row.get("added") else BENIGN}

    return dataset.map(part, remove_columns=[c for c in dataset.column_names if c == "added"], desc="Marking parts")


def _pack(dataset: Dataset, max_length: int | None, *, apart: bool) -> Dataset:
    """Pack rows into sequences of at most ``max_length`` tokens; each part ``apart``, so that packs can be stratified."""
    if max_length is None:
        raise ConfigError("max_length: got None with packing, expected a number of tokens.")
    columns = dataset.select_columns(["input_ids", "labels"])
    if not apart:
        return pack_dataset(columns, max_length)
    parts = np.array(_with_parts(dataset)["part"])
    packed = []
    for name in (BENIGN, ADDED, UNSAFE):
        if (places := np.flatnonzero(parts == name)).size:
            packs = pack_dataset(columns.select(places), max_length)
            packed.append(packs.add_column("part", [name] * len(packs)))
    return concatenate_datasets(packed)
