"""The rivals of the EMD, the options on the loss of a token, and the anchor: by hand, by finite differences, by properties.

The streamed implementation runs in tiles smaller than the inputs; it is held to the reference.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.errors import ConfigError
from steerclear.losses import anchor
from steerclear.losses.anchor import anchor_loss
from steerclear.losses.formulas import decay_weights
from steerclear.losses.objective import log_probability, objective_loss
from steerclear.losses.options import REFERENCE_OBJECTIVES, SEQUENCE_OBJECTIVES, GroundCost, Tiles
from steerclear.losses.vocabulary import OutputHead

IMPLS: list[dict[str, Any]] = [{"impl": "reference"}, {"impl": "streamed", "tiles": Tiles(tokens=2, vocabulary=3)}]
each_impl = pytest.mark.parametrize("impl", IMPLS, ids=lambda impl: impl["impl"])

CLIPPED = GroundCost(kind="clipped")
FORMS: list[dict[str, Any]] = [
    {"objective": "gradient_ascent"},
    {"objective": "npo"},
    {"objective": "npo_mean", "beta": 1.3},
    {"objective": "simnpo", "beta": 0.7},
    {"objective": "circuit_breaker"},
    {"objective": "emd", "cost": CLIPPED, "gate_power": 1.5},
    {"objective": "emd_bound", "gate_power": 1.0, "token_decay": 0.6},
    {"objective": "unlikelihood", "gate_power": 2.0},
    {"objective": "gradient_ascent", "token_decay": 0.5},
    {"objective": "emd", "token_decay": 0.8},
]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(str(v) for v in form.values()))


class Case:
    """Random inputs in float64: two sequences of two and three tokens, and a frozen model beside the one that trains."""

    def __init__(self, seed: int, v: int = 7, d: int = 4) -> None:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        self.hidden, self.base_hidden = 2 * normal(5, d), 2 * normal(5, d)
        self.head, self.base_head = (OutputHead(weight_VD=normal(v, d), bias_V=normal(v)) for _ in range(2))
        self.targets = torch.randint(v, (5,), generator=g)
        self.sequences = torch.tensor([8, 8, 3, 3, 3])
        self.weights = torch.tensor([0.5, 0.5, 2.0, 2.0, 2.0], dtype=torch.float64)

    def run(
        self, form: dict[str, Any], part: slice = slice(None), hidden: Any = None, head: Any = None, **options: Any
    ) -> Any:
        base = log_probability(self.base_hidden[part], self.targets[part], self.base_head, impl="reference")
        return objective_loss(
            self.hidden[part] if hidden is None else hidden,
            self.targets[part],
            head or self.head,
            sequences_N=self.sequences[part],
            weights_N=self.weights[part],
            base_log_prob_N=base,
            base_hidden_ND=self.base_hidden[part],
            **form,
            **options,
        )


def two_tokens(probabilities: list[float]) -> tuple[torch.Tensor, torch.Tensor, OutputHead]:
    """Hidden states of a model with two words, the first of which, the target, has these probabilities."""
    odds = torch.tensor([[math.log(p / (1 - p))] for p in probabilities], dtype=torch.float64)
    return odds, torch.zeros(len(odds), dtype=torch.long), OutputHead(torch.tensor([[1.0], [0.0]], dtype=torch.float64))


@each_impl
@pytest.mark.parametrize(
    ("form", "total"),
    [
        # Probabilities 1/2 and 1/8 in one sequence, 1/4 in the other; under the base 1/4 and 1/2, and 1/4.
        ({"objective": "gradient_ascent"}, -math.log(2 * 8 * 4)),
        # The ratios of the sequences are (1/16) / (1/8) = 1/2, and 1.
        ({"objective": "npo", "beta": 1.0}, 2 * math.log(1.5) + 2 * math.log(2)),
        ({"objective": "npo", "beta": 2.0}, math.log(1.25) + math.log(2)),
        ({"objective": "npo"}, 20 * math.log(1 + 0.5**0.1) + 20 * math.log(2)),
        # The length-normalised ratios are sqrt(1/2) and 1.
        ({"objective": "npo_mean", "beta": 2.0}, math.log(1.5) + math.log(2)),
        ({"objective": "npo_mean"}, 0.8 * math.log(1 + 0.5**1.25) + 0.8 * math.log(2)),
        # The length-normalised likelihoods are 1/4 and 1/4.
        ({"objective": "simnpo", "beta": 1.0}, 4 * math.log(1.25)),
        ({"objective": "simnpo"}, 1.6 * math.log(1 + 0.25**2.5)),
        # -log(1 - p) is log 2, log 8/7, log 4/3, and 1 - p is 1/2, 7/8, 3/4.
        ({"objective": "unlikelihood", "gate_power": 2.0},
         math.log(2) / 4 + 49 / 64 * math.log(8 / 7) + 9 / 16 * math.log(4 / 3)),
        # The second of a sequence counts a half, and each sequence starts anew.
        ({"objective": "gradient_ascent", "token_decay": 0.5}, -math.log(2) - math.log(8) / 2 - math.log(4)),
    ],
    ids=str,
)  # fmt: skip
def test_hand_worked_numbers(impl: Any, form: dict[str, Any], total: float) -> None:
    hidden, targets, head = two_tokens([1 / 2, 1 / 8, 1 / 4])
    base = torch.tensor([1 / 4, 1 / 2, 1 / 4], dtype=torch.float64).log()
    sequences = torch.tensor([5, 5, 2])
    output = objective_loss(hidden, targets, head, sequences_N=sequences, base_log_prob_N=base, **form, **impl)
    assert output.total.item() == pytest.approx(total)
    per_sequence = form["objective"] in SEQUENCE_OBJECTIVES
    assert float(output.count) == (2 if per_sequence else 2.5 if "token_decay" in form else 3)
    assert int(output.tokens) == 3


@each_impl
@each_form
def test_gradcheck_in_float64(impl: Any, form: dict[str, Any]) -> None:
    case = Case(1)

    def loss(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        gated = {**form, "gate_power": 0.0} if "gate_power" in form else form  # the gate is detached; see below
        head = OutputHead(weight_VD=weight, scale=0.7, softcap=5.0)
        # The EMD's embedding is detached too, so it must not be the head's own weight here.
        return case.run(gated, hidden=hidden, head=head, embedding_VE=case.head.weight_VD, **impl).total

    assert torch.autograd.gradcheck(loss, [t.clone().requires_grad_() for t in (case.hidden, case.head.weight_VD)])


@pytest.mark.parametrize("head_trains", [False, True], ids=["head-frozen", "head-trains"])
@each_form
@given(seed=st.integers(0, 10_000), tiles=st.tuples(st.integers(1, 6), st.integers(1, 8)))
@settings(max_examples=10, deadline=None)
def test_any_tiles_give_the_reference(
    form: dict[str, Any], head_trains: bool, seed: int, tiles: tuple[int, int]
) -> None:
    case, found = Case(seed), []
    for options in ({"impl": "reference"}, {"tiles": Tiles(tokens=tiles[0], vocabulary=tiles[1])}):
        hidden = case.hidden.clone().requires_grad_()
        weight = case.head.weight_VD.clone().requires_grad_(head_trains)
        output = case.run(form, hidden=hidden, head=OutputHead(weight_VD=weight), **options)
        output.total.backward()
        found.append([output.total, output.count, output.probability, hidden.grad, weight.grad])
    for ours, plain in zip(*found, strict=True):
        if plain is not None:
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@each_impl
@each_form
def test_two_parts_of_whole_sequences_add_up(impl: Any, form: dict[str, Any]) -> None:
    case = Case(2)
    whole, first, second = (case.run(form, part, **impl) for part in (slice(None), slice(0, 2), slice(2, None)))
    assert float(first.total + second.total) == pytest.approx(float(whole.total), rel=1e-12)
    assert float(first.count + second.count) == pytest.approx(float(whole.count))


@each_impl
@each_form
def test_nothing_scored_is_an_exact_zero_that_stays_in_the_graph(impl: Any, form: dict[str, Any]) -> None:
    case = Case(3)
    hidden = case.hidden.clone().requires_grad_()
    output = case.run(form, slice(0, 0), hidden=hidden[:0], **impl)
    assert output.total.item() == float(output.count) == 0.0
    output.total.backward()
    assert hidden.grad is not None
    assert not hidden.grad.any()


@each_impl
@pytest.mark.parametrize(("objective", "beta"), [("npo", 0.3), ("npo_mean", 4.0)])
def test_at_the_base_model_npo_is_gradient_ascent(impl: Any, objective: str, beta: float) -> None:
    """Its paper's property, for any β: there the gradient is that of the summed (mean) log-likelihood, the loss (2/β) log 2."""
    case = Case(4)
    gradients = []
    for name in ("gradient_ascent", objective):
        hidden = case.hidden.clone().requires_grad_()
        base = log_probability(case.hidden, case.targets, case.head, **impl)
        options = {"beta": beta, "base_log_prob_N": base} if name == objective else {}
        output = objective_loss(
            hidden, case.targets, case.head, objective=name, sequences_N=case.sequences, **options, **impl
        )
        output.total.backward()
        gradients.append(hidden.grad)
    assert output.total.item() == pytest.approx(2 * 2 / beta * math.log(2))
    length = torch.tensor([[2.0], [2.0], [3.0], [3.0], [3.0]]) if objective == "npo_mean" else 1.0
    torch.testing.assert_close(gradients[1], gradients[0] / length)


@each_impl
def test_a_circuit_breaker_turns_states_to_a_right_angle_and_no_further(impl: Any) -> None:
    """At angles of cosine 1, 3/5, 0 and -1 to the base's. The gradient of cos(h, b) is (b/|b| - cos · h/|h|) / |h|."""
    hidden = torch.tensor([[1.0, 0], [3, 4], [0, 2], [-1, 0]], dtype=torch.float64, requires_grad=True)
    base = torch.tensor([[2.0, 0]] * 4, dtype=torch.float64, requires_grad=True)
    weight = torch.eye(2, dtype=torch.float64, requires_grad=True)
    output = objective_loss(
        hidden, torch.zeros(4, dtype=torch.long), OutputHead(weight), objective="circuit_breaker", base_hidden_ND=base,
        **impl,
    )  # fmt: skip
    assert output.total.item() == pytest.approx(1.6)
    assert float(output.count) == 4
    output.total.backward()
    # None at the base itself: there the cosine is largest.
    expected = torch.tensor([[0, 0], [0.128, -0.096], [0, 0], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(hidden.grad, expected)
    assert base.grad is None
    assert weight.grad is None


@each_impl
def test_what_is_bounded_and_what_is_not(impl: Any) -> None:
    hidden, targets, head = two_tokens([1e-30])
    options = {"sequences_N": torch.zeros(1), "base_log_prob_N": torch.zeros(1, dtype=torch.float64), **impl}

    def value(objective: str) -> float:
        return objective_loss(hidden, targets, head, objective=objective, **options).total.item()

    assert value("gradient_ascent") == pytest.approx(-30 * math.log(10))
    assert 0 < value("npo") < 0.03
    assert 0 < value("simnpo") < value("npo_mean") * 1.001 < 1e-6


@each_impl
@pytest.mark.parametrize("objective", ["emd", "emd_bound", "unlikelihood"])
def test_the_gate_is_a_weight_and_never_turns_the_push_around(impl: Any, objective: str) -> None:
    """p = 0.9: with a gradient of its own the gate would push such a token up, as -(1-p) log(1-p) falls in p there."""
    pushes = []
    for power in (0.0, 1.0, 3.0):
        logits = torch.tensor([[math.log(9.0 * 2), 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
        head = OutputHead(weight_VD=torch.eye(3, dtype=torch.float64))
        objective_loss(logits, torch.tensor([0]), head, objective=objective, gate_power=power, **impl).total.backward()
        assert logits.grad is not None
        pushes.append(logits.grad)
    assert float(pushes[0][0, 0]) > 0
    torch.testing.assert_close(pushes[1], 0.1 * pushes[0])
    torch.testing.assert_close(pushes[2], 0.001 * pushes[0])


def test_decay_starts_anew_with_each_sequence() -> None:
    assert decay_weights(torch.tensor([7, 7, 7, 1, 4, 4]), 0.5).tolist() == [1, 0.5, 0.25, 1, 1, 0.5]
    assert decay_weights(torch.zeros(0), 0.5).tolist() == []


@each_impl
def test_a_strong_decay_is_the_first_token_alone(impl: Any) -> None:
    case = Case(5)
    decayed = case.run({"objective": "emd", "token_decay": 1e-9}, **impl)
    first = torch.tensor([0, 2])
    alone = objective_loss(
        case.hidden[first], case.targets[first], case.head, objective="emd", weights_N=case.weights[first], **impl
    )
    assert float(decayed.total / decayed.count) == pytest.approx(float(alone.total / alone.count), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "npo", "gate_power": 1.0}, "gate_power: got 1.0 with objective 'npo', which has no loss per token"),
        ({"objective": "simnpo", "token_decay": 0.5}, "token_decay: got 0.5 with objective 'simnpo', .* only 1 is"),
        ({"objective": "emd", "gate_power": -1.0}, "gate_power: got -1.0, allowed: 0"),
        ({"objective": "emd", "gate_power": math.nan}, "gate_power: got nan"),
        ({"objective": "emd", "token_decay": 0.0}, "token_decay: got 0.0, allowed: above 0, to 1"),
        ({"objective": "emd", "beta": 0.1}, "npo_beta: got 0.1 with objective 'emd'; only npo, npo_mean, simnpo have"),
        ({"objective": "npo", "beta": 0.0}, "npo_beta: got 0.0, allowed: above 0"),
        ({"objective": "simnpo", "sequences_N": None}, "objective 'simnpo' is a loss per sequence: sequences_N is missing"),
        ({"objective": "emd", "token_decay": 0.5, "sequences_N": None}, "token_decay counts in sequences: sequences_N"),
        ({"objective": "npo_mean", "base_log_prob_N": None}, "compares with a frozen model: base_log_prob_N is missing"),
        ({"objective": "circuit_breaker"}, "'circuit_breaker' compares with a frozen model: base_hidden_ND is missing"),
        ({"objective": "circuit_breaker", "beta": 1.0}, "npo_beta: got 1.0 with objective 'circuit_breaker'"),
    ],
)  # fmt: skip
def test_refusals_name_what_is_allowed(options: dict[str, Any], message: str) -> None:
    case = Case(6)
    with pytest.raises(ConfigError, match=message):
        objective_loss(
            case.hidden, case.targets, case.head, **{"sequences_N": case.sequences, "base_log_prob_N": None} | options
        )


# ── the anchor ──


@pytest.mark.parametrize("impl", ["reference", "streamed"])
def test_the_anchor_by_hand(impl: str) -> None:
    # KL((1/2, 1/2) ‖ (1/4, 3/4)) = ½ log 2 + ½ log 2/3 = ½ log 4/3, and KL((1/8, 7/8) ‖ (1/2, 1/2)); weights 1 and 3.
    hidden, _, head = two_tokens([1 / 4, 1 / 2])
    base, _, base_head = two_tokens([1 / 2, 1 / 8])
    second = math.log(1 / 4) / 8 + 7 / 8 * math.log(7 / 4)
    got = anchor_loss(hidden, head, base, base_head, weights_N=torch.tensor([1.0, 3.0]), impl=impl)
    assert got.item() == pytest.approx(math.log(4 / 3) / 2 + 3 * second)
    assert anchor_loss(hidden, head, hidden, head, impl=impl).item() == 0.0


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_the_anchors_gradient_is_the_difference_of_the_probabilities(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same in chunks as at once, for the hidden states and for a head that trains; none flows into the base."""
    monkeypatch.setattr(anchor, "CHUNK", chunk)
    case, rows = Case(7), []
    logits = OutputHead.logits
    monkeypatch.setattr(OutputHead, "logits", lambda self, h: (rows.append(len(h)), logits(self, h))[1])
    for impl in ("reference", "streamed"):
        hidden, weight = (t.clone().requires_grad_() for t in (case.hidden, case.head.weight_VD))
        base, base_weight = (t.clone().requires_grad_() for t in (case.base_hidden, case.base_head.weight_VD))
        rows.clear()
        anchor_loss(
            hidden, OutputHead(weight), base, OutputHead(base_weight), weights_N=case.weights, impl=impl
        ).backward()
        difference = (case.hidden @ weight.T).softmax(-1) - (case.base_hidden @ base_weight.T).softmax(-1)
        expected = (difference * case.weights[:, None]).detach()
        torch.testing.assert_close(hidden.grad, expected @ case.head.weight_VD)
        torch.testing.assert_close(weight.grad, expected.T @ case.hidden)
        assert base.grad is base_weight.grad is None
        assert max(rows) == (5 if impl == "reference" else chunk)


@pytest.mark.parametrize("impl", ["reference", "streamed"])
def test_the_anchor_passes_gradcheck_and_is_the_librarys_divergence(impl: str) -> None:
    case = Case(8)

    def loss(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        head = OutputHead(weight_VD=weight, bias_V=bias, scale=1.3, softcap=6.0)
        return anchor_loss(hidden, head, case.base_hidden, case.base_head, weights_N=case.weights, impl=impl)

    head = case.head
    assert torch.autograd.gradcheck(
        loss, [t.clone().requires_grad_() for t in (case.hidden, head.weight_VD, head.bias_V)]
    )
    of = [torch.distributions.Categorical(logits=h @ w.weight_VD.T + w.bias_V)
          for h, w in ((case.base_hidden, case.base_head), (case.hidden, head))]  # fmt: skip
    expected = torch.distributions.kl_divergence(*of).sum()
    torch.testing.assert_close(anchor_loss(case.hidden, head, case.base_hidden, case.base_head, impl=impl), expected)


@pytest.mark.parametrize("impl", ["reference", "streamed"])
def test_an_anchor_on_nothing_is_an_exact_zero_that_stays_in_the_graph(impl: str) -> None:
    case = Case(9)
    hidden, weight = (t.clone().requires_grad_() for t in (case.hidden, case.head.weight_VD))
    total = anchor_loss(hidden[:0], OutputHead(weight), case.base_hidden[:0], case.base_head, impl=impl)
    assert total.item() == 0.0
    total.backward()
    for grad in (hidden.grad, weight.grad):
        assert grad is not None
        assert not grad.any()


def test_only_the_circuit_breaker_compares_token_by_token() -> None:
    assert {*REFERENCE_OBJECTIVES} - {*SEQUENCE_OBJECTIVES} == {"circuit_breaker"}
