"""The grid and its cells: what follows from a configuration."""

import json
from pathlib import Path

import pytest

from harness import catalogue
from harness.cells import (
    CELL_FILE,
    Cell,
    CellSpec,
    CommandSpec,
    ControlSpec,
    Scoring,
    cells,
    describe_cell,
    describe_dataset,
    read_cell,
    scoring_modules,
    traces,
)
from harness.checks import check
from harness.commands import CommandFile
from harness.config import Evaluation, Settings
from harness.errors import UserError
from harness.tasks import TASKS
from harness.texts import digest
from tests import specs
from tests.checkout import configuration

GRIDS = sorted(path.name for path in catalogue.CONFIG.glob("*.yaml") if "grid" in path.read_text())
RESOLVED = Path(__file__).parent / "data" / "resolved_cells.json"


def settings(name: str = "config.yaml", **changes: object) -> Settings:
    return check(Settings, configuration(name, **changes), name)


def described(config: Settings, task: str, dataset: str, model: str) -> CellSpec:
    spec = describe_cell(config, Cell(task, dataset, model, 0, control=False))
    assert isinstance(spec, CellSpec)
    return spec


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_configurations_resolve(name: str) -> None:
    config = settings(name)
    for cell in cells(config):
        assert describe_dataset(config, cell.dataset).title
        assert describe_cell(config, cell).model == cell.model


def resolved() -> dict[str, str]:
    """Digests of all cells of each model and budget, whatever the grid."""
    found = {}
    for model in catalogue.available("models"):
        for budget in catalogue.model(model).training:
            config = settings(budget=budget)
            found[f"{model} {budget}"] = digest(
                [
                    described(config, task, dataset, model).model_dump(
                        mode="json", exclude={"class_"}
                    )
                    for dataset in catalogue.available("datasets")
                    for task in TASKS
                ]
            )
    return found


def test_what_the_files_resolve_to_has_not_changed() -> None:
    """A change of the YAML files that is meant: ``python -m tests.test_cells`` writes it down."""
    assert resolved() == json.loads(RESOLVED.read_text())


def test_grid_is_the_product_without_repetition() -> None:
    block = {
        "task": "generation",
        "datasets": ["sines"],
        "models": ["rnn_vae"],
        "controls": ["gaussian"],
        "seeds": [0, 1],
    }
    found = cells(settings(grid=[block, block]))
    assert [c.path for c in found] == [
        f"generation/sines/{m}/{s}" for m in ("rnn_vae", "gaussian") for s in (0, 1)
    ]
    assert [c.control for c in found] == [False, False, True, True]


def test_settings_go_from_general_to_particular(monkeypatch: pytest.MonkeyPatch) -> None:
    """Family, data set, task/family, task/data set; the fields of a budget come last."""
    family = catalogue.dataset("ushcn").family
    keys = [family, "ushcn", f"extrapolation/{family}", "extrapolation/ushcn"]
    file = {
        "label": "C",
        "group": "g",
        "class": "a.b:C",
        "config": dict.fromkeys("abcdef", 0),
        "datasets": {key: dict.fromkeys("bcdef"[i:], i + 1) for i, key in enumerate(keys)},
        "training": {
            "full": {
                "steps": 1,
                "batch_size": 9,
                "ema_decay": 0.5,
                "config": {"f": 5},
                "datasets": {
                    family: {"steps": 2, "ema_decay": None},
                    "extrapolation/ushcn": {"steps": 3, "config": {"f": 6}},
                },
            },
        },
    }
    monkeypatch.setattr(catalogue, "describe", lambda kind, name, where="": file)
    monkeypatch.setattr(catalogue, "model", lambda name: check(catalogue.ModelFile, file, name))
    config = settings(budget="full")
    late = described(config, "extrapolation", "ushcn", "c")
    assert late.config == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 6}
    assert (late.training.steps, late.training.ema_decay) == (3, None)
    other = described(config, "reconstruction", "ushcn_maine", "c")
    assert other.config == {"a": 0, "b": 1, "c": 1, "d": 1, "e": 1, "f": 5}
    assert other.training.steps == 2 and other.training.batch_size == 9


@pytest.mark.parametrize("name", catalogue.available("models"))
def test_a_budget_overrides_what_a_data_set_needs_in_the_length_of_the_schedule_alone(
    name: str,
) -> None:
    """Since a budget's fields come last, one for small sets would win on large ones, too."""
    content = catalogue.describe("models", name)
    of_data = {key for own in (content.get("datasets") or {}).values() for key in own or {}}
    for budget in (content.get("training") or {}).values():
        assert of_data & set(budget.get("config") or {}) <= {"cosine_steps"}


def test_a_configuration_changes_a_data_set() -> None:
    changed = settings("demo.yaml")
    assert describe_dataset(changed, "flame").shard_options["n"] == 64
    assert catalogue.dataset("flame").shard_options["n"] == 1000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seedz": 1}, "here: seedz: Extra inputs are not permitted, found 1"),
        ({"budget": "very huge"}, "here: budget: String should match pattern"),
        ({"grid": []}, "here: grid: List should have at least 1 item"),
        (
            {"evaluation": {"fits": 0}},
            "here: evaluation.fits: Input should be greater than or equal",
        ),
        (
            {"runtime": {"models": [], "lengths": [8], "limit": 1}},
            "here: runtime: expected models, here or in sizes, found none",
        ),
        ({"tracking_uri": "my_runs"}, "here: tracking_uri: String should match pattern"),
        ({"tracking_uri": "databricks"}, "here: tracking_uri: String should match pattern"),
        ({"tracking_uri": "ftp://server"}, "here: tracking_uri: String should match pattern"),
        (  # with 18, the smallest p is 1/19, above the level
            {"evaluation": {"permutations": 18}},
            "here: evaluation.permutations: Input should be greater than or equal to 19, found 18",
        ),
    ],
)
def test_mistakes_in_the_configuration_get_one_line(change: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Settings, configuration(**change), "here")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "sqlite:///runs.db", "postgresql+psycopg://me@server/runs"]
)
def test_servers_that_mlflow_knows_are_taken(uri: str) -> None:
    assert settings(tracking_uri=uri).tracking_uri == uri


def test_a_control_of_another_task_is_refused() -> None:
    block = configuration()["grid"][0] | {"controls": ["gp"]}
    with pytest.raises(UserError, match=r"grid: expected controls of generation on .* found 'gp'"):
        cells(settings(grid=[block]))


def test_a_control_is_described_by_the_function_that_draws_it() -> None:
    config = settings()
    for dataset, control, draw in (
        ("solar_weekly", "gaussian", "metrics.degradations:gaussian"),
        ("solar_weekly", "persistence", None),
        ("heston", "perfect", catalogue.dataset("heston").controls["perfect"].draw),
    ):
        found = describe_cell(config, Cell("generation", dataset, control, 0, control=True))
        assert isinstance(found, ControlSpec) and found.draw == draw
        assert found.digest != found.model_copy(update={"draw": "mine:drawn"}).digest
    with pytest.raises(UserError, match=r"expected a control of noise_floor, .*'gausian'"):
        describe_cell(config, Cell("generation", "solar_weekly", "gausian", 0, control=True))


def test_scores_of_a_control_depend_on_its_module() -> None:
    sines, heston = map(catalogue.dataset, ("sines", "heston"))
    assert scoring_modules(specs.control("gaussian"), sines) == ["metrics.degradations"]
    assert scoring_modules(specs.control("persistence"), sines) == []
    assert scoring_modules(specs.cell(), sines) == []
    own = scoring_modules(specs.cell(), heston)
    assert "metrics.heston" in own and "metrics.degradations" not in own


def test_a_control_of_one_data_set_is_known_on_that_one_only() -> None:
    block = configuration()["grid"][0] | {"models": [], "controls": ["perfect"], "seeds": [0]}
    (cell,) = cells(settings(grid=[block | {"datasets": ["heston"]}]))
    assert cell == Cell("generation", "heston", "perfect", 0, control=True)
    with pytest.raises(UserError, match=r"generation on flame, .* found 'perfect'"):
        cells(settings(grid=[block | {"datasets": ["heston", "flame"]}]))
    with pytest.raises(UserError, match=r"interpolation on heston, mean, .* found 'perfect'"):
        cells(settings(grid=[block | {"task": "interpolation", "datasets": ["heston"]}]))


def test_a_budget_that_a_model_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"ls4\.yaml: no budget 'huge', only smoke, "):
        described(settings(budget="huge"), "generation", "fred_md", "ls4")


def test_a_budget_from_a_file_and_from_the_command_line_is_the_same() -> None:
    """The digest of a cell depends on what matters to it and on nothing else."""
    file, line = settings("full.yaml"), settings(budget="full")
    for task, dataset in (("generation", "solar_weekly"), ("extrapolation", "physionet")):
        a, b = (described(config, task, dataset, "ls4") for config in (file, line))
        assert a.digest == b.digest
    other = a.model_copy(
        update={
            "variant_of": "something",
            "training": a.training.model_copy(update={"checkpoint_every": 9.0}),
        }
    )
    assert other.digest == a.digest
    assert a.model_copy(update={"seed": 1}).digest != a.digest


@pytest.fixture
def own_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model `mine` that is a command."""
    file = {"label": "Mine", "group": "g", "command": "run {out}", "tasks": ["generation"]}
    described = CommandFile.model_validate(file | {"time_limit": 3})
    monkeypatch.setattr(catalogue, "is_command", lambda name: name == "mine")
    monkeypatch.setattr(catalogue, "command", lambda name: described)


def test_only_a_union_grid_is_cut_at_the_middle_row_of_a_batch() -> None:
    config = settings("full.yaml", protocol={"cut": "count", "seed": 7})
    cuts = {
        model: describe_cell(
            config, Cell("extrapolation", "physionet", model, 0, control=model == "gp")
        ).protocol
        for model in ("ls4_union", "ls4", "gp")
    }
    assert {model: p and (p.cut, p.seed) for model, p in cuts.items()} == {
        "ls4_union": ("count", 7),
        "ls4": ("time", 7),
        "gp": ("time", 7),
    }


@pytest.mark.usefixtures("own_command")
def test_a_command_has_cells_like_a_model() -> None:
    cell = Cell("generation", "sines", "mine", 1, control=False)
    spec = describe_cell(settings(), cell)
    assert isinstance(spec, CommandSpec)
    assert (spec.command, spec.time_limit, spec.seed) == ("run {out}", 3, 1)
    other = describe_cell(settings(), Cell("generation", "sines", "mine", 2, control=False))
    assert other.digest != spec.digest
    with pytest.raises(UserError, match=r"mine\.yaml: expected a model of interpolation, found"):
        describe_cell(settings(), Cell("interpolation", "sines", "mine", 1, control=False))


@pytest.mark.usefixtures("own_command")
def test_a_command_cannot_be_traced() -> None:
    block = configuration()["grid"][0] | {"models": ["mine"], "trace": [1]}
    with pytest.raises(UserError, match="trace: expected models with a class, found 'mine'"):
        traces(settings(grid=[block]))


def test_draws_do_not_matter_to_generation() -> None:
    few, many = (
        Scoring(dataset=catalogue.dataset("sines"), evaluation=Evaluation(draws=n)) for n in (1, 9)
    )
    assert few.digest_for("generation") == many.digest_for("generation")
    assert few.digest_for("interpolation") != many.digest_for("interpolation")


@pytest.mark.parametrize(
    "spec",
    [specs.cell(), specs.control("gaussian"), specs.command("run {out}")],
    ids=lambda s: s.kind,
)
def test_a_cell_is_read_as_it_was_written(tmp_path: Path, spec) -> None:
    assert read_cell(specs.write(spec, tmp_path)) == spec
    path = tmp_path / CELL_FILE
    path.write_text(path.read_text().replace('"seed"', '"sead"'))
    with pytest.raises(UserError, match="not the description of a cell: ") as caught:
        read_cell(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file; the workflow writes it"):
        read_cell(tmp_path / "nothing")


if __name__ == "__main__":
    RESOLVED.write_text(json.dumps(resolved(), indent=1) + "\n")
