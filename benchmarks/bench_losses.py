"""Time and memory of the losses: full logits, streamed, and the fused heads of others.

    python benchmarks/bench_losses.py [--smoke] [--rounds 5] [--threads 2] [--parts float32 bfloat16 growth tiles]

Every arm is measured forward, backward, and both, in paired rounds. The floor of an objective is the time of the
matrix products that it cannot do without, at the speed at which this machine multiplies matrices of these shapes in the same run.
On a GPU the sizes are larger and the numbers bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import linregress
from torch import Tensor
from torch.nn import functional

from measure import (
    MIB,
    Recorder,
    benchmark_parser,
    paired_times,
    parse_and_set_threads,
    peak_memory,
    summary,
    wait_for_device,
)
from steerclear.losses.objective import objective_loss
from steerclear.losses.options import GroundCost, Tiles
from steerclear.losses.vocabulary import OutputHead

Inputs = tuple[Tensor, Tensor, Tensor]
"""Hidden states [N, D], head [V, D] and targets [N]."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From these to a scalar."""


@dataclass(frozen=True)
class Size:
    """Scored tokens, vocabulary, hidden width, and the number type."""

    tokens: int
    vocabulary: int
    width: int
    dtype: torch.dtype = torch.float32

    def inputs(self, *, head_trains: bool) -> Inputs:
        """Random hidden states, head and targets; logits have a standard deviation of about 2."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        g = torch.Generator(device).manual_seed(0)
        hidden = torch.randn(self.tokens, self.width, generator=g, device=device).to(self.dtype).requires_grad_()
        head = (0.02 * torch.randn(self.vocabulary, self.width, generator=g, device=device)).to(self.dtype)
        targets = torch.randint(self.vocabulary, (self.tokens,), generator=g, device=device)
        return hidden, head.requires_grad_(head_trains), targets


OBJECTIVES: dict[str, dict[str, Any]] = {
    "nll": {"objective": "nll"},
    "emd clipped": {"objective": "emd", "cost": GroundCost(kind="clipped")},
    "emd cosine": {"objective": "emd", "cost": GroundCost()},
    "emd_bound": {"objective": "emd_bound", "cost": GroundCost()},
    "nlcl": {"objective": "nlcl"},
}

PRODUCTS = {"nll": 2, "nlcl": 2, "emd clipped": 3, "emd cosine": 3, "emd_bound": 4}
"""Products of [N, D] by [D, V] that an objective cannot do without, with a frozen head: logits, the cost's or the mean's, for the
bound that of the mean's gradient, and the hidden states' gradient. A head that trains needs one more."""


def ours(impl: str, options: dict[str, Any], tiles: Tiles | None = None) -> Loss:
    """Return a loss of this package."""

    def loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        sequences = torch.arange(len(targets), device=targets.device) // 64
        return objective_loss(
            hidden, targets, OutputHead(head), sequences_N=sequences, impl=impl, tiles=tiles, **options
        ).total

    return loss


def others() -> Iterator[tuple[str, Loss]]:
    """Yield the negative log-likelihoods of others that run on this device."""
    yield "torch cross_entropy", lambda h, w, y: functional.cross_entropy((h @ w.T).float(), y, reduction="sum")
    if hasattr(functional, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        yield (
            "torch linear_cross_entropy",
            lambda h, w, y: functional.linear_cross_entropy(h, w, y, reduction="sum", options=options),
        )
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    yield (
        "TRL fused head",
        lambda h, w, y: -ChunkedLogProbFunction.apply(h, w, None, y, 1.0, 32768, None, 1.0, ())[0].sum(),
    )
    if torch.cuda.is_available():
        try:
            from liger_kernel.transformers.fused_linear_cross_entropy import (  # type: ignore[import-not-found,unused-ignore]
                LigerFusedLinearCrossEntropyLoss,
            )
        except ImportError:
            return
        liger = LigerFusedLinearCrossEntropyLoss(reduction="sum")
        yield "Liger", lambda h, w, y: liger(w, h, y)


def phases(loss: Loss, inputs: Inputs) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return forward and backward of one training step as work to time, one after the other."""
    totals: list[Tensor] = []

    def forward() -> None:
        clear_gradients(inputs)
        totals.append(loss(*inputs))

    def backward() -> None:
        totals.pop().backward()

    return forward, backward


def clear_gradients(inputs: Inputs) -> None:
    """Drop the gradients of hidden states and head."""
    for tensor in inputs[:2]:
        tensor.grad = None


def extra_peak(work: Sequence[Callable[[], None]], inputs: Inputs) -> tuple[float | None, list[list[float]]]:
    """Return the extra peak memory of forward and backward, MiB, and their seconds in that one run, by phase and round.

    One run before it fills the caches of the libraries. The gradients that the run leaves behind are in the memory.
    """
    seconds: list[list[float]] = [[] for _ in work]

    def step() -> None:
        for part, own in zip(work, seconds, strict=True):
            start = time.perf_counter()
            part()
            wait_for_device()
            own.append(time.perf_counter() - start)

    step()
    clear_gradients(inputs)
    return peak_memory(step).extra_mib, [own[1:] for own in seconds]


def both(phase_seconds: Sequence[Sequence[float]]) -> list[float]:
    """Return the seconds of all phases together, by round."""
    return [sum(parts) for parts in zip(*phase_seconds, strict=True)]


def multiply_rate(size: Size, rounds: int) -> float:
    """Return the floating-point operations a second of [N, D] by [D, V] products, the best tile's of those tried."""
    hidden, head, _ = size.inputs(head_trains=False)
    hidden = hidden.detach()
    best = 0.0
    for tile in (1024, 8192, size.vocabulary):
        tile = min(tile, size.vocabulary)
        out = torch.empty(size.tokens, tile, dtype=size.dtype, device=hidden.device)

        def work(tile: int = tile, out: Tensor = out) -> None:
            for start in range(0, size.vocabulary - tile + 1, tile):
                torch.mm(hidden, head[start : start + tile].T, out=out)

        done = 2 * size.tokens * size.width * (size.vocabulary // tile) * tile
        best = max(best, done / min(paired_times({"mm": [work]}, rounds)["mm"][0]))
    return best


def compare(recorder: Recorder, size: Size, objective: str, rounds: int, *, head_trains: bool) -> None:
    """Measure one objective in every implementation, and record a row an arm."""
    inputs = size.inputs(head_trains=head_trains)
    arms = {impl: ours(impl, OBJECTIVES[objective]) for impl in ("reference", "streamed")}
    if objective == "nll":
        arms |= dict(others())
    work = {name: phases(loss, inputs) for name, loss in arms.items()}
    memory: dict[str, float | None] = {}
    times: dict[str, list[list[float]]] = {}
    for name in list(work):
        try:
            memory[name], once = extra_peak(work[name], inputs)
        except torch.OutOfMemoryError:
            recorder.add("loss", objective=objective, arm=name, tokens=size.tokens, failed="out of memory")
            del work[name]
            continue
        if name == "reference":
            patience = 5 * sum(map(sum, once))
        elif "reference" in memory and sum(map(sum, once)) > patience:
            times[name] = once
            del work[name]
    times |= paired_times(work, rounds)
    operations = (PRODUCTS[objective] + head_trains) * 2 * size.vocabulary * size.width
    rate = multiply_rate(size, max(2, rounds // 2))
    base = times.get("reference")
    for name, (forward, backward) in times.items():
        # An arm far slower than the reference ran once; its ratio is to the reference's first round.
        against = [own[: len(forward)] for own in base] if base else None
        whole = summary(both(times[name]), both(against) if against else None)
        alone = [summary(mine, against[i] if against else None) for i, mine in enumerate((forward, backward))]
        peak, base_peak = memory[name], memory.get("reference")
        recorder.add(
            "loss", objective=objective, head="trains" if head_trains else "frozen", arm=name,
            tokens=size.tokens, vocabulary=size.vocabulary, width=size.width, dtype=str(size.dtype).removeprefix("torch."),
            seconds=whole["p50"], seconds_p20=whole["p20"], seconds_p80=whole["p80"], runs=whole["runs"],
            forward_seconds=alone[0]["p50"], backward_seconds=alone[1]["p50"], ratio_time=whole.get("ratio"),
            ratio_forward=alone[0].get("ratio"), ratio_backward=alone[1].get("ratio"),
            extra_peak_mib=peak, ratio_memory=peak / base_peak if peak is not None and base_peak else None,
            operations_per_token=operations,
            bytes_per_token=size.vocabulary * size.width * size.dtype.itemsize / size.tokens,
            multiply_gflops=rate / 1e9, share_of_floor=operations * size.tokens / rate / whole["p50"],
        )  # fmt: skip


def growth(recorder: Recorder, along: str, sizes: list[Size], rounds: int) -> None:
    """Measure the streamed forms at several sizes and record the fit of a straight line through the medians."""
    # Whole numbers, which the recorder does not round.
    at: list[int] = [getattr(size, along) for size in sizes]
    for objective in ("nll", "emd clipped", "emd_bound"):
        medians = []
        for size in sizes:
            inputs = size.inputs(head_trains=False)
            seconds = paired_times({"": phases(ours("streamed", OBJECTIVES[objective]), inputs)}, rounds)[""]
            medians.append(summary(both(seconds))["p50"])
        line = linregress(at, medians)
        recorder.add(
            "growth", objective=objective, along=along, at=at, seconds=medians, seconds_per_thousand=1000 * line.slope,
            intercept=line.intercept, r_squared=line.rvalue**2,
        )  # fmt: skip


def tile_sizes(recorder: Recorder, size: Size, rounds: int) -> None:
    """Measure the streamed exact EMD over tile sizes."""
    inputs = size.inputs(head_trains=False)
    tiles = [
        Tiles(tokens=tokens, vocabulary=vocabulary)
        for tokens in (256, 1024)
        for vocabulary in (256, 1024, 4096, 16384)
        if tokens == 256 or size.tokens > 256
    ]
    arms = {
        f"{tile.tokens} x {tile.vocabulary}": phases(ours("streamed", OBJECTIVES["emd clipped"], tile), inputs)
        for tile in tiles
    }
    for (name, seconds), tile in zip(paired_times(arms, rounds).items(), tiles, strict=True):
        recorder.add(
            "tiles", tiles=name, seconds=summary(both(seconds))["p50"], extra_peak_mib=extra_peak(arms[name], inputs)[0],
            tile_mib=tile.tokens * tile.vocabulary * 4 / MIB,
        )  # fmt: skip


PARTS = ("float32", "bfloat16", "growth", "tiles")


def sizes_of(part: str, *, smoke: bool) -> list[Size]:
    """Return the sizes that a part measures; on a GPU all are bfloat16."""
    if smoke:
        return [Size(16, 600, 8)]
    if torch.cuda.is_available():
        return [Size(tokens, 128_256, 4096, torch.bfloat16) for tokens in (1024, 4096, 16384)]
    if part == "bfloat16":
        return [Size(512, 8192, 512, torch.bfloat16)]  # a CPU without such instructions takes seconds for more
    return [Size(512, 128_256, 512), Size(2048, 4096, 256)]


def measure(part: str, recorder: Recorder, rounds: int, *, smoke: bool) -> None:
    """Measure one part."""
    sizes = sizes_of(part, smoke=smoke)
    first = sizes[0]
    if part in ("float32", "bfloat16"):
        for size in sizes:
            for head_trains in (False,) if part == "bfloat16" and not smoke else (False, True):
                for objective in OBJECTIVES:
                    compare(recorder, size, objective, rounds, head_trains=head_trains)
    elif part == "growth":
        steps = (1, 2, 4, 8, 16)
        quarter = first.vocabulary // 4
        at = [Size(max(4, first.tokens * k // 8), quarter, first.width, first.dtype) for k in steps]
        growth(recorder, "tokens", at, rounds)
        at = [Size(first.tokens, first.vocabulary * k // 16, first.width, first.dtype) for k in steps]
        growth(recorder, "vocabulary", at, rounds)
    else:
        tile_sizes(recorder, Size(2 * first.tokens, first.vocabulary // 4, first.width, first.dtype), rounds)


def main() -> None:
    """Measure and record."""
    parser = benchmark_parser(__doc__, smoke="at small sizes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    arguments = parse_and_set_threads(parser)
    for part in arguments.parts:
        if torch.cuda.is_available() and part == "float32":
            continue
        recorder = Recorder(f"losses-{part}", save=not arguments.smoke)
        measure(part, recorder, arguments.rounds, smoke=arguments.smoke)
        recorder.close()


if __name__ == "__main__":
    main()
