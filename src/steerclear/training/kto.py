"""KTO, the paper's rival: TRL's trainer on the rows and tokens of `SteerClearTrainer`, with the base model as reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor
from trl import KTOTrainer

from steerclear.data.signed_labels import IGNORED, is_avoided
from steerclear.data.tokenization import AvoidTokens
from steerclear.errors import ConfigError, DataError
from steerclear.training.arguments import KTO, KtoBaselineConfig
from steerclear.training.ranks import sum_over_ranks
from steerclear.training.rows import fill_batches, tokenize_rows
from steerclear.training.sampler import BENIGN, UNSAFE, rows_per_step, seed_of_rows

ADVISED_RATIO = (1.0, 4 / 3)
"""Of λ_D n_D / (λ_U n_U): KTO's paper, Eq. 8."""


@dataclass(frozen=True)
class KtoWeights:
    """How much a row counts, by its kind, and how many rows there are of each."""

    desirable: float
    """λ_D."""
    undesirable: float
    """λ_U."""
    n_desirable: int
    n_undesirable: int

    @property
    def ratio(self) -> float:
        """λ_D n_D / (λ_U n_U)."""
        return self.desirable * self.n_desirable / (self.undesirable * self.n_undesirable)

    def __str__(self) -> str:
        low, high = ADVISED_RATIO
        # Half a percent: weights are given rounded.
        inside = low - 0.005 <= self.ratio <= high + 0.005
        return (
            f"KTO: {self.n_desirable} desirable (benign) rows of weight {self.desirable:.4g}, {self.n_undesirable} undesirable "
            f"(unsafe) rows of weight {self.undesirable:.4g}; ratio of the totals {self.ratio:.3g}, "
            f"{'within' if inside else 'outside'} the {low:g} to {high:.3g} that KTO's paper advises."
        )


def kto_weights(
    n_desirable: int, n_undesirable: int, desirable: float | None = None, undesirable: float | None = None
) -> KtoWeights:
    """Return λ_D and λ_U with λ_D n_D = λ_U n_U, where they are not given: the rarer kind is raised, the other stays at 1.

    Of the ratios that KTO's paper advises, 1 to 4/3, that is the one which weighs unsafe rows most, and is λ_D = λ_U = 1 on
    balanced rows.

    Args:
        desirable: λ_D as given; λ_U then follows from it, and the other way round. Both given: both stay.

    >>> kto_weights(1000, 100)
    KtoWeights(desirable=1.0, undesirable=10.0, n_desirable=1000, n_undesirable=100)
    >>> kto_weights(50, 100, undesirable=3.0).desirable
    6.0
    """
    share = n_desirable / n_undesirable
    if desirable is None and undesirable is None:
        desirable = max(1.0, 1 / share)
    if desirable is None:
        desirable = undesirable / share  # type: ignore[operator]  # one of the two is given
    if undesirable is None:
        undesirable = desirable * share
    return KtoWeights(desirable, undesirable, n_desirable, n_undesirable)


class KtoBaselineTrainer(KTOTrainer):
    """KTO: benign rows are desirable, unsafe ones undesirable, the reference is the base model (its adapter off).

    Rows are the columns that `SteerClearTrainer` takes, and their tokens and end tokens are the same. Each row counts once an
    epoch, drawn uniformly from all; their order is shuffled once and is that of every epoch, since TRL pairs prompts with other
    answers of the same micro-batch, beforehand, to estimate the KL. Evaluation gives the plain negative log-likelihood of
    benign rows, ``eval_benign_loss``, in place of KTO's loss, which says nothing where all rows are desirable.

    Raises:
        ConfigError: there are no benign or no unsafe rows, or the adapter is on the output layer.
        DataError: a column is missing, a row has a weight of its own, or no answer token left.
    """

    _tag_names = ["steerclear", "kto"]  # noqa: RUF012 (declared so by the base class)

    def __init__(self, model: Any, args: KtoBaselineConfig, **kwargs: Any) -> None:
        if "lm_head" in (getattr(kwargs.get("peft_config"), "target_modules", None) or ()):
            raise ConfigError(f"target_modules: got lm_head with objective '{KTO}', whose loss would pass it by.")
        self.tokens_cut: dict[str, dict[str, int]] = {}
        """As `SteerClearTrainer.tokens_cut`."""
        self._heldout: list[Tensor | int] = [0, 0]
        """Negative log-likelihood and tokens since the last log."""
        super().__init__(model, args=args, **kwargs)
        desirable = sum(self.train_dataset["label"])
        self.weights = kto_weights(
            desirable, len(self.train_dataset) - desirable, args.desirable_weight, args.undesirable_weight
        )
        """λ_D and λ_U of the rows that are trained on."""
        # TRL's loss reads the attributes; the arguments are what is saved with a run.
        self.desirable_weight = args.desirable_weight = self.weights.desirable
        self.undesirable_weight = args.undesirable_weight = self.weights.undesirable

    # ── data ──

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        """Tokenize as for the other objectives, in place of TRL's preparation, which also keeps the rows in their order."""
        if "weight" in dataset.column_names and set(dataset["weight"]) - {None, 1.0}:
            raise DataError(
                f"{dataset_name}: has rows with a weight of their own; objective '{KTO}' has only one per kind."
            )
        tokenized, self.tokens_cut[dataset_name] = tokenize_rows(
            dataset, processing_class, AvoidTokens(whole=True), args, dataset_name
        )
        rows = tokenized.map(_as_pair, remove_columns="added", desc=f"Splitting {dataset_name} dataset")
        if dataset_name != "train":
            return fill_batches(rows, args, lambda _: {"completion_ids": []})
        unsafe = rows["part"].count(UNSAFE)
        if not 0 < unsafe < len(rows):
            raise ConfigError(
                f"objective: '{KTO}' needs desirable and undesirable rows, got {len(rows) - unsafe} benign and {unsafe} unsafe."
            )
        rows = rows.select(np.random.default_rng(seed_of_rows(args)).permutation(len(rows)))
        others = other_completions(rows["completion_ids"], args.per_device_train_batch_size)
        return rows.add_column("KL_completion_ids", others)

    def sampling_summary(self) -> dict[str, Any]:
        """Return how rows are drawn, as `SteerClearTrainer.sampling_summary`, and how they are weighed."""
        return {
            "sampling": "uniform",
            "rows_per_step": rows_per_step(self.args),
            "unsafe_passes_per_epoch": 1.0,
            "desirable_weight": self.weights.desirable,
            "undesirable_weight": self.weights.undesirable,
            "weight_ratio": self.weights.ratio,
        }

    # ── held-out rows ──

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Return KTO's loss of a micro-batch, or in evaluation the mean negative log-likelihood of its answer tokens."""
        if self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        output = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, IGNORED),
            fused_lm_head=True,
        )
        total, tokens = -output.log_probs.sum(), inputs["completion_mask"][:, 1:].sum()
        self._heldout = [self._heldout[0] + total, self._heldout[1] + tokens]
        loss = total / tokens.clamp(min=1)
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean negative log-likelihood of the held-out rows' tokens, over all ranks, to an evaluation's figures."""
        if not self.model.training:
            total, tokens = (sum_over_ranks(self, value) for value in self._heldout)
            self._heldout = [0, 0]
            if tokens:
                logs["eval_benign_loss"] = total / tokens
                if "eval_loss" in logs:  # else the mean over batches, which hold different numbers of tokens
                    logs["eval_loss"] = total / tokens
        super().log(logs, start_time)


def _as_pair(row: dict[str, Any]) -> dict[str, Any]:
    """Return TRL's columns of a tokenized row, whose labels are set on its completion and signed by its kind."""
    ids, labels = row["input_ids"], row["labels"]
    begin = next(i for i, label in enumerate(labels) if label != IGNORED)
    unsafe = is_avoided(labels[begin])
    return {
        "prompt_ids": ids[:begin],
        "completion_ids": ids[begin:],
        "label": not unsafe,
        "part": UNSAFE if unsafe else BENIGN,
    }


def other_completions(completions: Sequence[list[int]], rows: int) -> list[list[int]]:
    """Return for each row the completion of another row of its micro-batch, from which TRL estimates the KL.

    A row that is alone in the last micro-batch takes that of the row before; TRL's own preparation compares it with itself.

    Args:
        rows: rows of a micro-batch.

    >>> other_completions([[1], [2], [3], [4], [5]], rows=2)
    [[2], [1], [4], [3], [4]]
    """
    others: list[list[int]] = []
    for start in range(0, len(completions), rows):
        own = list(completions[start : start + rows])
        others += [completions[start - 1]] if len(own) == 1 and start else [own[-1], *own[:-1]]
    return others
