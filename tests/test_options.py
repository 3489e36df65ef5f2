"""Options of data sets and models: wrong ones get one line that names the file and the key."""

import pytest

from harness import catalogue
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
        ({"n": -4}, "options: n: Input should be greater than 0, found -4"),
        ({"seed": -1}, "options: seed: Input should be greater than or equal to 0"),
        ({"observed": float("nan")}, "options: observed: Input should be .*found nan"),
        ({"encoding": "x"}, "options: encoding: Extra inputs are not permitted"),
        ({"name": "x"}, "options: name: Extra inputs are not permitted"),
    ],
)
def test_mistakes_in_the_options_of_a_loader(changes: dict, message: str) -> None:
    described = catalogue.dataset("sines").model_copy(update={"options": SINES | changes})
    with pytest.raises(UserError, match=message):
        load_dataset("sines", described, [])


def test_expected_needs_a_length() -> None:
    options = {"normalise": "zscore", "expected": {"series": 52}}
    with pytest.raises(UserError, match=r"here: expected\.length: Field required"):
        check_options("datasets.monash:load", options, "here", GIVEN)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Evaluation, {"fits": 1, "epochs": 1, "shares": [-1]}, "shares.0: .*found -1"),
        (Evaluation, {"fits": 1, "epochs": 1, "shares": [1.0]}, "shares.0: .*found 1.0"),
        (Evaluation, {"fits": "5", "epochs": 1}, "fits: Input should be a valid integer"),
        (GridBlock, BLOCK, "expected models or controls, found neither"),
        (GridBlock, BLOCK | {"models": ["ls4"], "seeds": [-1]}, "seeds.0: "),
        (GridBlock, BLOCK | {"models": ["ls4"], "seeds": [1.0]}, "seeds.0: .*valid integer"),
        (Protocol, {"hidden": float("nan")}, "hidden: "),
        (Protocol, {"seed": -1}, "seed: "),
        (Split, {"seed": 0, "fractions": [0.5, 0.5, 0.5]}, "fractions: .*a sum of 1"),
        (Split, {"seed": 0, "fractions": [0.0, 0.5, 0.5]}, "fractions: .*share for training"),
        (Settings, configuration(results=""), "results: "),
        (Settings, configuration(results="a{b}"), "results: "),
    ],
)
def test_impossible_settings(kind: type, content: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(kind, content, "here")


def test_a_folder_may_have_spaces_quotes_and_umlauts() -> None:
    name = "my 'results' für alle"
    assert check(Settings, configuration(results=name), "here").results == name


def test_a_models_name_with_a_hyphen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "available", lambda kind: ["my-model"])
    with pytest.raises(UserError, match=r"my-model\.yaml: expected a file named with letters"):
        catalogue.check_name("models", "my-model")
