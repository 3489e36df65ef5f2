"""Rows over seeds, spreads, marks, and what is compared with what."""

import math
import statistics

import pytest

from harness import catalogue
from harness.present.comparison import Comparison
from harness.present.quantities import CHANCE
from harness.present.tables.tidy import tidy
from harness.tasks import TABLE_OF
from tests.present import outputs


def comparison_with(model: dict, controls: dict[str, dict]) -> Comparison:
    """Compare LS4 of these scores with controls."""
    rows = [outputs.record(scores=model)]
    rows += [outputs.record(model=name, scores=scores) for name, scores in controls.items()]
    (comparison,) = outputs.compare(rows)
    return comparison


def beaten_by(comparison: Comparison, quantity: str, model: str = "ls4") -> list[str]:
    return comparison.better_controls(comparison.quantities[quantity])[model]


def within_floor(comparison: Comparison, quantity: str, model: str = "ls4") -> bool:
    return bool(comparison.within_noise_floor(comparison.quantities[quantity])[model])


def test_spreads_over_seeds_and_within_a_seed() -> None:
    values, spreads = [1.0, 2.0, 4.0], [0.1, 0.2, 0.2]
    rows = [
        outputs.record(seed=i, scores={"marginal_robust": (v, s)})
        for i, (v, s) in enumerate(zip(values, spreads, strict=True))
    ]
    (comparison,) = outputs.compare(rows)
    estimate = comparison.estimate("marginal_robust").loc["ls4"]
    assert estimate["value"] == pytest.approx(7 / 3)
    assert estimate["seed_spread"] == pytest.approx(statistics.stdev(values))
    assert estimate["evaluator_spread"] == pytest.approx(math.sqrt((0.01 + 0.04 + 0.04) / 3))
    assert (estimate["finite"], estimate["scored"], estimate["n"]) == (3, 3, 28)


def test_equal_seeds_have_no_spread_however_their_mean_is_rounded() -> None:
    rows = [outputs.record(seed=i, scores={"marginal_robust": (0.105, None)}) for i in range(5)]
    (comparison,) = outputs.compare(rows)
    assert comparison.estimate("marginal_robust").loc["ls4", "seed_spread"] == 0


def test_a_failed_seed_is_not_in_the_mean_and_one_seed_has_no_spread() -> None:
    rows = [
        outputs.record(seed=0, scores={"marginal_robust": (1.0, None)}),
        outputs.record(seed=1, status="oom", reason="step 3: no memory"),
    ]
    (comparison,) = outputs.compare(rows)
    estimate = comparison.estimate("marginal_robust").loc["ls4"]
    assert estimate["value"] == 1.0
    assert estimate[["seed_spread", "evaluator_spread"]].isna().all()
    assert comparison.rows.loc["ls4", ["run", "done"]].tolist() == [2, 1]


def test_a_score_that_is_not_finite_is_counted_and_its_spread_is_not() -> None:
    rows = [
        outputs.record(seed=0, scores={"marginal_robust": (1.0, 0.1)}),
        outputs.record(seed=1, scores={"marginal_robust": (None, 5.0)}),
    ]
    (comparison,) = outputs.compare(rows)
    estimate = comparison.estimate("marginal_robust").loc["ls4"]
    assert (estimate["finite"], estimate["scored"]) == (1, 2)
    assert (estimate["value"], estimate["evaluator_spread"]) == (1.0, pytest.approx(0.1))


def test_nothing_was_scored() -> None:
    (comparison,) = outputs.compare([outputs.record(status="oom", reason="step 3: no memory")])
    scored = comparison.estimate("marginal_robust")["scored"]
    assert scored.to_dict() == {"ls4": 0, "sashimi": 0}  # of SaShiMi, numbers are published
    assert tidy([comparison])["value"].isna().all()


@pytest.mark.parametrize(
    ("model", "control", "beaten"),
    [(0.5, 0.4, True), (0.5, 0.5, False), (0.5, 0.6, False)],
)
def test_better_controls_where_lower_is_better(model: float, control: float, beaten: bool) -> None:
    comparison = comparison_with(
        {"prediction_robust": (model, None)},
        {"persistence": {"prediction_robust": (control, None)}},
    )
    assert bool(beaten_by(comparison, "prediction")) is beaten


@pytest.mark.parametrize(
    ("model", "control", "beaten"),
    [(0.60, 0.65, True), (0.65, 0.60, False), (CHANCE + 0.1, 5.0, False), (0.69, 0.9, True)],
)
def test_classification_counts_up_to_chance(model: float, control: float, beaten: bool) -> None:
    comparison = comparison_with(
        {"classification_robust": (model, None)},
        {"gaussian": {"classification_robust": (control, None)}},
    )
    assert bool(beaten_by(comparison, "classification")) is beaten


def test_noise_floor_is_no_rival_and_controls_have_none() -> None:
    comparison = comparison_with(
        {"marginal_robust": (0.5, None)},
        {
            "noise_floor": {"marginal_robust": (0.1, 0.01)},
            "gaussian": {"marginal_robust": (0.6, None)},
            "memoriser": {"marginal_robust": (0.2, None)},
        },
    )
    assert beaten_by(comparison, "marginal") == ["memoriser"]
    for control in ("noise_floor", "gaussian", "memoriser"):
        assert beaten_by(comparison, "marginal", control) == []


@pytest.mark.parametrize(
    ("score", "value", "within"),
    [
        ("marginal", 0.25, True),  # floor 0.5 with spread 0.25: all that is better
        ("marginal", 0.75, True),
        ("marginal", 0.76, False),
        ("classification", 0.25, True),
        ("classification", 0.24, False),
        ("classification", 9.0, True),
    ],
)
def test_within_the_floors_spread(score: str, value: float, within: bool) -> None:
    comparison = comparison_with(
        {f"{score}_robust": (value, None)}, {"noise_floor": {f"{score}_robust": (0.5, 0.25)}}
    )
    assert within_floor(comparison, score) is within
    assert not within_floor(comparison, score, "noise_floor")


def test_another_draw_of_a_known_law_is_the_floor_where_training_series_are_too_few() -> None:
    draw = {"marginal_robust": (0.1, 0.01)}
    comparison = comparison_with({"marginal_robust": (0.105, None)}, {"perfect": draw})
    assert comparison.floor == "perfect"
    assert within_floor(comparison, "marginal")
    assert not within_floor(comparison, "marginal", "perfect")
    assert beaten_by(comparison, "marginal") == []  # it is no rival
    both = {"perfect": draw, "noise_floor": {"marginal_robust": (0.5, 0.1)}}
    assert comparison_with({"marginal_robust": (0.55, None)}, both).floor == "noise_floor"


def test_nothing_is_within_a_floor_without_a_spread() -> None:
    comparison = comparison_with(
        {"marginal_robust": (0.1, None)}, {"noise_floor": {"marginal_robust": (0.1, None)}}
    )
    assert not within_floor(comparison, "marginal")


def test_an_equal_control_is_not_better() -> None:
    rows = [
        outputs.predicted("interpolation", mse=0.004),
        outputs.predicted("interpolation", model="gp", mse=0.004),
    ]
    (comparison,) = outputs.compare(rows)
    assert beaten_by(comparison, "mse") == []
    assert not comparison.within_noise_floor(comparison.quantities["mse"]).any()
    (comparison,) = outputs.compare(
        [rows[0], outputs.predicted("interpolation", model="gp", mse=0.0039)]
    )
    assert beaten_by(comparison, "mse") == ["gp"]


def test_models_in_the_order_of_the_catalogue_then_controls() -> None:
    models = ["mine", "zeta", "gru_d", "ls4_time", "ls4"]
    controls = [*catalogue.controls()][:3]
    rows = [outputs.record(model=name) for name in controls + models]
    (comparison,) = outputs.compare(rows)
    # SaShiMi was published but not run; `mine` and `zeta` are in no catalogue
    expected = ["ls4", "ls4_time", "gru_d", "mine", "zeta", "sashimi", *controls]
    assert comparison.rows.index.tolist() == expected
    assert comparison.models.index.tolist() == expected[:6]
    assert comparison.rows.loc["sashimi", "run"] == 0


def test_unknown_budgets_come_last_and_unknown_controls_too() -> None:
    rows = [outputs.record(budget=budget) for budget in ("mine", "smoke", "paper")]
    rows.append(outputs.record(budget="mine", model="oracle", control=True))
    compared = outputs.compare(rows)
    assert [c.head["budget"] for c in compared] == ["paper", "smoke", "mine"]
    assert compared[-1].rows.index[-1] == "oracle"


def test_budgets_are_not_compared() -> None:
    rows = [outputs.record(seed=0), outputs.record(seed=3, budget="paper"), outputs.record(seed=4)]
    seeds = [c.cells["seed"].tolist() for c in outputs.compare(rows)]
    assert sorted(seeds) == [[0, 4], [3]]


OTHER = {
    "data_digest": "e" * 64, "split_digest": "e" * 64, "scoring": 9, "evaluator_fits": 3,
    "evaluator_epochs": 5, "draws": 7, "protocol": {"hidden": 0.3},
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "own"),
    [
        ("generation", {"evaluator_fits", "evaluator_epochs"}),
        ("interpolation", {"draws", "protocol"}),
    ],
)
def test_rows_of_other_data_or_settings_are_not_compared(task: str, own: set[str]) -> None:
    made = outputs.record() if task == "generation" else outputs.predicted(task)
    fields = {"data_digest", "split_digest", "scoring"} | own
    others = [made.model_copy(update={"seed": 1, field: OTHER[field]}) for field in fields]
    for other in others:
        assert [len(c.cells) for c in outputs.compare([made, other])] == [1, 1]
    (together,) = outputs.compare([made, made.model_copy(update={"seed": 1})])
    assert len(together.cells) == 2


def test_variants_and_what_they_are_variants_of() -> None:
    variant = outputs.record().settings | {"variant_of": "ls4"}
    rows = [outputs.record(model=name) for name in ("ls4", "rnn_vae", "noise_floor", "gaussian")]
    rows.append(outputs.record(model="ls4_s4d_lin", settings=variant))
    (comparison,) = outputs.compare(rows)
    assert comparison.variants is not None
    assert comparison.variants.rows.index.tolist() == ["ls4", "ls4_s4d_lin", "noise_floor"]
    assert "ls4_s4d_lin" not in comparison.without_variants.rows.index
    (alone,) = outputs.compare(rows[-1:])
    assert "ls4_s4d_lin" in alone.without_variants.rows.index
    (none,) = outputs.compare(rows[:-1])
    assert none.variants is None


def test_every_task_is_in_one_table() -> None:
    assert TABLE_OF.keys() == {"generation", *outputs.PREDICTING}
