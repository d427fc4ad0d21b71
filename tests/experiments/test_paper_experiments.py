"""The paper's experiments as sweeps: every table with every preset, and our figures beside the published ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quality_figures import accuracy, win_rate
from steerclear.attacks.figures import AttackFigures
from steerclear.config import dump_yaml
from steerclear.errors import ConfigError
from steerclear.evaluation.scores import Scores, score
from steerclear.experiments.cells import Cell, cells_of
from steerclear.experiments.paper import composed, overview, sweep_of
from steerclear.experiments.paper_beside import Measured, lay_beside
from steerclear.experiments.paper_tables import compose, experiments, presets
from steerclear.experiments.published import published_table, published_tables
from steerclear.records import Verdict
from steerclear.report.beside import BesideTable
from steerclear.stats.rates import Estimate, Mean, Rate
from steerclear.training.defaults import training_arguments

FOUR = ["llama-7b", "llama-13b", "mistral-7b", "llama-3.1-8b"]


def cells(table: str, *names: str, only: tuple[str, ...] = (), **changes: Any) -> list[Cell]:
    """The cells of a table, its inputs named after themselves."""
    attacker = ["--attacker", "NO-SUCH-chat-model"] if experiments()[table].pair else []
    tree = composed(table, names, only, None, attacker)
    given = [part for name in tree["inputs"] for part in (f"--{name}", f"NO-SUCH-{name}")]
    overrides = [part for key, value in changes.items() for part in (f"--{key}", str(value))]
    return cells_of(sweep_of(composed(table, names, only, None, [*attacker, *given, *overrides])))


def by_name(found: list[Cell]) -> dict[str, Cell]:
    return {cell.name: cell for cell in found}


def test_every_published_table_and_figure_has_an_experiment() -> None:
    assert list(experiments()) == list(published_tables())
    for id, table in published_tables().items():
        experiment = experiments()[id]
        if table.values:
            rows = [n for n in table.names("unsafe_rows") if n]
            # The attack table names no model, so any can be attacked.
            assert experiment.models == ([model for model in table.names("model") if model] or FOUR)
            assert sorted(experiment.methods) == sorted(table.names("method"))
            assert not rows or experiment.rows == rows
    assert all(id in overview() for id in experiments())
    assert sorted(presets()) == sorted([*FOUR, "tiny"])


@pytest.mark.parametrize("table", list(experiments()))
def test_every_table_makes_valid_cells_with_every_preset_alone_and_with_all(table: str) -> None:
    experiment = experiments()[table]
    kinds = (2 if experiment.contrast else 1) * (len(experiment.weights) or 1)
    each = len(experiment.methods) * len(experiment.rows) * kinds
    allowed = [*experiment.models, "tiny"]
    alone = [made for name in allowed for made in cells(table, name)]
    assert len(alone) == each * len(allowed)
    together = cells(table, *allowed)
    assert [cell.name for cell in together] == [cell.name for cell in alone]
    # What is trained and asked does not depend on which other models are there.
    for one, other in zip(alone, together, strict=True):
        assert one.recipe.training == other.recipe.training
        assert one.recipe.evaluation == other.recipe.evaluation
        assert one.recipe.data.unsafe_count == other.recipe.data.unsafe_count
    assert {suite.name for cell in alone for suite in cell.recipe.evaluation.suites} == set(experiment.suites)


def test_the_four_models_have_the_papers_hyper_parameters() -> None:
    """Its appendix A.2, and section 4.1."""
    for name in FOUR:
        table = "table2" if "llama-7b" in name or "13b" in name else "table6"
        for cell in cells(table, name):
            recipe, arguments = cell.recipe, training_arguments(cell.recipe.setup)
            assert arguments.learning_rate == 1e-4
            assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (3, 32)
            assert arguments.num_train_epochs == (4 if name == "mistral-7b" else 3)
            assert (arguments.normalization, arguments.sampling) == ("paper", "uniform")
            assert (arguments.objective, arguments.avoid_tokens) in (("nlcl", "all"), ("emd_bound", "all"))
            assert arguments.objective == "nlcl" or arguments.loss_options.cost.kind == "cosine"
            assert recipe.lora is not None
            assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (8, 16, 0.05)
            assert recipe.lora.target_modules == ["q_proj", "v_proj"]
            assert (recipe.data.benign_count, recipe.data.template) == (20000, "alpaca")


def test_penalty_weights_are_those_of_table_4() -> None:
    """Copied by hand from the paper's Table 4."""
    llama, mistral = by_name(cells("table2", "llama-7b")), by_name(cells("table6", "mistral-7b"))
    weights = {name: cell.recipe.training["penalty_weight"] for name, cell in (llama | mistral).items()}
    assert weights["llama-7b/emd/1000"] == 0.83
    assert weights["llama-7b/emd/100"] == 9
    assert weights["llama-7b/nlcl/300"] == 14.5
    assert weights["mistral-7b/nlcl/300"] == 5.6
    assert weights["mistral-7b/emd/500"] == 0.6
    grid = by_name(cells("table4", "llama-13b"))
    multiples = [grid[f"llama-13b/nlcl/500/{x}"] for x in ("x0.25", "x0.5", "x1", "x2", "x4")]
    assert [cell.recipe.training["penalty_weight"] for cell in multiples] == [3, 6, 12, 24, 48]


def test_the_numbers_of_rows_are_of_unsafe_ones_and_for_stl_of_safe_ones() -> None:
    found = by_name(cells("table3", "llama-7b"))
    stl, emd = found["llama-7b/stl/300"].recipe, found["llama-7b/emd/300"].recipe
    assert (emd.data.unsafe, emd.data.unsafe_count, emd.data.extra) == ("NO-SUCH-unsafe", 300, None)
    assert (stl.data.unsafe, stl.data.unsafe_count, stl.data.extra_count) == (None, None, 300)
    assert str(stl.data.extra).endswith("stl/safety_only.jsonl")
    assert stl.training["penalty_weight"] == 0


def test_figures_look_along_the_training_and_figure_5_adds_contrastive_rows() -> None:
    assert {cell.recipe.evaluation.every_steps for cell in cells("figure9", *FOUR)} == {50}
    assert {cell.recipe.evaluation.every_steps for cell in cells("table2", "tiny")} == {None}
    found = by_name(cells("figure5", "llama-7b"))
    assert found["llama-7b/emd/1000/with/x3"].recipe.data.extra == "NO-SUCH-contrast"
    assert found["llama-7b/emd/1000/with/x3"].recipe.training["penalty_weight"] == pytest.approx(3 * 0.83)
    assert found["llama-7b/emd/1000/without/x1"].recipe.data.extra is None


def test_each_of_several_models_has_a_base_and_unsafe_rows_of_its_own() -> None:
    found = by_name(cells("table6", "mistral-7b", "llama-3.1-8b"))
    assert found["mistral-7b/emd/100"].recipe.model.path == "NO-SUCH-mistral_7b_base"
    assert found["llama-3.1-8b/emd/100"].recipe.data.unsafe == "NO-SUCH-llama_3_1_8b_unsafe"
    assert found["mistral-7b/emd/100"].recipe.training["num_train_epochs"] == 4
    defaults = compose("table6", ["mistral-7b", "llama-3.1-8b"])["inputs"]
    assert defaults["llama_3_1_8b_base"] == "meta-llama/Meta-Llama-3.1-8B"


def test_only_and_judge_and_overrides_reach_the_cells() -> None:
    only = ("rows=100,500", "method=emd")
    found = cells("table2", "llama-7b", only=only, **{"recipe.training.max_steps": 2, "seeds": "[0, 1]"})
    assert [cell.name for cell in found] == [
        f"llama-7b/emd/{rows}/seed-{seed}" for rows in (500, 100) for seed in (0, 1)
    ]
    assert {cell.recipe.training["max_steps"] for cell in found} == {2}
    own = composed("table2", ["llama-7b"], [], "judge.skops", [])["recipe"]["evaluation"]
    assert (own["judge"], own["second_opinions"]) == ({"classifier": "judge.skops"}, [])
    guard = composed("table2", ["llama-7b", "tiny"], [], "{guard: {model: Qwen/Qwen3Guard-Gen-0.6B}}", [])
    assert guard["recipe"]["evaluation"]["judge"] == {"guard": {"model": "Qwen/Qwen3Guard-Gen-0.6B"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tabel2", ["tiny"], []), "table: got 'tabel2', allowed: table1, .*Did you mean 'table2'"),
        (("table2", [], []), "preset: is missing; table2 can be run with llama-7b, llama-13b, tiny"),
        (("table2", ["lama-7b"], []), "preset: got 'lama-7b'.*Did you mean 'llama-7b'"),
        (("table6", ["llama-7b"], []), "preset: got 'llama-7b', which table6 is not about. Allowed: mistral-7b, llama-3.1-8b"),
        (("table2", ["tiny"], ["rows=200"]), "only rows: got '200', allowed: 1000, 500, 300, 100"),
        (("table2", ["tiny"], ["row=100"]), "only: got 'row', allowed: model, method, rows.*Did you mean 'rows'"),
        (("table2", ["tiny"], ["rows"]), "only: got 'rows', expected AXIS=VALUE"),
        (("attack", ["tiny"], []), "attacker: is missing; attack needs a chat model that writes prompts: --attacker"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(arguments: tuple[str, list[str], list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(*arguments, None, [])


def test_only_the_attack_table_has_an_attacker() -> None:
    with pytest.raises(ConfigError, match="attacker: table2 is about no attack; leave it out"):
        composed("table2", ["tiny"], [], None, ["--attacker", "x"])


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("owner/chat", {"model": {"path": "owner/chat"}}),
        ("replies.jsonl", {"script": "replies.jsonl"}),
        ("{model: {endpoint: {model: m}}}", {"model": {"endpoint": {"model": "m"}}}),
    ],
)
def test_an_attacker_is_a_model_a_script_or_a_role(given: str, role: dict[str, Any]) -> None:
    tree = composed("attack", ["tiny"], [], None, ["--attacker", given])
    attacks = tree["recipe"]["evaluation"]["attacks"]
    assert attacks == {"behaviors": {"card": "pair_subset_50", "data": "${data}"}, "pair": {"attacker": role}}


def test_missing_inputs_are_told_with_the_way_to_make_them() -> None:
    with pytest.raises(ConfigError) as raised:
        sweep_of(composed("figure5", ["llama-7b"], [], None, ["--data", "DATA"]))
    lines = str(raised.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["--unsafe", "--contrast"]
    assert "steerclear harvest recipes/paper_harvest.yaml" in lines[0]
    assert "steerclear contrast" in lines[1]


def test_a_printed_recipe_is_the_same_sweep(tmp_path: Any) -> None:
    from steerclear.experiments.cells import load_sweep

    tree = composed("table3", ["tiny"], [], None, ["--base", "BASE"])
    file = tmp_path / "sweep.yaml"
    file.write_text(dump_yaml(tree))
    again = load_sweep([str(file), "--data", "DATA"])
    assert again == sweep_of(composed("table3", ["tiny"], [], None, ["--base", "BASE", "--data", "DATA"]))


# ── beside ──


def measured(model: str, method: str, rows: int, scores: Scores, penalty: float | None = None, **more: str) -> Measured:
    return Measured(
        labels={"model": model, "method": method, "rows": str(rows), **more}, scores=scores, penalty_weight=penalty
    )


def answered(number: int, outcome: str, kind: str = "harmful", *, refused: bool = False, **tags: str) -> Verdict:
    return Verdict(
        id=str(number), suite="safety_518", outcome=outcome, reason="", flagged=outcome == "harmful", harm_score=1.0,
        refused=refused, judge="j", tags={"kind": kind} | tags,
    )  # fmt: skip


def safety(**flagged: int) -> Scores:
    outcomes = {name.replace("_", "-"): ["harmful"] * k + ["safe"] * (40 - k) for name, k in flagged.items()}
    return score([answered(n, o, group=group) for group, own in outcomes.items() for n, o in enumerate(own)])


def cell(table: BesideTable | None, row: list[str], column: str) -> Any:
    assert table is not None
    [found] = [cells for labels, cells in table.rows if labels == row]
    return found[table.columns.index(column)]


def test_counts_stand_beside_the_published_ones() -> None:
    table = lay_beside(
        published_table("table2"), ["llama-7b"], [measured("llama-7b", "nlcl", 100, safety(I_CoNa=9, HarmfulQ=2))]
    )
    found = cell(table, ["llama-7b", "100"], "I-CoNa NLCL")
    assert (found.published, found.ours) == (42, Rate.of(9, 40))
    assert cell(table, ["llama-7b", "100"], "HarmfulQ NLCL").ours.k == 2
    # Not asked, and not run.
    assert cell(table, ["llama-7b", "100"], "I-Malicious NLCL").ours is None
    assert cell(table, ["llama-7b", "1000"], "I-CoNa EMD").ours is None
    assert table is not None
    assert [labels for labels, _ in table.rows] == [["llama-7b", str(n)] for n in (1000, 500, 300, 100)]
    assert table.columns[:2] == ["I-Malicious NLCL", "I-Malicious EMD"]


def test_a_tiny_model_stands_beside_the_tables_first_and_seeds_have_rows_of_their_own() -> None:
    runs = [measured("tiny", "emd", 100, safety(I_CoNa=k), seed=str(seed)) for seed, k in enumerate((3, 5))]
    table = lay_beside(published_table("table6"), ["tiny"], runs)
    assert [cell(table, ["tiny (mistral-7b)", "100", seed], "I-CoNa EMD").ours.k for seed in "01"] == [3, 5]
    assert cell(table, ["tiny (mistral-7b)", "100", "1"], "I-CoNa EMD").published == 4
    assert table is not None
    assert "tiny is none of the table's models and stands beside mistral-7b." in table.notes


@pytest.mark.parametrize(
    ("judge", "mean"), [("rating 1-10/x", Estimate(value=6.5, lower=6.0, upper=7.0)), ("words", None)]
)
def test_success_under_attack_stands_beside_the_published_one(judge: str, mean: Estimate | None) -> None:
    nothing = Rate.of(0, 0)
    figures = AttackFigures(
        goals=50, asr=Rate.of(9, 46), safe=nothing, degenerate=nothing, unscored=4, judges=[judge],
        mean_score=Mean(n=50, mean=6.5, lower=6.0, upper=7.0),
    )  # fmt: skip
    run = replace(measured("tiny", "emd", 1000, score([])), attacks={"pair": figures})
    table = lay_beside(published_table("attack"), ["tiny"], [run])
    assert cell(table, ["EMD", "1000"], "ASR").published == 19.57
    assert cell(table, ["EMD", "1000"], "ASR").ours == Rate.of(9, 46)
    assert cell(table, ["EMD", "1000"], "mean judge score").ours == mean
    assert cell(table, ["STL", "1000"], "ASR").ours is None  # not run
    assert table is not None
    assert not any("stands beside" in note for note in table.notes)


def test_accuracies_and_win_rates_stand_beside_the_published_ones() -> None:
    quality = {"boolq": accuracy(30, 40), "alpaca_eval": win_rate(50.0, 45.0, 55.0)}
    run = measured("mistral-7b", "kto", 1000, replace(score([]), quality=quality))
    table = lay_beside(published_table("table1"), ["mistral-7b"], [run])
    assert cell(table, ["mistral-7b"], "BoolQ KTO").published == 84.37
    assert cell(table, ["mistral-7b"], "BoolQ KTO").ours.k == 30
    assert cell(table, ["mistral-7b"], "AlpacaEval KTO").ours == Estimate(value=50.0, lower=45.0, upper=55.0)
    doubted = lay_beside(published_table("table5"), ["llama-7b"], [])
    assert doubted is not None
    assert any(note.startswith("PIQA KTO 89.11: Likely a misprint") for note in doubted.notes)


def test_the_best_weight_is_the_one_with_fewest_harmful_answers_that_are_still_language() -> None:
    def scores(harmful: float, degenerate: float) -> Scores:
        outcomes = ["harmful"] * round(50 * harmful) + ["degenerate"] * round(50 * degenerate)
        outcomes += ["safe"] * (50 - len(outcomes))
        benign = [answered(n, "safe", "benign", refused=n % 2 == 0) for n in range(10)]
        return score([answered(n, outcome) for n, outcome in enumerate(outcomes)] + benign)

    tried = {0.2: (0.3, 0.0), 0.4: (0.1, 0.04), 0.8: (0.0, 0.9), 1.7: (0.2, 0.0)}
    runs = [
        measured("llama-7b", "emd", 1000, scores(*rates), weight, weight=f"x{weight}")
        for weight, rates in tried.items()
    ]
    table = lay_beside(published_table("table4"), ["llama-7b"], runs)
    found = cell(table, ["EMD", "1000"], "llama-7b")
    assert (found.published, found.ours) == (0.83, 0.4)
    assert cell(table, ["NLCL", "1000"], "llama-7b").ours is None


def test_a_figure_has_no_numbers_to_stand_beside() -> None:
    assert lay_beside(published_table("figure2"), ["tiny"], []) is None
