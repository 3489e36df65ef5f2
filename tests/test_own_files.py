"""Files of one's own: planned where they lie, refused where they are not."""

from pathlib import Path

import numpy as np
import pytest

from datasets import array, table
from harness import catalogue
from harness.cells import ControlSpec
from harness.errors import UserError
from harness.run.view import view
from tests.checkout import copy, planned, run, snakemake, write_yaml

SPLIT = {"seed": 0, "fractions": [0.6, 0.2, 0.2]}
BLOCK = {"task": "generation", "models": [], "controls": ["white_noise"], "seeds": [0]}
PREPARE = "results/smoke/data/my-series.npz"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a data set of one's own, in a file whose name has a space and a hyphen."""
    checkout = copy(tmp_path_factory.mktemp("checkout") / "benchmark")
    (checkout / "data").mkdir()
    np.save(checkout / "data" / "my series.npy", np.random.default_rng(0).normal(size=(20, 8)))
    description = {
        "title": "My series",
        "loader": "datasets.array:load",
        "files": ["data/my series.npy"],
        "split": SPLIT,
    }
    write_yaml(checkout / "config" / "datasets" / "my-series.yaml", description)
    absent = description | {"files": ["data/absent.npy"]}
    write_yaml(checkout / "config" / "datasets" / "absent.yaml", absent)
    write_yaml(checkout / "config" / "datasets" / "long-season.yaml", description | {"season": 8})
    for name in ("my-series", "absent"):
        grid = {"budget": "smoke", "grid": [BLOCK | {"datasets": [name]}]}
        write_yaml(checkout / "config" / f"{name}.yaml", grid)
    return checkout


def test_a_file_of_one_s_own_is_prepared_and_not_fetched(checkout: Path) -> None:
    arguments = [PREPARE, "--configfile", "config/my-series.yaml", "--cores", "1"]
    jobs = planned(snakemake(checkout, "-n", *arguments))
    assert jobs["prepare"] == 1 and "fetch" not in jobs
    snakemake(checkout, *arguments)
    assert "Nothing to be done" in snakemake(checkout, *arguments)
    file = checkout / "data" / "my series.npy"
    np.save(file, np.load(file) * 2)
    assert planned(snakemake(checkout, "-n", *arguments))["prepare"] == 1


def test_an_absent_file_is_refused_when_the_graph_is_planned(checkout: Path) -> None:
    done = run("snakemake", "-n", "--configfile", "config/absent.yaml", cwd=checkout)
    assert done.returncode != 0 and "Job stats" not in done.stdout
    assert "config/datasets/absent.yaml: files: expected a file that is there" in done.stdout


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("absent", "error: data/absent.npy: expected a file that is there, or a path of"),
        ("flame", "error: flame: expected a data set that is read from files, found a made one"),
        ("nothing", "error: unknown dataset 'nothing'"),
        (
            "long-season",
            "error: config/datasets/long-season.yaml: season: expected less than 8 time steps,"
            " found 8",
        ),
    ],
)
def test_check_data_refuses_in_one_line(checkout: Path, dataset: str, message: str) -> None:
    done = run("python", "-m", "harness", "check-data", dataset, cwd=checkout)
    assert done.returncode == 1
    assert done.stdout.startswith(message) and done.stdout.count("\n") == 1


def test_check_data_looks_at_the_data_set_s_own_controls(checkout: Path) -> None:
    drawn = catalogue.read_yaml(checkout / "config" / "datasets" / "my-series.yaml")
    drawn["controls"] = {"mine": {"label": "M", "draw": "datasets.nothing:draw"}}
    file = checkout / "config" / "datasets" / "drawn.yaml"
    write_yaml(file, drawn)
    done = run("python", "-m", "harness", "check-data", "drawn", cwd=checkout)
    file.unlink()  # it would be in the way of every grid
    assert done.returncode == 1
    assert done.stdout == "error: datasets.nothing:draw: no module named 'datasets.nothing'\n"


def test_prepare_refuses_an_absent_file_and_writes_nothing(checkout: Path, tmp_path: Path) -> None:
    description = tmp_path / "description.json"
    description.write_text(catalogue.dataset("solar_weekly").model_dump_json())
    outputs = [tmp_path / "out" / name for name in ("a.npz", "split.json", "report.json")]
    done = run(
        "python", "-m", "harness", "prepare", "mine", "nowhere.tsf",
        "--description", str(description), "--out", str(outputs[0]),
        "--split", str(outputs[1]), "--report", str(outputs[2]),
        cwd=checkout,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == "error: nowhere.tsf: expected a file that is there, found none\n"
    assert not any(path.exists() for path in outputs)


def test_generation_wants_complete_series_on_one_grid(tmp_path: Path) -> None:
    def spec(task: str) -> ControlSpec:
        return ControlSpec(
            task=task, dataset="mine", model="mean", seed=0, budget="smoke", draw=None
        )  # type: ignore[arg-type]

    gaps = np.random.default_rng(0).normal(size=(10, 5))
    gaps[0, 0] = np.nan
    np.save(tmp_path / "gaps.npy", gaps)
    gapped = array.load([tmp_path / "gaps.npy"], name="mine", title="Mine", split=SPLIT)
    lines = [f"s{n},{k + n * k / 9},c,{k * n}" for n in range(9) for k in range(4)]
    path = tmp_path / "times.csv"
    path.write_text("id,time,channel,value\n" + "\n".join(lines) + "\n")
    own = table.load([path], name="mine", title="Mine", split=SPLIT, time_unit="h")
    assert own.mask.all()
    for dataset, message in (
        (gapped, "expected complete series for generation, found 2% of the values missing"),
        (own, "expected series of the same times for generation, found others"),
    ):
        with pytest.raises(UserError, match=message):
            view(spec("generation"), dataset)
        view(spec("interpolation"), dataset)
