"""What the streamed primitives promise beyond the values: every gradient, low precision, no large tensor, any tile size."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steerclear.losses import reference, streamed
from steerclear.losses.objective import objective_loss
from steerclear.losses.options import GroundCost, Tiles
from steerclear.losses.vocabulary import OutputHead, TokenEmbeddings

FORMS = [
    ("nll", GroundCost()),
    ("unlikelihood", GroundCost()),
    ("nlcl", GroundCost()),
    ("emd", GroundCost()),
    ("emd", GroundCost(kind="clipped")),
    ("emd", GroundCost(kind="clipped", centred=True)),
    ("emd_bound", GroundCost()),
    ("emd_bound", GroundCost(centred=True)),
]
each_form = pytest.mark.parametrize(
    ("objective", "cost"), FORMS, ids=[f"{o}-{c.kind}{'-centred' * c.centred}" for o, c in FORMS]
)


class Case:
    """Random inputs of an odd shape, peaked at the targets of some tokens and at other tokens for the rest."""

    def __init__(
        self, seed: int, n: int = 37, v: int = 211, d: int = 19, peak: float = 1.0, bias: bool = False
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(v, d, generator=g, dtype=torch.float64)
        self.weight[v // 2] = 0.0
        self.targets = torch.randint(v, (n,), generator=g)
        towards = torch.where(torch.arange(n) % 2 == 0, self.targets, torch.randint(v, (n,), generator=g))
        self.hidden = torch.randn(n, d, generator=g, dtype=torch.float64) + peak * self.weight[towards]
        self.bias = torch.randn(v, generator=g, dtype=torch.float64) if bias else None
        self.weights = torch.rand(n, generator=g, dtype=torch.float64)
        self.sequences = torch.arange(n) // 5
        self.weights_of_sequences = self.weights[self.sequences * 5]

    def run(
        self,
        objective: str,
        cost: GroundCost,
        dtype: torch.dtype = torch.float64,
        *,
        head_trains: bool = False,
        factor: float = 1.0,
        **options: Any,
    ) -> dict[str, torch.Tensor]:
        """The loss of each token or sequence is summed with its weight; value and gradients come back in float64."""
        hidden = self.hidden.to(dtype, copy=True).requires_grad_()
        weight = self.weight.to(dtype, copy=True).requires_grad_(head_trains)
        bias = None if self.bias is None else self.bias.to(dtype, copy=True).requires_grad_(head_trains)
        settings = {"scale": options.pop("scale", 1.0), "softcap": options.pop("softcap", None)}
        output = objective_loss(
            hidden,
            self.targets,
            OutputHead(weight_VD=weight, bias_V=bias, **settings),
            objective=objective,
            cost=cost,
            sequences_N=self.sequences,
            weights_N=(self.weights_of_sequences if objective == "nlcl" else self.weights).to(dtype),
            **options,
        )
        (factor * output.total).backward()
        found = {"total": output.total, "hidden": hidden.grad, "weight": weight.grad}
        if bias is not None:
            found["bias"] = bias.grad
        return {name: value.detach().double() for name, value in found.items() if value is not None}


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """The relative error in the Euclidean norm."""
    return float((found - truth).norm() / truth.norm().clamp(min=1e-30))


@each_form
@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 9), st.integers(2, 23), st.integers(1, 6)),
    tiles=st.tuples(st.integers(1, 10), st.integers(1, 25)),
    softcap=st.sampled_from([None, 4.0]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_tiles_give_the_reference(
    objective: str, cost: GroundCost, head_trains: bool, seed: int, shape: Any, tiles: Any, softcap: Any, bias: bool
) -> None:
    """Tiles of one token of the vocabulary too, where a tile may hold nothing but the target."""
    case = Case(seed, *shape, bias=bias)
    options = {"scale": 0.7, "softcap": softcap, "head_trains": head_trains}
    expected = case.run(objective, cost, impl="reference", **options)
    found = case.run(objective, cost, tiles=Tiles(tokens=tiles[0], vocabulary=tiles[1]), **options)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@each_form
@pytest.mark.parametrize("trains", ["hidden", "weight", "bias", "hidden weight bias"])
def test_gradcheck_of_whatever_trains(objective: str, cost: GroundCost, trains: str) -> None:
    """With only the hidden states it is the gradient formed in the forward pass; else the recomputed one."""
    case = Case(3, n=4, v=7, d=3, bias=True)
    inputs = {"hidden": case.hidden, "weight": case.weight, "bias": case.bias}
    names = trains.split()

    def loss(*given: torch.Tensor) -> torch.Tensor:
        now = inputs | dict(zip(names, given, strict=True))
        return objective_loss(
            now["hidden"],
            case.targets,
            OutputHead(weight_VD=now["weight"], bias_V=now["bias"], scale=1.3, softcap=6.0),
            objective=objective,
            cost=cost,
            embedding_VE=torch.linspace(-1, 1, 35, dtype=torch.float64).reshape(7, 5).cos(),
            sequences_N=torch.tensor([0, 0, 1, 1]),
            tiles=Tiles(tokens=3, vocabulary=2),
        ).total

    assert torch.autograd.gradcheck(loss, [inputs[name].clone().requires_grad_() for name in names])


@each_form
@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
def test_the_incoming_gradient_is_multiplied_in(objective: str, cost: GroundCost, head_trains: bool) -> None:
    case = Case(4)
    once = case.run(objective, cost, head_trains=head_trains)
    thrice = case.run(objective, cost, head_trains=head_trains, factor=3.0)
    for name in once.keys() - {"total"}:
        torch.testing.assert_close(thrice[name], 3 * once[name])


@pytest.mark.parametrize("softcap", [None, 20.0])
def test_attention_is_a_third_witness(softcap: float | None) -> None:
    """p̄ is attention with the head's rows as keys and unit embeddings as values; its own kernel gives value and gradient."""
    case = Case(5)
    unit = torch.nn.functional.normalize(case.weight, dim=-1)
    results = []
    for witness in (True, False):
        hidden = case.hidden.clone().requires_grad_()
        if witness and softcap is None:
            attended = torch.nn.functional.scaled_dot_product_attention(
                hidden[None], case.weight[None], unit[None], scale=1.0
            )[0]
        elif witness:
            attended = (softcap * torch.tanh(hidden @ case.weight.T / softcap)).softmax(-1) @ unit
        else:
            head = OutputHead(weight_VD=case.weight, softcap=softcap)
            attended, _ = streamed.expected_embedding(
                hidden, case.targets, head, TokenEmbeddings(case.weight), tiles=Tiles(tokens=10, vocabulary=50)
            )
        attended.square().sum().backward()
        assert hidden.grad is not None
        results.append((attended.detach(), hidden.grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@each_form
@pytest.mark.parametrize("factors", ["float32", "bfloat16", "bfloat16 as on CUDA"])
@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
@pytest.mark.parametrize("peak", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(37, 211, 19), (130, 67, 33)], ids=str)
def test_low_precision_errs_no_more_than_the_reference(
    objective: str,
    cost: GroundCost,
    factors: str,
    head_trains: bool,
    peak: float,
    shape: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Error against error: both against float64 on the same rounded inputs, with logits up to about 60 at ``peak`` 1.

    CUDA multiplies rounded factors into float32, which a CPU does with the same factors in float32.
    """
    dtype = torch.float32 if factors == "float32" else torch.bfloat16
    if factors.endswith("CUDA"):
        monkeypatch.setattr(streamed, "_factors", lambda _, dtype: dtype)
    ours: dict[str, list[float]] = defaultdict(list)
    plain: dict[str, list[float]] = defaultdict(list)
    for seed in range(4):
        case = Case(seed, *shape, peak=peak)
        for name in ("hidden", "weight", "weights", "weights_of_sequences"):
            setattr(case, name, getattr(case, name).to(dtype).double())
        truth = case.run(objective, cost, impl="reference", head_trains=head_trains)
        for errors, options in ((plain, {"impl": "reference"}), (ours, {"tiles": Tiles(tokens=16, vocabulary=64)})):
            found = case.run(objective, cost, dtype, head_trains=head_trains, **options)
            for name, value in truth.items():
                errors[name].append(error(found[name], value))
    # The gradient of the bound is q(v) · (ê_v·u - p̄·u). Where q(v) is near 1, the reference subtracts numbers rounded alike; the
    # pass over tiles rounds p̄·u apart, at the 7th digit, which only float32 can show.
    factor = 2.0 if (objective, factors) == ("emd_bound", "float32") else 1.25
    noise = 4 * torch.finfo(torch.float32).eps  # of a mean over four seeds
    for name in truth:
        assert mean(ours[name]) <= factor * mean(plain[name]) + noise, name


@pytest.mark.parametrize("objective", ["nll", "emd", "emd_bound"])
@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
def test_under_autocast_it_errs_no_more_than_the_reference(objective: str, head_trains: bool) -> None:
    case = Case(7, peak=0.5)
    truth = case.run(objective, GroundCost(), head_trains=head_trains)
    with torch.autocast("cpu", torch.bfloat16):
        plain = case.run(objective, GroundCost(), torch.float32, impl="reference", head_trains=head_trains)
        ours = case.run(objective, GroundCost(), torch.float32, head_trains=head_trains)
    for name, value in truth.items():
        assert error(ours[name], value) <= error(plain[name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
def test_on_a_gpu_it_errs_no_more_than_the_reference(
    objective: str, cost: GroundCost, dtype: torch.dtype, head_trains: bool
) -> None:
    case = Case(13, n=300, v=1030, d=64, peak=0.5)
    for name, value in vars(case).items():
        if torch.is_tensor(value):
            rounded = value.to(dtype).double() if value.is_floating_point() else value
            setattr(case, name, rounded.cuda())
    truth = case.run(objective, cost, impl="reference", head_trains=head_trains)
    plain = case.run(objective, cost, dtype, impl="reference", head_trains=head_trains)
    ours = case.run(objective, cost, dtype, tiles=Tiles(tokens=128, vocabulary=256), head_trains=head_trains)
    for name, value in truth.items():
        assert error(ours[name], value) <= 2 * error(plain[name], value) + 8 * torch.finfo(torch.float32).eps, name


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        for leaf in tree_leaves(made):
            if torch.is_tensor(leaf) and leaf.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, leaf.numel())
        return made


@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_neither_logits_nor_a_copy_of_the_head_exist(
    objective: str, cost: GroundCost, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerclear.losses.vocabulary._SLICE", 50)
    n, v, d = 60, 500, 40
    case = Case(8, n, v, d)
    hidden, head, sizes = case.hidden.to(dtype).requires_grad_(), OutputHead(weight_VD=case.weight.to(dtype)), {}
    for impl in ("reference", "streamed"):
        with LargestTensor() as seen:
            objective_loss(
                hidden,
                case.targets,
                head,
                objective=objective,
                cost=cost,
                sequences_N=case.sequences,
                impl=impl,
                tiles=Tiles(tokens=20, vocabulary=50),
            ).total.backward()
        sizes[impl] = seen.elements
    assert sizes["reference"] >= n * v
    # The largest are inputs and sums of the width of the hidden states, and tiles.
    assert sizes["streamed"] <= max(n * d, 50 * d, 20 * 50)


def test_nothing_is_kept_or_made_where_no_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []

    class Spy(streamed.OnlineSums):
        def __init__(self, walk: Any, *, gradient: bool) -> None:
            made.append(gradient)
            super().__init__(walk, gradient=gradient)

    monkeypatch.setattr(streamed, "OnlineSums", Spy)
    case = Case(9)
    hidden = case.hidden.clone().requires_grad_()
    head = OutputHead(weight_VD=case.weight)
    with torch.no_grad():
        assert not streamed.log_odds(hidden, case.targets, head).requires_grad
    assert not streamed.log_odds(case.hidden, case.targets, head).requires_grad
    streamed.log_odds(hidden, case.targets, head).sum().backward()
    assert hidden.grad is not None
    assert case.weight.grad is None
    assert made == [False, False, True]


def test_the_monitored_log_odds_carry_no_gradient() -> None:
    case = Case(10)
    head, embeddings = OutputHead(weight_VD=case.weight), TokenEmbeddings(case.weight)
    for primitives in (reference, streamed):
        hidden = case.hidden.clone().requires_grad_()
        assert not primitives.expected_cost(hidden, case.targets, head, embeddings, "cosine")[1].requires_grad
        assert not primitives.expected_embedding(hidden, case.targets, head, embeddings)[1].requires_grad


def test_a_second_derivative_is_an_error_not_a_wrong_number() -> None:
    case = Case(11)
    hidden = case.hidden.clone().requires_grad_()
    total = objective_loss(hidden, case.targets, OutputHead(weight_VD=case.weight), objective="nll").total
    (gradient,) = torch.autograd.grad(total, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_same_inputs_twice_give_the_same_bits() -> None:
    case = Case(12)
    first, second = (case.run("emd", GroundCost(kind="clipped"), torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
