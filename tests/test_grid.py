"""The check before all jobs: what a grid names is there, and its options are what is taken."""

import json
from pathlib import Path

import pytest

from harness import catalogue, cells
from harness.config import Settings
from harness.errors import UserError
from harness.grid import Grid, check_grid, describe
from harness.sources import source_files
from tests import specs
from tests.checkout import configuration

TIMEGAN = specs.cell("baselines.timegan:TimeGAN", {}, "interpolation")
SINES = catalogue.dataset("sines")


def check(folder: Path, grid: Grid) -> None:
    path = folder / "grid.json"
    path.write_text(json.dumps(grid.model_dump(mode="json", by_alias=True)))
    check_grid(path)


@pytest.mark.parametrize("name", ["demo.yaml", "full.yaml"])
def test_shipped_grids(name: str, tmp_path: Path) -> None:
    settings = Settings(**configuration(name))
    found = cells.cells(settings)
    used = {c.dataset: cells.describe_dataset(settings, c.dataset) for c in found}
    check(tmp_path, describe(used, (cells.describe_cell(settings, cell) for cell in found)))


def test_each_configuration_of_a_model_is_listed_once() -> None:
    seeds = [specs.cell(seed=seed) for seed in range(3)]
    grid = describe({}, [*seeds, specs.cell(config={"width": 4}), specs.control("gaussian")])
    assert [spec.config for spec in grid.models] == [specs.SMALL_LS4, {"width": 4}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"n": -4}}, "sines.yaml: options: n: Input should be greater than 0"),
        ({"loader": "datasets.synthetic:lod"}, "module datasets.synthetic has no 'lod'"),
        ({"own_scores": "metrics.mine:scores"}, "no module named 'metrics.mine'"),
        (
            {"shard": "datasets.flame:write_shard", "shard_options": {"n": "x"}},
            "sines.yaml: shard_options: n",
        ),
    ],
)
def test_mistakes_in_a_data_set(changes: dict, message: str, tmp_path: Path) -> None:
    options = SINES.options | changes.get("options", {})
    described = SINES.model_copy(update=changes | {"options": options})
    with pytest.raises(UserError, match=message):
        check(tmp_path, describe({"sines": described}, []))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (specs.cell(config={"widht": 8}), "ls4.yaml: unknown field 'widht'"),
        (specs.cell(config={"width": "8"}), "ls4.yaml: width: Input should be a valid integer"),
        (specs.cell(config={"latent": -3}), "ls4.yaml: latent: expected more than 0, found -3"),
        (specs.cell(config={"width": 0}), "ls4.yaml: width: expected more than 0, found 0"),
        (
            specs.cell(config={"pool": [2, -3]}),
            r"ls4.yaml: pool: expected more than 0, found .2, -3",
        ),
        (specs.cell(config={"lr": -0.1}), "ls4.yaml: lr: expected more than 0, found -0.1"),
        (specs.cell(config={"lr_patience": -1}), "lr_patience: expected 0 or more, found -1"),
        (specs.cell(config={"d_temb": -1}), "d_temb: expected 0 or more, found -1"),
        (specs.cell("ls4.released:LS5"), "module ls4.released has no 'LS5'"),
        (TIMEGAN, "expected a model of interpolation, found one of gen"),
    ],
)
def test_mistakes_in_a_model(spec: cells.CellSpec, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        check(tmp_path, describe({}, [spec]))


def test_a_number_may_be_below_0_where_the_default_is(tmp_path: Path) -> None:
    check(tmp_path, describe({}, [specs.cell(config={"log_std_range": [-2.0, 1.0]})]))


@pytest.mark.parametrize("field", ["lr_patience", "d_temb"])
def test_a_number_may_be_0_where_that_means_something(field: str, tmp_path: Path) -> None:
    check(tmp_path, describe({}, [specs.cell(config={field: 0})]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("M = 3", "expected a class derived from Model, found 3"),
        ("class M: pass", "expected a class derived from Model, found <class"),
        ("class M(Model): pass", "expected a model with 'optimisers', found none"),
        ("class M(Model):\n optimisers = tasks = ()", "expected a model with 'Config', found none"),
        ("class M(Model):\n optimisers = tasks = Config = ()", "Config: expected a dataclass, fou"),
    ],
)
def test_a_class_that_is_no_model(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / f"no_model_{abs(hash(text))}.py"
    module.write_text(f"from harness.contract import Model\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{module.stem}:M: {message}"):
        check(tmp_path, describe({}, [specs.cell(f"{module.stem}:M")]))


@pytest.mark.parametrize("text", ["def f(:", "import math\nmath.nothing", "\0"])
def test_a_module_that_is_broken(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_scores.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    described = SINES.model_copy(update={"own_scores": "broken_scores:f"})
    with pytest.raises(UserError, match="broken_scores:f: cannot be imported: "):
        check(tmp_path, describe({"sines": described}, []))


@pytest.mark.parametrize("text", [b"def f(:", b"\0", "für".encode("latin-1")])
def test_source_files_that_are_not_python(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_model.py").write_bytes(text)
    monkeypatch.setattr("harness.sources.ROOT", tmp_path)
    with pytest.raises(UserError, match=r"broken_model\.py: (not Python|expected UTF-8)"):
        source_files("broken_model")


def test_a_parser_out_of_memory_is_not_a_mistake_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise ValueError("field 'target' is required for AnnAssign")  # what CPython says then

    (tmp_path / "good_model.py").write_text("width: int = 8")
    monkeypatch.setattr("harness.sources.ROOT", tmp_path)
    monkeypatch.setattr("harness.sources.ast.parse", parse)
    with pytest.raises(MemoryError, match=r"cannot parse good_model\.py"):
        source_files("good_model")
