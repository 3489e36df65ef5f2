"""Configuration and grid: what the YAML files may say and what follows from them."""

from pathlib import Path
from typing import get_args

import pytest

from harness import controls, grid
from harness.config import DatasetFile, ModelFile, Settings, Training, check
from harness.errors import UserError
from harness.interpolators import INTERPOLATORS
from harness.tasks import CONTROLS, TASKS, Control

CONFIG = grid.read_yaml(grid.ROOT / "config" / "config.yaml")
CHANGES = {p.stem: grid.read_yaml(p) for p in (grid.ROOT / "config").glob("*.yaml")}


def configuration(name: str = "config") -> dict:
    return grid.merge(CONFIG, CHANGES[name])


@pytest.mark.parametrize("name", CHANGES)
def test_shipped_configurations_are_valid_and_resolve(name: str) -> None:
    config = configuration(name)
    check(Settings, config, name)
    for cell in grid.cells(config):
        check(DatasetFile, grid.dataset_spec(config, cell.dataset), cell.dataset)
        if not cell.control:
            spec = grid.training_spec(config, cell)
            check(Training, spec["training"], cell.model)


@pytest.mark.parametrize("kind, file", [("models", ModelFile), ("datasets", DatasetFile)])
def test_shipped_files_are_valid(kind: str, file: type) -> None:
    for name in grid.available(kind):
        check(file, grid.describe(kind, name), name)


def test_grid_is_the_product_without_repetition() -> None:
    block = {
        "task": "generation",
        "datasets": ["a"],
        "models": ["m"],
        "controls": ["gaussian"],
        "seeds": [0, 1],
    }
    cells = grid.cells({"grid": [block, block]})
    assert [c.path for c in cells] == [
        f"generation/a/{m}/{s}" for m in ("m", "gaussian") for s in (0, 1)
    ]
    assert [c.control for c in cells] == [False, False, True, True]


def test_specs_merge_from_general_to_particular() -> None:
    config = configuration("cpu")
    by_dataset = {
        dataset: grid.training_spec(config, grid.Cell("generation", dataset, "ls4", 0, False))
        for dataset in ("fred_md", "nn5_daily", "solar_weekly")
    }
    assert "sigma" not in by_dataset["fred_md"]["config"]
    assert by_dataset["nn5_daily"]["config"]["sigma"] == 0.5
    file = grid.describe("models", "ls4")["training"]["cpu"]
    assert by_dataset["fred_md"]["training"]["steps"] == file["steps"]
    assert (
        by_dataset["solar_weekly"]["training"]["steps"] == file["datasets"]["solar_weekly"]["steps"]
    )
    assert "datasets" not in by_dataset["solar_weekly"]["training"]
    assert grid.dataset_spec(config, "flame")["shard_options"]["n"] == 64


def test_fields_of_the_model_may_depend_on_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later ones win: the model, the data set, the budget, the budget by data set."""
    file = {
        "class": "a.b:C",
        "config": dict.fromkeys("abcd", 0),
        "datasets": {"flame": dict.fromkeys("bcd", 1)},
        "training": {
            "cpu": {
                "steps": 1,
                "config": dict.fromkeys("cd", 2),
                "datasets": {"flame": {"config": {"d": 3}}},
            },
        },
    }
    monkeypatch.setattr(grid, "describe", lambda kind, name: file)
    spec = grid.training_spec(
        {"budget": "cpu"}, grid.Cell("generation", "flame", "c", 0, control=False)
    )
    assert spec["config"] == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert spec["training"] == {"steps": 1}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seedz": 1}, "here: seedz: Extra inputs are not permitted, found 1"),
        (
            {"budget": "huge"},
            "here: budget: Input should be 'smoke', 'cpu' or 'paper', found 'huge'",
        ),
        ({"grid": []}, "here: grid: List should have at least 1 item"),
        (
            {"evaluation": {"fits": 0}},
            "here: evaluation.fits: Input should be greater than or equal",
        ),
    ],
)
def test_mistakes_in_the_configuration_get_one_line(change: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Settings, grid.merge(CONFIG, change), "here")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_every_control_can_be_asked_for() -> None:
    assert set(CONTROLS["generation"]) == {*controls.GENERATORS, "persistence"}
    assert all(CONTROLS[task] == tuple(INTERPOLATORS) for task in TASKS[1:])
    assert set(get_args(Control)) == {name for names in CONTROLS.values() for name in names}


def test_a_control_of_another_task_is_refused() -> None:
    block = CONFIG["grid"][0] | {"controls": ["gp"]}
    with pytest.raises(UserError, match=r"grid: expected controls of generation, .* found 'gp'"):
        grid.cells(CONFIG | {"grid": [block]})


def test_a_variant_is_what_differs_from_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "ROOT", tmp_path)
    (tmp_path / "config" / "models").mkdir(parents=True)
    for name, text in {
        "whole": "{class: 'a.b:C', config: {a: 1, b: 1}, training: {cpu: {steps: 3}}}",
        "variant": "{base: whole, config: {b: 2}}",
        "lost": "{base: nothing}",
        "second": "{base: variant}",
    }.items():
        (tmp_path / "config" / "models" / f"{name}.yaml").write_text(text)
    specs = {
        name: grid.training_spec({"budget": "cpu"}, grid.Cell("generation", "x", name, 0, False))
        for name in ("whole", "variant")
    }
    assert "variant_of" not in specs["whole"]
    assert specs["variant"]["variant_of"] == "whole"
    assert specs["variant"]["config"] == {"a": 1, "b": 2}
    assert specs["variant"]["training"] == {"steps": 3}
    with pytest.raises(UserError, match=r"config/models/lost\.yaml: base: unknown model 'nothing'"):
        grid.describe("models", "lost")
    with pytest.raises(UserError, match=r"second\.yaml: base: expected a file without a base"):
        grid.describe("models", "second")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown model 'ls5': expected one of .*latent_ode, ls4"):
        grid.describe("models", "ls5")
    with pytest.raises(UserError, match="no budget 'huge', only smoke, cpu, paper"):
        config = configuration() | {"budget": "huge"}
        grid.training_spec(config, grid.Cell("generation", "fred_md", "ls4", 0, False))


def test_changes_of_unknown_data_sets_are_refused() -> None:
    file = grid.describe("models", "ls4")
    grid.check_dataset_names(file, "here")
    for change, where in (
        ({"datasets": {"flme": {}}}, "datasets"),
        ({"training": {"cpu": {"datasets": {"flme": {}}}}}, r"training\.cpu\.datasets"),
    ):
        message = f"^here: {where}: unknown dataset 'flme': expected one of flame, fred_md"
        with pytest.raises(UserError, match=message):
            grid.check_dataset_names(grid.merge(file, change), "here")


def test_a_data_set_changes_known_keys_of_the_training_only() -> None:
    def with_changes(changes: dict) -> dict:
        training = {"smoke": {"steps": 1, "batch_size": 1, "datasets": {"flame": changes}}}
        return {"class": "a:B", "training": training}

    check(ModelFile, with_changes({}), "here")
    check(ModelFile, with_changes({"time_limit": 3}), "here")
    for changes, message in (
        ({"stps": 1}, "stps: Extra inputs are not permitted, found 1"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1, found 0"),
    ):
        with pytest.raises(UserError) as caught:
            check(ModelFile, with_changes(changes), "here")
        assert str(caught.value) == f"here: training.smoke.datasets.flame.{message}"


@pytest.mark.parametrize(
    "content, message", [("a: [", "not YAML"), ("- 1", "expected a mapping, found list")]
)
def test_broken_yaml_gets_one_line(tmp_path, content: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        grid.read_yaml(path)
    assert "\n" not in str(caught.value)


def test_source_files_follow_imports() -> None:
    files = grid.source_files("ls4.model")
    contract = {"harness/contract.py", "harness/tasks.py"}
    assert {"ls4/model.py", "ls4/blocks.py", "ls4/ssm.py"} | contract == set(files)
    assert "baselines/rnn_vae.py" not in grid.source_files("baselines.latent_ode")
    evaluation = grid.source_files("harness.evaluation")
    assert {"metrics/marginal.py", "harness/trainer.py"} <= set(evaluation)
    assert not any(f.startswith(("ls4/model", "baselines/")) for f in evaluation)


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert grid.digest({"a": 1, "b": [1, 2]}) == grid.digest({"b": [1, 2], "a": 1})
    assert grid.digest({"a": 1}) != grid.digest({"a": 1.5})
