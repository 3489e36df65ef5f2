"""Sweeps: names that tell their settings, cells with these settings, mistakes."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import catalogue
from harness.cells import CellSpec, cells, describe_cell, traces
from harness.checks import check
from harness.config import Settings
from harness.errors import UserError
from harness.sweeps import names, parts, variants
from tests.checkout import configuration, copy, planned, run, snakemake, write_yaml

SWEEP = {"ls4": {"lr": [0.001, 0.0003], "width": [32, 64]}}
BLOCK = {"task": "generation", "datasets": ["sines"], "controls": [], "seeds": [0, 1]}


def settings(*models: object, **changes: object) -> Settings:
    grid = [BLOCK | {"models": list(models)} | changes]
    return check(Settings, configuration(budget="smoke", grid=grid), "here")


def test_every_combination_is_a_variant_named_after_its_settings() -> None:
    assert names(["rnn_vae", SWEEP]) == [
        "rnn_vae",
        "ls4-lr-0.001-width-32",
        "ls4-lr-0.001-width-64",
        "ls4-lr-0.0003-width-32",
        "ls4-lr-0.0003-width-64",
    ]


words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans()


@given(st.dictionaries(words, numbers | words, min_size=1, max_size=3))
def test_a_name_tells_its_settings(fields: dict[str, object]) -> None:
    ((name, model, changes),) = variants({"ls4_paper": {k: [v] for k, v in fields.items()}})
    assert changes == fields and model == "ls4_paper"
    assert parts(name) == (model, {key: str(value) for key, value in fields.items()})
    assert re.fullmatch(r"[\w.+-]+", name)  # the wildcard of the workflow


def test_no_name_of_a_model_looks_like_a_variant() -> None:
    assert all(parts(name) == (name, {}) for name in catalogue.available("models"))


def test_the_values_of_a_sweep_come_last() -> None:
    config = settings("ls4", {"ls4": {"sigma": [0.7], "lr": [1e-05]}}, datasets=["nn5_daily"])
    plain, swept = (
        spec
        for cell in cells(config)
        if cell.seed == 0 and isinstance(spec := describe_cell(config, cell), CellSpec)
    )
    assert plain.config == {"sigma": 0.5} and plain.variant_of is None  # NN5's own sigma
    assert swept.config == {"sigma": 0.7, "lr": 1e-05}
    assert (swept.model, swept.variant_of) == ("ls4-sigma-0.7-lr-1e-05", "ls4")
    assert (swept.training, swept.where) == (plain.training, "config/models/ls4.yaml")
    assert swept.digest != plain.digest


def test_readers_see_model_and_settings() -> None:
    name = "ls4-lr-0.001-width-32"
    assert catalogue.label(name) == "LS4: lr 0.001, width 32"
    same = (catalogue.group, catalogue.order, catalogue.colour)
    assert [f(name) for f in same] == [f("ls4") for f in same]


def test_variants_can_be_traced() -> None:
    assert {cell.model for cell in traces(settings(SWEEP, trace=[2]))} == {*names([SWEEP])}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"ls4": {"lr": []}}, "at least 1 item"),
        ({"ls4": {}}, "at least 1 item"),
        ({"ls4": {"lr": [0.1]}, "rnn": {"lr": [0.1]}}, "at most 1 item"),
        ({"ls4": {"init": ["a/b"]}}, "String should match pattern"),
        ({"ls4": {"a-b": [1]}}, "String should match pattern"),
    ],
)
def test_mistakes_get_one_line(sweep: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(sweep)
    assert str(caught.value).startswith("here: grid.0.models.0") and "\n" not in str(caught.value)
    assert said in str(caught.value)


def test_an_unknown_model_gets_one_line() -> None:
    config = settings({"ls5": {"lr": [0.1]}})
    with pytest.raises(UserError, match="unknown model 'ls5': expected one of"):
        describe_cell(config, cells(config)[0])


@pytest.mark.slow
def test_the_workflow_plans_variants(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    models = ["ls4", {"ls4": {"lr": [0.001, 1e-05], "init": ["legs", "lin"]}}]
    grid = [BLOCK | {"models": models, "controls": ["gaussian"]}]
    file = write_yaml(tmp_path / "mine.yaml", {"budget": "smoke", "grid": grid})
    jobs = planned(snakemake(checkout, "-n", "--configfile", str(file)))
    assert (jobs["train"], jobs["evaluate"], jobs["control"]) == (10, 10, 2)
    write_yaml(file, {"grid": [BLOCK | {"models": [{"ls4": {"lr": "fast"}}]}]})
    done = run("snakemake", "-n", "--configfile", str(file), cwd=checkout)
    assert done.returncode != 0 and "Job stats" not in done.stdout
