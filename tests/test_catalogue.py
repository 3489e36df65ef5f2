"""The catalogue: files that take over others, names that readers see, mistakes in one line."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from harness import catalogue
from harness.catalogue import merge, without_none
from harness.checks import check, load
from harness.commands import fill
from harness.config import DatasetFile, ModelFile
from harness.errors import UserError
from harness.run.interpolators import INTERPOLATORS
from harness.tasks import TASKS

MODEL = {
    "label": "A",
    "group": "g",
    "class": "a.b:C",
    "training": {"full": {"steps": 3, "batch_size": 2}},
}


COMMAND = {"label": "B", "group": "g", "command": "run {data} {out}", "tasks": ["generation"]}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A catalogue of its own, to which files can be added."""

    def add(kind: str, name: str, content: dict) -> None:
        path = tmp_path / "config" / kind / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))

    (tmp_path / "config").mkdir()
    shutil.copy(catalogue.CONFIG / "budgets.yaml", tmp_path / "config")
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    monkeypatch.setattr(catalogue, "CONFIG", tmp_path / "config")
    cached = (catalogue.model, catalogue.command, catalogue.dataset, catalogue.controls,
              catalogue.budgets)  # fmt: skip
    for function in cached:
        function.cache_clear()
    yield add
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_shipped_files_are_valid(kind: str) -> None:
    read = {"models": catalogue.model, "datasets": catalogue.dataset}[kind]
    assert all(read(name) for name in catalogue.available(kind))


def test_labels_and_colours_are_told_apart() -> None:
    shown = [catalogue.model(n) for n in catalogue.available("models")]
    shown = [model for model in shown if model.variant_of is None]
    assert len({model.label for model in shown}) == len(shown)
    colours = [model.colour for model in shown if model.colour]
    assert len(set(colours)) == len(colours) and not set(colours) & {*catalogue.SPARE_COLOURS}


def test_names_without_a_file_are_shown_as_they_are() -> None:
    assert catalogue.label("gone") == "gone" and catalogue.label("gaussian") == "Gaussian"
    assert catalogue.colour("gone") == catalogue.colour("gone") != catalogue.colour("ls4")


def test_merge() -> None:
    base = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1]}
    assert merge(base, {"b": {"c": None, "f": 4}, "e": [2]}, {"a": None}) == {
        "b": {"d": 3, "f": 4},
        "e": [2],
    }
    later = merge({}, {"b": {"d": None}})
    assert merge(base, later)["b"] == {"c": 2}, "a None waits for what it removes"
    assert without_none({"a": None, "b": {"c": None, "d": 0}}) == {"b": {"d": 0}}
    assert base["b"] == {"c": 2, "d": 3}, "nothing is changed in place"


def test_a_file_says_what_differs_from_another(config) -> None:
    config("models", "whole", MODEL | {"config": {"a": 1, "b": 1}})
    config("models", "other", {"extends": "whole", "label": "B", "config": {"a": None, "b": 2}})
    config("models", "third", {"extends": "other", "variant_of": "whole", "config": {"c": 3}})
    third = catalogue.model("third")
    assert (third.label, third.config, third.variant_of) == ("B", {"b": 2, "c": 3}, "whole")
    assert third.training["full"].steps == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extends": "nothing"}, r"config/models/mine\.yaml: extends: unknown model 'nothing'"),
        ({"extends": "mine"}, r"config/models/mine\.yaml: extends itself"),
        (MODEL | {"colour": "red"}, r"mine\.yaml: colour: String should match pattern"),
        (MODEL | {"colours": "#000000"}, r"mine\.yaml: colours: Extra inputs"),
        (MODEL | {"datasets": {"flme": {}}}, r"mine\.yaml: datasets: unknown dataset 'flme'"),
        (
            MODEL | {"training": {"full": {"steps": 1, "batch_size": 1, "datasets": {"x": {}}}}},
            r"mine\.yaml: training\.full\.datasets: unknown dataset 'x'",
        ),
        (
            MODEL | {"training": {"cpy": {"steps": 1, "batch_size": 1}}},
            r"mine\.yaml: training: unknown budget 'cpy': expected one of full, paper, smoke",
        ),
        (
            MODEL | {"datasets": {"extrapolion/flame": {}}},
            r"mine\.yaml: datasets: unknown task 'extrapolion': expected one of generation, ",
        ),
    ],
)
def test_mistakes_in_a_file_get_one_line(config, content: dict, message: str) -> None:
    config("models", "mine", content)
    config("datasets", "sun", {"title": "Sun"})
    with pytest.raises(UserError, match=message) as caught:
        catalogue.model("mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "run {seeed} {out}"}, "command: unknown placeholder 'seeed'"),
        ({"command": "run {data}"}, "command: expected the placeholder {out}"),
        ({"command": "run 'a {out}"}, "command: No closing quotation"),
        ({"tasks": []}, "tasks: List should have at least 1 item"),
        ({"tasks": ["forecast"]}, "tasks.0: Input should be 'generation', "),
        ({"time_limit": 0}, "time_limit: Input should be greater than 0"),
        ({"conda": "r"}, "conda: String should match pattern"),
        ({"conda": "r.yaml", "container": "r"}, "expected one of conda and container, found both"),
        ({"conda": "r.yaml"}, "no such file: r.yaml"),
        ({"files": ["a.R"]}, "no such file: a.R"),
        ({"training": {}}, "training: Extra inputs are not permitted"),
    ],
)
def test_mistakes_in_a_command_get_one_line(config, changes: dict, message: str) -> None:
    config("models", "mine", COMMAND | changes)
    with pytest.raises(UserError) as caught:
        catalogue.command("mine")
    assert str(caught.value).startswith("config/models/mine.yaml: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_command_is_a_model_that_is_not_trained(config) -> None:
    config("models", "a", MODEL)
    config("models", "b", COMMAND | {"command": "awk '{print $1}' {out}", "order": 3})
    config("models", "c", {"extends": "b", "label": "C"})
    assert (catalogue.trained(), catalogue.commands()) == (["a"], ["b", "c"])
    assert [catalogue.label(name) for name in "abc"] == ["A", "B", "C"]
    assert catalogue.order("c") == 3 and catalogue.group("b") == "g"
    with pytest.raises(UserError, match="expected a model with a class, found one with a command"):
        catalogue.model("b")


def test_words_of_a_command_are_filled_in_after_they_are_split() -> None:
    values = {"data": "a b'{n}", "n": "3"}
    assert fill("run 'x y' --data={data} {n}{n} {} {a b}", values) == [
        "run", "x y", "--data=a b'{n}", "33", "{}", "{a", "b}",
    ]  # fmt: skip


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"unknown model 'ls5': expected one of .*latent_ode, ls4, "
    ):
        catalogue.describe("models", "ls5")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a: [", "not YAML"),
        (b"- 1", "expected a mapping, found list"),
        (b"a: 1\nb: 1\na: 2", "not YAML: expected each key once, found 'a' again, line 3"),
        (b"a: .nan", "not YAML: expected finite numbers, found .nan"),
        ("a: 1".encode("utf-16"), "expected UTF-8 text, found byte 0x"),
    ],
)
def test_broken_yaml_gets_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        catalogue.read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_data_set_changes_known_keys_of_the_training_only() -> None:
    def with_changes(changes: dict) -> dict:
        training = {"smoke": {"steps": 1, "batch_size": 1, "datasets": {"flame": changes}}}
        return MODEL | {"training": training}

    check(ModelFile, with_changes({}), "here")
    check(ModelFile, with_changes({"time_limit": 3}), "here")
    for changes, message in (
        ({"stps": 1}, "stps: Extra inputs are not permitted, found 1"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1, found 0"),
    ):
        with pytest.raises(UserError) as caught:
            check(ModelFile, with_changes(changes), "here")
        assert str(caught.value) == f"here: training.smoke.datasets.flame.{message}"


def test_every_control_can_be_asked_for() -> None:
    controls = catalogue.controls()
    assert all(callable(load(c.draw)) for c in controls.values() if c.draw)
    for task in TASKS:
        without = [name for name, c in controls.items() if task in c.tasks and c.draw is None]
        assert without == (["persistence"] if task == "generation" else [*INTERPOLATORS])


def test_schemas_follow_the_models_of_the_files() -> None:
    shipped = catalogue.ROOT / "workflow" / "schemas"
    schema = json.loads((shipped / "dataset.schema.json").read_text())
    assert schema["properties"].keys() == DatasetFile.model_fields.keys()
