"""Both implementations against independent oracles: a linear program, hand-worked numbers, finite differences, and properties.

The streamed one runs in tiles smaller than the inputs, so that every edge between tiles is crossed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.errors import ConfigError
from steerclear.losses.objective import objective_loss
from steerclear.losses.options import AVOIDANCE_OBJECTIVES, REFERENCE_OBJECTIVES, GroundCost, LossOptions, Tiles
from steerclear.losses.vocabulary import OutputHead, TokenEmbeddings

EMD_FORMS = [
    ("emd_bound", GroundCost()),
    ("emd", GroundCost()),
    ("emd", GroundCost(kind="clipped")),
    ("emd_bound", GroundCost(centred=True)),
    ("emd", GroundCost(kind="clipped", centred=True)),
]
IMPLS: list[dict[str, Any]] = [
    {"impl": "reference"},
    {"impl": "streamed", "tiles": Tiles(tokens=2, vocabulary=3)},
]
each_impl = pytest.mark.parametrize("impl", IMPLS, ids=lambda impl: impl["impl"])
ALL_FORMS = [
    *EMD_FORMS,
    *((name, GroundCost()) for name in ("nlcl", "unlikelihood", "nll", "gradient_ascent", "simnpo")),
]


def case(
    seed: int, n: int = 5, v: int = 7, d: int = 4, scale: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor, OutputHead]:
    """Random hidden states, targets and head in float64."""
    g = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(n, d, generator=g, dtype=torch.float64)
    targets = torch.randint(v, (n,), generator=g)
    return hidden, targets, OutputHead(weight_VD=torch.randn(v, d, generator=g, dtype=torch.float64))


def one_by_one(hidden: torch.Tensor, targets: torch.Tensor, head: OutputHead, **options: object) -> torch.Tensor:
    """The loss of each token alone."""
    return torch.stack(
        [
            objective_loss(hidden[i : i + 1], targets[i : i + 1], head, sequences_N=torch.zeros(1), **options).total  # type: ignore[arg-type]
            for i in range(len(targets))
        ]
    )


def transport_cost(p: np.ndarray, target: int, cost: np.ndarray) -> float:
    """Eq. 3 solved as a linear program, with the mass of the data on one token."""
    q = np.zeros_like(p)
    q[target] = 1.0
    return float(ot.emd2(p / p.sum(), q, np.ascontiguousarray(cost)))


@each_impl
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["cosine", "clipped"])
def test_exact_emd_is_the_linear_program(impl: Any, seed: int, kind: str) -> None:
    hidden, targets, head = case(seed)
    unit = torch.nn.functional.normalize(head.weight_VD, dim=-1)
    similarity = (unit @ unit.T).numpy()
    cost = 1 - (similarity.clip(min=0) if kind == "clipped" else similarity)
    expected = [
        transport_cost(p, int(y), cost)
        for p, y in zip((hidden @ head.weight_VD.T).softmax(-1).numpy(), targets, strict=True)
    ]
    got = one_by_one(hidden, targets, head, objective="emd", cost=GroundCost(kind=kind), **impl)
    np.testing.assert_allclose(-got.numpy(), expected, rtol=1e-9)


@each_impl
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 30))
@settings(max_examples=60, deadline=None)
def test_bound_is_at_most_the_linear_program_and_the_constant_is_tight(impl: Any, seed: int, scale: float) -> None:
    hidden, targets, head = case(seed, scale=scale)
    unit = torch.nn.functional.normalize(head.weight_VD, dim=-1)
    cost = (1 - unit @ unit.T).numpy().clip(min=0)
    bound = -one_by_one(hidden, targets, head, objective="emd_bound", **impl).numpy()
    for p, y, b in zip((hidden @ head.weight_VD.T).softmax(-1).numpy(), targets, bound, strict=True):
        assert 0 <= b <= transport_cost(p, int(y), cost) + 1e-9
    # All mass on one token leaves no Jensen gap, so the bound meets the cost: the constant 1/2 cannot be larger.
    sure = OutputHead(weight_VD=head.weight_VD, bias_V=torch.eye(7, dtype=torch.float64)[3] * 1e3)
    met = -one_by_one(hidden * 0, targets, sure, objective="emd_bound", **impl)
    np.testing.assert_allclose(met.numpy(), cost[3, targets.numpy()], atol=1e-9)


@each_impl
def test_hand_worked_numbers(impl: Any) -> None:
    # Three tokens at 0°, 90° and 180°; the hidden state gives probabilities 1/2, 1/4, 1/4; the target is token 0.
    embedding = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], dtype=torch.float64)
    head = OutputHead(weight_VD=torch.tensor([[math.log(2)], [0.0], [0.0]], dtype=torch.float64))
    hidden, target = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0])

    def value(objective: str, cost: GroundCost | None = None) -> float:
        return float(
            objective_loss(
                hidden,
                target,
                head,
                objective=objective,
                cost=cost,
                embedding_VE=embedding,
                sequences_N=torch.zeros(1),
                **impl,
            ).total
        )

    # Costs 0, 1, 2 (clipped 0, 1, 1); p̄ = (1/2 - 1/4, 1/4), so ‖p̄ - (1, 0)‖² = 9/16 + 1/16.
    assert value("emd") == pytest.approx(-(1 / 4 + 2 / 4))
    assert value("emd", GroundCost(kind="clipped")) == pytest.approx(-1 / 2)
    assert value("emd_bound") == pytest.approx(-0.5 * 10 / 16)
    assert value("nll") == pytest.approx(math.log(2))
    assert value("unlikelihood") == pytest.approx(math.log(2))
    assert value("nlcl") == pytest.approx(math.log(2))


@each_impl
def test_nlcl_normalises_by_length_and_keeps_sequences_apart(impl: Any) -> None:
    # Probabilities 1/2 and 1/8 in one sequence: P = exp(mean log p) = 1/4. The other sequence has P = 1/2.
    head = OutputHead(weight_VD=torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    logit = torch.tensor([[0.0], [math.log(1 / 7)], [0.0]], dtype=torch.float64)
    output = objective_loss(
        logit, torch.tensor([0, 0, 0]), head, objective="nlcl", sequences_N=torch.tensor([9, 9, 4]), **impl
    )
    assert output.total.item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2))
    assert int(output.count) == 2
    assert int(output.tokens) == 3


@each_impl
@pytest.mark.parametrize(("objective", "cost"), ALL_FORMS)
def test_gradcheck_in_float64(impl: Any, objective: str, cost: GroundCost) -> None:
    hidden, targets, head = case(1, n=4)
    embedding = torch.randn(7, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    bias = torch.linspace(-1, 1, 7, dtype=torch.float64)

    def loss(h: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return objective_loss(
            h,
            targets,
            OutputHead(weight_VD=w, bias_V=b, scale=0.7, softcap=5.0),
            objective=objective,
            cost=cost,
            embedding_VE=embedding,
            sequences_N=torch.tensor([0, 0, 1, 1]),
            weights_N=torch.tensor([1.0, 1.0, 0.3, 0.3], dtype=torch.float64),
            **impl,
        ).total

    inputs = [t.clone().requires_grad_() for t in (hidden, head.weight_VD, bias)]
    assert torch.autograd.gradcheck(loss, inputs)


@each_impl
@pytest.mark.parametrize(("objective", "cost"), ALL_FORMS)
@given(seed=st.integers(0, 10_000), split=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_two_parts_add_up_and_a_shift_changes_nothing(
    impl: Any, objective: str, cost: GroundCost, seed: int, split: int
) -> None:
    hidden, targets, head = case(seed, n=6)
    sequences = torch.arange(6)
    options = {"objective": objective, "cost": cost, **impl}

    def run(part: slice, used: OutputHead = head) -> tuple[float, int]:
        output = objective_loss(hidden[part], targets[part], used, sequences_N=sequences[part], **options)  # type: ignore[arg-type]
        return output.total.item(), int(output.count)

    whole, first, second = run(slice(None)), run(slice(0, split)), run(slice(split, None))
    assert first[0] + second[0] == pytest.approx(whole[0], rel=1e-9, abs=1e-9)
    assert first[1] + second[1] == whole[1] == 6
    shifted = OutputHead(weight_VD=head.weight_VD, bias_V=torch.full((7,), 40.0, dtype=torch.float64))
    assert run(slice(None), shifted)[0] == pytest.approx(whole[0], rel=1e-9, abs=1e-9)


@each_impl
@pytest.mark.parametrize(("objective", "cost"), ALL_FORMS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_renaming_the_vocabulary_changes_nothing(impl: Any, objective: str, cost: GroundCost, seed: int) -> None:
    hidden, targets, head = case(seed)
    names = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    renamed = OutputHead(weight_VD=torch.empty_like(head.weight_VD).index_copy(0, names, head.weight_VD))
    options = {"objective": objective, "cost": cost, "sequences_N": torch.zeros(5), **impl}
    before = objective_loss(hidden, targets, head, **options)  # type: ignore[arg-type]
    after = objective_loss(hidden, names[targets], renamed, **options)  # type: ignore[arg-type]
    assert float(after.total) == pytest.approx(float(before.total), rel=1e-9)


@each_impl
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 50))
@settings(max_examples=40, deadline=None)
def test_emd_is_bounded_and_clipping_never_raises_it(impl: Any, seed: int, scale: float) -> None:
    hidden, targets, head = case(seed, scale=scale)
    exact = -one_by_one(hidden, targets, head, objective="emd", **impl)
    clipped = -one_by_one(hidden, targets, head, objective="emd", cost=GroundCost(kind="clipped"), **impl)
    rounding = 1e-12
    assert bool(((exact >= -rounding) & (exact <= 2 + rounding)).all())
    assert bool(((clipped >= -rounding) & (clipped <= 1 + rounding) & (clipped <= exact + rounding)).all())


@each_impl
@pytest.mark.parametrize(("objective", "cost"), ALL_FORMS)
def test_nothing_scored_is_an_exact_zero_that_stays_in_the_graph(impl: Any, objective: str, cost: GroundCost) -> None:
    hidden = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(7, 4, requires_grad=True)
    nothing = torch.zeros(3, dtype=torch.bool)
    output = objective_loss(
        hidden[nothing],
        torch.zeros(0, dtype=torch.long),
        OutputHead(weight_VD=weight),
        objective=objective,
        cost=cost,
        sequences_N=torch.zeros(0),
        weights_N=torch.zeros(0),
        **impl,
    )
    assert output.total.item() == 0.0
    assert int(output.count) == int(output.tokens) == 0
    output.total.backward()
    assert hidden.grad is not None
    assert not hidden.grad.any()
    assert weight.grad is not None
    assert not weight.grad.any()


@each_impl
@pytest.mark.parametrize(("objective", "cost"), ALL_FORMS)
def test_weights_scale_the_loss_but_not_the_count(impl: Any, objective: str, cost: GroundCost) -> None:
    hidden, targets, head = case(2)
    options = {"objective": objective, "cost": cost, "sequences_N": torch.tensor([0, 0, 1, 1, 1]), **impl}
    plain = objective_loss(hidden, targets, head, **options)  # type: ignore[arg-type]
    double = objective_loss(hidden, targets, head, weights_N=torch.full((5,), 2.0), **options)  # type: ignore[arg-type]
    assert double.total.item() == pytest.approx(2 * plain.total.item())
    assert int(double.count) == int(plain.count)


@each_impl
@pytest.mark.parametrize("objective", ["unlikelihood", "nlcl"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_certainty_stays_finite_and_still_pushes(impl: Any, objective: str, dtype: torch.dtype) -> None:
    # p(y) = 1 to the last bit of bfloat16 and of float32. The gradient of -log(1 - p) on the logit of y is p, so about 1.
    hidden = torch.full((1, 1), 60.0, dtype=dtype, requires_grad=True)
    head = OutputHead(weight_VD=torch.tensor([[1.0], [0.0], [0.0]], dtype=dtype))
    output = objective_loss(hidden, torch.tensor([0]), head, objective=objective, sequences_N=torch.zeros(1), **impl)
    output.total.backward()
    assert math.isfinite(output.total.item())
    assert hidden.grad is not None
    assert float(hidden.grad) == pytest.approx(1.0, rel=1e-2)


@each_impl
@pytest.mark.parametrize("gap", [30.0, -30.0])
def test_both_probabilities_keep_their_digits_near_one(impl: Any, gap: float) -> None:
    # Two tokens a logit difference of 30 apart: the smaller probability is 1/(1 + e^30), which float32 rounds away in the other.
    head = OutputHead(weight_VD=torch.tensor([[1.0], [0.0]]))

    def loss(objective: str) -> float:
        return objective_loss(torch.tensor([[gap]]), torch.tensor([0]), head, objective=objective, **impl).total.item()

    likely, unlikely = ("nll", "unlikelihood") if gap > 0 else ("unlikelihood", "nll")
    assert loss(likely) == pytest.approx(math.exp(-30), rel=1e-5)
    assert loss(unlikely) == pytest.approx(30.0, rel=1e-6)


@each_impl
def test_gradients_where_the_model_is_confident_of_the_unsafe_token(impl: Any) -> None:
    # METHOD: at p_y near 1 the bound is flat, the exact form is not quite, unlikelihood pushes with full force.
    def norm(objective: str) -> float:
        logits = torch.tensor([[8.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        head = OutputHead(weight_VD=torch.eye(3, dtype=torch.float64))
        objective_loss(logits, torch.tensor([0]), head, objective=objective, **impl).total.backward()
        assert logits.grad is not None
        return float(logits.grad.norm())

    assert norm("emd_bound") < 1e-2 * norm("emd") < 1e-4 * norm("unlikelihood")


@each_impl
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["cosine", "clipped"])
def test_rows_of_norm_zero_cost_one(impl: Any, centred: bool, kind: str) -> None:
    """As target and as the other token, and a target of norm zero against itself too."""
    embedding = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    head = OutputHead(weight_VD=torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64))
    for target, sure in ((0, 1), (1, 1), (1, 0)):
        hidden = torch.full((1, 1), 1e3 if sure == 1 else -1e3, dtype=torch.float64)
        cost = GroundCost(kind=kind, centred=centred)
        output = objective_loss(
            hidden, torch.tensor([target]), head, objective="emd", cost=cost, embedding_VE=embedding, **impl
        )
        assert output.total.item() == pytest.approx(-1.0)


def test_options_may_be_given_as_an_object_by_their_names_or_both() -> None:
    hidden, targets, head = case(3)
    named = objective_loss(hidden, targets, head, objective="unlikelihood", until=0.05, gate_power=0.5, cost=None)
    options = LossOptions(objective="unlikelihood", until=0.05)
    given = objective_loss(hidden, targets, head, options, gate_power=0.5)
    assert given.total.item() == named.total.item() != objective_loss(hidden, targets, head, options).total.item()
    with pytest.raises(TypeError, match="untill"):
        objective_loss(hidden, targets, head, objective="unlikelihood", untill=0.05)


def test_centring_subtracts_the_mean_of_the_used_rows() -> None:
    weight = torch.tensor([[3.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(
        TokenEmbeddings(weight, centred=True).unit(), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    )


def test_nothing_is_gone_over_where_nothing_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A micro-batch without an unsafe token is the normal case; the mean of all embeddings is not taken for it."""
    monkeypatch.setattr(TokenEmbeddings, "_mean", property(lambda _: pytest.fail("the mean was taken")))
    nothing = torch.zeros(0, dtype=torch.long)
    for objective in ("emd", "emd_bound"):
        objective_loss(
            torch.zeros(0, 4),
            nothing,
            OutputHead(weight_VD=torch.randn(7, 4)),
            objective=objective,
            cost=GroundCost(centred=True),
        )


@each_impl
def test_no_gradient_flows_into_the_ground_cost(impl: Any) -> None:
    embedding = torch.randn(7, 4, requires_grad=True)
    hidden = torch.randn(5, 4, requires_grad=True)
    head = OutputHead(weight_VD=torch.randn(7, 4))
    for objective in ("emd", "emd_bound"):
        objective_loss(
            hidden, torch.arange(5), head, objective=objective, embedding_VE=embedding, **impl
        ).total.backward()
    assert embedding.grad is None


@each_impl
def test_a_token_that_is_unlikely_enough_is_pushed_no_further(impl: Any) -> None:
    # Probabilities of the target: 1/2 and 1/10. With until = 0.2 only the first has a loss; both are counted.
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(9.0)]], dtype=torch.float64, requires_grad=True)
    head = OutputHead(weight_VD=torch.eye(2, dtype=torch.float64))
    output = objective_loss(logits, torch.tensor([0, 0]), head, objective="unlikelihood", until=0.2, **impl)
    output.total.backward()
    assert output.total.item() == pytest.approx(math.log(2))
    assert int(output.count) == 2
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0.1
    assert not logits.grad[1].any()
    for until, objective, message in (
        (1.0, "emd", "avoid_until: got 1.0, allowed"),
        (0.1, "nlcl", "has no loss per token"),
    ):
        with pytest.raises(ConfigError, match=message):
            objective_loss(
                logits, torch.tensor([0, 0]), head, objective=objective, until=until, sequences_N=torch.zeros(2)
            )


def test_refusals_name_what_is_allowed() -> None:
    hidden, targets, head = case(0)
    with pytest.raises(ConfigError, match=r"got 'emd_bond', allowed: nll, .* Did you mean 'emd_bound'\?"):
        objective_loss(hidden, targets, head, objective="emd_bond")
    with pytest.raises(ConfigError, match=r"clipped.*cosine"):
        objective_loss(hidden, targets, head, objective="emd_bound", cost=GroundCost(kind="clipped"))
    with pytest.raises(ConfigError, match="sequences_N is missing"):
        objective_loss(hidden, targets, head, objective="nlcl")
    with pytest.raises(ConfigError, match=r"impl: got 'streemed', .* Did you mean 'streamed'\?"):
        objective_loss(hidden, targets, head, objective="nll", impl="streemed")
    with pytest.raises(ConfigError, match="tiles: got 0 x 8, allowed: 1 or more"):
        Tiles(tokens=0, vocabulary=8)
    with pytest.raises(ConfigError, match="got 'cosin', allowed: cosine, clipped"):
        GroundCost(kind="cosin")
    # Those with a frozen model beside them are in test_rivals.py.
    assert {*AVOIDANCE_OBJECTIVES} - {*REFERENCE_OBJECTIVES} < {name for name, _ in ALL_FORMS}
