"""Options of data sets and models: wrong ones get one line that names the file and the key."""

import datetime
from typing import Any

import pytest

from harness import catalogue
from harness.cells import describe_dataset
from harness.checks import check, check_options, load, model_config
from harness.cli.data import load_dataset
from harness.config import Evaluation, GridBlock, Protocol, Settings, Split
from harness.errors import UserError
from harness.grid import GIVEN
from tests.checkout import configuration

SINES = {"n": 64, "length": 32, "channels": 2, "seed": 0}
BLOCK = {"task": "generation", "datasets": ["sines"], "models": [], "controls": [], "seeds": [0]}


@pytest.mark.parametrize("name", catalogue.available("datasets"))
def test_shipped_options_are_what_the_loaders_take(name: str) -> None:
    described = catalogue.dataset(name)
    check_options(described.loader, described.options, name, GIVEN)
    if described.shard:
        check_options(described.shard, described.shard_options, name)


@pytest.mark.parametrize("name", catalogue.available("models"))
def test_shipped_models_are_what_their_classes_take(name: str) -> None:
    described = catalogue.model(name)
    for fields in (described.config, described.tiny, *described.datasets.values()):
        model_config(load(described.class_), fields, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": "64"}, "sines.yaml: options: n: Input should be a valid integer, found '64'"),
        ({"observed": "1e-3"}, "observed: .*found '1e-3', which is text: numbers are written with"),
        ({"n": datetime.date(2024, 5, 1)}, "expected text in quotes, found 2024-05-01, which YAML"),
        ({"n": -4}, "options: n: Input should be greater than 0, found -4"),
        ({"seed": -1}, "options: seed: Input should be greater than or equal to 0"),
        ({"observed": float("nan")}, "options: observed: Input should be .*found nan"),
        ({"normalize": "zscore"}, "options: normalize: Extra inputs are not permitted"),
        ({"encoding": "x"}, "options: encoding: Extra inputs are not permitted"),
        ({"name": "x"}, "options: name: Extra inputs are not permitted"),
    ],
)
def test_mistakes_in_the_options_of_a_loader(changes: dict, message: str) -> None:
    described = catalogue.dataset("sines").model_copy(update={"options": SINES | changes})
    with pytest.raises(UserError, match=message):
        load_dataset("sines", described, [])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("datasets.text:MISSING", "datasets.text:MISSING: expected a function, found"),
        ("os:getcwd", "os:getcwd: expected a function, found <built-in function getcwd>"),
        ("datasets.base:Dataset", "datasets.base:Dataset: expected a function, found"),
        ("datasets.text:number", "datasets.text:number: expected a function that takes 'name'"),
    ],
)
def test_a_loader_is_a_function_of_what_loaders_are_given(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(reference, {}, "here", GIVEN)


def test_expected_needs_a_length() -> None:
    options = {"normalise": "zscore", "expected": {"series": 52}}
    with pytest.raises(UserError, match=r"here: expected\.length: Field required"):
        check_options("datasets.monash:load", options, "here", GIVEN)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Evaluation, {"fits": 1, "epochs": 1, "shares": [-1]}, "shares.0: .*found -1"),
        (Evaluation, {"fits": 1, "epochs": 1, "shares": [1.0]}, "shares.0: .*found 1.0"),
        (Evaluation, {"fits": 1, "shares": [2]}, "shares.0: .*found 2"),
        (Evaluation, {"fits": 1, "shares": [0.3, 0.3]}, "shares: expected different shares in"),
        (Evaluation, {"fits": 1, "shares": [0.301]}, "shares: expected different shares in whole"),
        (Evaluation, {"fits": "5", "epochs": 1}, "fits: Input should be a valid integer"),
        (GridBlock, BLOCK, "expected models or controls, found neither"),
        (GridBlock, BLOCK | {"models": ["ls4"], "seeds": [-1]}, "seeds.0: "),
        (GridBlock, BLOCK | {"models": ["ls4"], "seeds": []}, "seeds: List should have at least 1"),
        (GridBlock, BLOCK | {"models": ["ls4"], "seeds": [1.0]}, "seeds.0: .*valid integer"),
        (Protocol, {"hidden": float("nan")}, "hidden: "),
        (Protocol, {"seed": -1}, "seed: "),
        (Split, {"seed": 0, "fractions": [0.5, 0.5, 0.5]}, "fractions: .*a sum of 1"),
        (Split, {"seed": 0, "fractions": [0.0, 0.5, 0.5]}, "fractions: .*share for training"),
        *(
            (Settings, configuration(results=name), "results: expected the name of a folder, with")
            for name in ("", " ", "a{b}", "<a>", "a\nb", "-a", "a ")
        ),
    ],
)
def test_impossible_settings(kind: type, content: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(kind, content, "here")


def test_a_folder_may_have_spaces_quotes_and_umlauts() -> None:
    name = "my 'results' für alle"
    assert check(Settings, configuration(results=name), "here").results == name


@pytest.mark.parametrize(
    ("kind", "name"), [("models", "my-model"), ("datasets", "my data"), ("datasets", "my{data}")]
)
def test_names_that_the_graph_cannot_hold_are_refused(
    kind: catalogue.Kind, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "available", lambda kind: [name])
    with pytest.raises(UserError, match=rf"{name}\.yaml: expected a file named with letters"):
        catalogue.check_name(kind, name)


@pytest.mark.parametrize("options", [3, [1], "n: 10", None])
def test_options_that_are_no_mapping_are_refused_where_they_are_changed_too(
    options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = catalogue.describe("datasets", "sines") | {"options": options}
    catalogue.dataset.cache_clear()
    monkeypatch.setattr(catalogue, "describe", lambda kind, name: described)
    changed = Settings(**configuration(datasets={"sines": {"options": {"n": 10}}}))
    with pytest.raises(UserError, match=r"sines\.yaml: options: Input should be an object"):
        describe_dataset(changed, "sines")
