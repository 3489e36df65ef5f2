"""`python -m harness score`, and evaluation of cells: what users see of the scores."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from datasets import heston
from datasets.errors import DataError
from datasets.files import replacing
from datasets.synthetic import load as sines
from harness import catalogue, records
from harness.catalogue import ROOT
from harness.cells import Cell, Scoring, controls_of
from harness.cli import main
from harness.cli.score import show
from harness.config import ControlEntry
from harness.errors import UserError
from harness.present import files
from harness.run import controls
from harness.run.evaluate import evaluate_control
from harness.run.generation import ScoringSetup, control_scores, score
from harness.run.own_samples import read_samples
from harness.run.score_samples import scores_with_controls
from metrics import degradations
from tests import specs

CPU = torch.device("cpu")
CONTROLS = controls_of("generation", catalogue.dataset("sines"))


@pytest.fixture(scope="module")
def setup() -> ScoringSetup:
    dataset = sines(
        [], name="sines", title="Sines", n=40, length=20, channels=2, seed=0, split=specs.SPLIT
    )
    return ScoringSetup(dataset, specs.scoring())


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv"])
def test_all_formats_hold_the_same_samples(tmp_path: Path, suffix: str) -> None:
    samples = np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npz":
        np.savez(path, samples=samples[..., None], other=np.zeros(3))
    elif suffix == ".npy":
        np.save(path, samples)
    else:
        np.savetxt(path, samples, delimiter=",")
    assert np.array_equal(read_samples(path, (8, 20, 1)), samples[..., None])


def as_text(head: str = "", ends: str = "\n") -> bytes:
    return (head + "".join(f"{k},{k + 1}.5,-{k}e1{ends}" for k in range(4))).encode()


@pytest.mark.parametrize(
    "content",
    [
        as_text(),
        as_text("0,1,2\n"),  # pandas' DataFrame.to_csv(index=False)
        as_text('"0","1","2"\n'),
        as_text("1,2,3\n"),
        as_text("2021,2022,2023\n"),
        as_text("\ufeff"),
        as_text("\ufeff0,1,2\r\n", "\r\n"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".CSV"])
def test_csv_as_other_programs_write_it(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    expected = [[k, k + 1.5, -10 * k] for k in range(4)]
    assert read_samples(path, (8, 3, 1))[..., 0].tolist() == expected


@pytest.mark.parametrize("suffix", [".NPY", ".NPZ"])
def test_capital_letters_in_a_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    with path.open("wb") as file:
        (np.save if suffix == ".NPY" else np.savez)(file, np.ones((5, 20)))
    assert read_samples(path, (8, 20, 1)).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("# 1,2,3", "mine.csv:5: expected a finite number as value 1, found '# 1'"),
        ("1,2", "mine.csv:5: expected 3 numbers between commas, found 2: '1,2'"),
        ("1;2;3", "mine.csv:5: expected 3 numbers between commas, found 1: '1;2;3'"),
        ("1,2,nan", "mine.csv:5: expected a finite number as value 3, found 'nan'"),
        ("1,,3", "mine.csv:5: expected a finite number as value 2, found ''"),
        ("1,2,1_0", "mine.csv:5: expected a finite number as value 3, found '1_0'"),
        ("1,2,1\x0c2", "mine.csv:5: expected a finite number as value 3, found '1\\x0c2'"),
        ('1,2,"', "mine.csv:5: expected CSV, found unexpected end of data"),
        ("für", "mine.csv:5: expected utf-8 text, found byte 0xfc"),
    ],
)
def test_a_line_of_csv_that_is_no_sample_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(as_text() + line.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_samples(path, (8, 3, 1))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_shape_is_told_as_it_is_in_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.zeros((52, 28)))
    (tmp_path / "mine.csv").write_text("")
    for name, found in {"mine.npy": r"\(52, 28\)", "mine.csv": r"\(0, 52\)"}.items():
        with pytest.raises(UserError, match=rf"of shape \(n, 52, 1\), found {found}$"):
            read_samples(tmp_path / name, (28, 52, 1))


def broken(kind: str, folder: Path) -> Path:
    path = folder / "mine.npy"
    good = np.zeros((5, 20, 2))
    if kind == "length":
        np.save(path, good[:, :19])
    elif kind == "channels":
        np.save(path, good[..., 0])
    elif kind == "nan":
        good[3, 4, 1] = np.nan
        np.save(path, good)
    elif kind == "text":
        np.save(path, np.full((5, 20, 2), "x"))
    elif kind == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "garbage":
        path.write_bytes(b"no numbers here")
    elif kind == "two arrays":
        path = folder / "mine.npz"
        np.savez(path, a=good, b=good)
    elif kind == "twice":
        path = folder / "mine.npz"
        np.savez(path, samples=good)
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("samples.npy", archive.read("samples.npy"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "damaged":
        path = folder / "mine.npz"
        path.write_bytes(b"PK\x03\x04 and then nothing")
    elif kind == "few":
        np.save(path, good[:2])
    elif kind == "huge":
        np.save(path, good + 1e39)
    elif kind == "csv":
        path = folder / "mine.csv"
        np.savetxt(path, good.reshape(5, 40), delimiter=",")
    elif kind == "suffix":
        path = folder / "mine.mat"
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "kind, message",
    [
        ("length", "expected samples of shape (n, 20, 2), found (5, 19, 2)"),
        ("channels", "expected samples of shape (n, 20, 2), found (5, 20)"),
        ("nan", "expected finite values in single precision, found NaN or infinity in sample 3"),
        ("huge", "expected finite values in single precision, found NaN or infinity in sample 0"),
        ("few", "expected at least 3 samples, found 2"),
        ("damaged", "expected an .npz of plain arrays, found no zip archive, or a damaged one"),
        ("text", "expected real numbers, found <U1"),
        ("pickle", "expected numbers or text, found values of type object"),
        ("garbage", "expected an array in NumPy's format, found none, or a damaged one"),
        ("two arrays", "expected one array, or one called 'samples', found ['a', 'b']"),
        ("twice", "expected each array once, found ['samples', 'samples']"),
        ("folder", "cannot be read: Is a directory"),
        ("csv", "expected a .npz or .npy file for 2 channels"),
        ("suffix", "expected a .npz or .npy file for 2 channels"),
        ("missing", "no such file"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, kind: str, message: str) -> None:
    path = broken(kind, tmp_path)
    with pytest.raises((UserError, DataError)) as caught:
        read_samples(path, (8, 20, 2))
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def shown(setup: ScoringSetup, samples: np.ndarray) -> str:
    """Return what the command prints."""
    console = Console(record=True, width=200)
    show(console, setup, scores_with_controls(setup, samples, "mine.npz"), samples)
    return console.export_text()


def test_a_table_beside_the_controls(setup: ScoringSetup) -> None:
    text = shown(setup, setup.test[:5] + 0.1)
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert rows == 2 * ["mine.npz", *CONTROLS]  # scores, then tests
    assert "The benchmark's tables score 8 samples" in text
    assert "normalised units" not in text


@pytest.mark.parametrize("change", [lambda x: 100 + x, lambda x: 20 * x, lambda x: x / 20])
def test_samples_in_other_units_are_asked_about(setup: ScoringSetup, change: Callable) -> None:
    samples = setup.test.copy()
    samples[..., 1] = change(samples[..., 1])
    text = " ".join(shown(setup, samples).split())
    assert "Channel 1 of the samples has mean" in text
    assert "are the samples in normalised units (docs/data.md)?" in text


def test_samples_that_overflow_the_evaluator_get_one_line(setup: ScoringSetup) -> None:
    with pytest.raises(UserError, match=r"mine\.npz: fake: expected values on which"):
        scores_with_controls(setup, setup.test * np.float32(1e37), "mine.npz")


def test_a_data_set_with_gaps_gets_one_line(setup: ScoringSetup) -> None:
    gaps = sines([], name="gaps", title="Gaps", n=40, length=20, channels=2, seed=0, observed=0.5,
                 split=specs.SPLIT)  # fmt: skip
    with pytest.raises(UserError, match="data set gaps: expected complete series"):
        scores_with_controls(replace(setup, dataset=gaps), setup.test, "mine.npz")


def test_own_scores_are_shown_where_there_are_some(setup: ScoringSetup) -> None:
    described = setup.description.model_copy(update={"own_scores": f"{__name__}:own"})
    scoring = Scoring(dataset=described, evaluation=setup.evaluation)
    text = shown(replace(setup, scoring=scoring), setup.test)
    assert "own scores" in text and "distance" in text


def own(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    return {"distance": float(np.abs(real.mean() - fake.mean()))}


def test_own_scores_and_controls_are_in_the_unit_before_scaling(setup: ScoringSetup) -> None:
    meta = setup.dataset.meta | {"scaling": {"mean": 5.0, "deviation": 2.0}}
    sevens = ControlEntry(label="sevens", draw=f"{__name__}:sevens")
    changes = {"own_scores": f"{__name__}:own", "controls": {"sevens": sevens}}
    described = setup.description.model_copy(update=changes)
    scoring = Scoring(dataset=described, evaluation=setup.evaluation)
    scaled = replace(setup, dataset=replace(setup.dataset, meta=meta), scoring=scoring)
    changes = {"model": "sevens", "draw": sevens.draw}
    spec = specs.control("gaussian").model_copy(update=changes)
    samples, scores, _ = control_scores(spec, scaled)
    assert samples is not None and (samples == 1).all()  # (7 - 5) / 2
    expected = abs(5 + 2 * float(setup.test.mean()) - 7)
    assert scores[-1].name == "distance" and scores[-1].value == pytest.approx(expected, abs=1e-6)


def sevens(train: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((n, *train.shape[1:]), 7.0)


def test_a_data_set_with_controls_of_its_own_and_few_training_series(tmp_path: Path) -> None:
    described = catalogue.dataset("heston")
    shards = [tmp_path / f"{shard}.npz" for shard in described.shards]
    for shard, path in zip(described.shards, shards, strict=True):
        heston.write_shard(path, shard, n=20, seed=0)
    split = described.split.model_dump()
    dataset = heston.load(shards, name="heston", title="Heston", split=split)
    setup = ScoringSetup(dataset, specs.scoring("heston", fits=1, epochs=1))
    text = shown(setup, dataset.x[dataset.test])
    assert "perfect" in text and "random_walk" in text and "acf_abs" in text
    assert "noise_floor" not in text  # 18 training series, 20 test series


def test_evaluators_can_be_given_some_of_the_series(setup: ScoringSetup) -> None:
    samples = setup.test + np.float32(0.1)
    description = setup.description.model_copy(update={"evaluator_series": 5})
    few = replace(setup, scoring=setup.scoring.model_copy(update={"dataset": description}))
    validation, test = setup.dataset.validation, setup.dataset.test
    rest = np.concatenate([validation, test[5:]])
    first = replace(setup.dataset, validation=rest, test=test[:5])
    (found, errors), (expected, _), (whole, _) = (
        score(*both)
        for both in (
            (few, samples),
            (replace(setup, dataset=first), samples[:5]),
            (setup, samples),
        )
    )
    of_networks = ("classification", "prediction")
    for one, other, all_series in zip(found, expected, whole, strict=True):
        assert one == (other if one.name.startswith(of_networks) else all_series)
    assert errors["prediction"].shape[1] == len(errors["real_counts"]) == 5


def test_a_mistake_on_the_command_line_is_one_line_without_traceback(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "harness", "score", "--dataset", "solar", "--samples", "x.npy"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: unknown dataset 'solar': expected one of ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("sines", "{prepared}: expected the data set 'temperature_rain', found 'sines'"),
        (
            "temperature_rain",
            "config/datasets/temperature_rain.yaml: season: expected less than 20 time steps,"
            " found 365",
        ),
        (None, "{prepared}: no such file"),
    ],
)
def test_prepared_data_that_are_others_too_short_or_not_there(
    made: str | None,
    message: str,
    setup: ScoringSetup,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    samples, prepared = tmp_path / "s.npy", tmp_path / "p.npz"
    np.save(samples, setup.test)
    if made:
        replace(setup.dataset, name=made).save(prepared)
    words = ["score", "--dataset", "temperature_rain", "--samples", samples, "--prepared", prepared]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", f"error: {message.format(prepared=prepared)}\n")


@pytest.mark.slow
def test_real_samples_on_the_command_line(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The whole way: fetch from the mirror, prepare, score white noise."""
    monkeypatch.chdir(tmp_path)  # where nothing is prepared yet
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.standard_normal((28, 52)))
    words = ["score", "--dataset", "solar_weekly", "--samples", str(tmp_path / "mine.npy")]
    words += ["--data", str(tmp_path / "data"), "--mirror", str(mirror), "--epochs", "3"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "Solar Weekly: 28 test series of length 52" in capsys.readouterr().out
    assert (tmp_path / "data" / "monash" / "solar_weekly_dataset.tsf").is_file()


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_are_scored_like_models(setup: ScoringSetup, control: str) -> None:
    spec = specs.control(control, seed=1)
    done = evaluate_control(spec, setup, CPU)
    record, fake = done.record, done.samples
    names = {score.name for score in record.scores}
    assert record.status == "done" and record.control
    if control == "persistence":
        assert fake is None and names == {"prediction_literal", "prediction_robust"}
    else:
        assert fake is not None and fake.shape == setup.test.shape
        three = {"marginal", "classification", "prediction"}
        assert {f"{s}_{form}" for s in three for form in ("literal", "robust")} <= names
    again = evaluate_control(spec, setup, CPU)
    assert again.record.scores == record.scores, "scores must be reproducible"


def test_controls_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((30, 6, 2)).cumsum(1).astype(np.float32)
    rows = {row.tobytes() for row in train}
    floor = controls.noise_floor(train, 20, rng)
    assert {r.tobytes() for r in floor} <= rows and len({r.tobytes() for r in floor}) == 20
    assert {r.tobytes() for r in degradations.memoriser(train, 50, rng)} <= rows
    many = degradations.gaussian(train, 20_000, rng).reshape(20_000, -1)
    flat = train.reshape(30, -1)
    assert np.allclose(many.mean(0), flat.mean(0), atol=0.1)
    assert np.allclose(np.cov(many.T), np.cov(flat.T), atol=0.06 * np.cov(flat.T).max())
    noise = degradations.white_noise(train, 20_000, rng)
    assert np.allclose(noise.std((0, 1)), train.std((0, 1)), rtol=0.02)
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 1, 0])[0, 1]) < 0.03
    with pytest.raises(UserError, match=r"at least 31 training series, .* found 30"):
        controls.noise_floor(train, 31, rng)


def test_records_are_whole_strict_and_without_nan(setup: ScoringSetup, tmp_path: Path) -> None:
    done = evaluate_control(specs.control("memoriser"), setup, CPU)
    record = done.record
    nan = records.Score(name="odd", value=float("nan"))
    record = record.model_copy(update={"scores": [*record.scores, nan]})
    path = tmp_path / "a" / "record.json"
    records.write(record, path)
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]
    assert "NaN" not in path.read_text()
    assert records.read(path).scores[-1].value is None
    assert files.find([tmp_path]) == {path.parent: records.read(path)}
    path.write_text(path.read_text().replace('"seed"', '"sead"'))
    with pytest.raises(UserError, match="not a record: "):
        records.read(path)


def test_what_a_killed_writer_leaves_is_no_record(tmp_path: Path) -> None:
    with replacing(tmp_path / "cell" / "record.json") as part:
        part.write_text("{")
        assert not list(tmp_path.rglob("record.json"))


REFERENCE = sorted(files.record_files(ROOT / "results" / "reference"))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda p: "/".join(p.parts[-6:-1]))
def test_committed_records(path: Path) -> None:
    """Each keeps the schema, lies where its identity says, and came from a clean commit."""
    record = records.read(path)
    cell = Cell(record.task, record.dataset, record.model, record.seed, record.control)
    assert path.parent == ROOT / "results" / "reference" / record.budget / cell.path
    assert record.dirty is False and len(record.commit) == 40
    assert (record.reason is None) == (record.status == "done")
    assert bool(record.scores) == (record.status == "done")
    assert record.control or (path.parent / "history.jsonl").exists()
