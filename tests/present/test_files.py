"""What lies beside a record: how it is written, and how it is found and read again."""

from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.files import sha256
from harness import records
from harness.errors import UserError
from harness.present import files
from harness.run import summary
from harness.run.evaluate import write_arrays
from tests.present import outputs


def series(n: int = 30, length: int = 1000, channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, n, length, channels)).astype(np.float32)
    return real, fake


def test_bands_and_steps() -> None:
    real, fake = series()
    arrays = summary.summarise(real, fake)
    assert arrays["steps"].tolist() == [5, 14, 37, 100]
    np.testing.assert_array_equal(arrays["fake_at_steps"][:, 2], fake[:, 37])
    np.testing.assert_allclose(arrays["real_mean"], real.mean(0), rtol=1e-6)
    below = (real < arrays["real_low"]).sum(0)
    above = (real > arrays["real_high"]).sum(0)
    assert (below == 2).all()  # 5 % of 30 lies between the second and the third value
    assert (above == 2).all()
    np.testing.assert_array_equal(arrays["examples"], fake[:4])


def test_no_real_series_is_kept_whole() -> None:
    real, fake = series()
    arrays = summary.summarise(real, fake)
    for name, array in arrays.items():
        if name.startswith("real"):
            assert array.shape[:2] in {(1000, 2), (30, 4)}


@pytest.mark.parametrize("length", [2, 12, 52])
def test_short_series_have_steps_inside(length: int) -> None:
    real, fake = series(length=length)
    assert summary.summarise(real, fake)["steps"].max() < length


def test_unusable_arrays_are_refused() -> None:
    real, fake = series()
    fake[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="fake"):
        summary.summarise(real, fake)


def test_arrays_round_trip_in_single_precision_and_are_deterministic(tmp_path: Path) -> None:
    arrays = summary.summarise(*series())
    for name in ("a", "b"):
        write_arrays(tmp_path / name / "summary.npz", arrays)
    first, second = (tmp_path / name / "summary.npz" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    found = files.summary(tmp_path / "a")
    assert found.keys() == arrays.keys()
    assert {a.dtype.name for name, a in found.items() if name != "steps"} == {"float32"}
    np.testing.assert_allclose(found["real_low"], arrays["real_low"], rtol=1e-6)


def test_a_cell_without_samples_has_an_empty_file(tmp_path: Path) -> None:
    write_arrays(tmp_path / "summary.npz", {})
    assert files.summary(tmp_path) == {}


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "summary.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"summary\.npz"):
        files.summary(tmp_path)


def test_cells_are_found_with_their_files(tmp_path: Path) -> None:
    outputs.write_cells(tmp_path, outputs.solar())
    (tmp_path / "generation/solar_weekly/ls4/0/summary.npz").unlink()
    found = {(record.model, record.seed): cell for cell, record in files.find([tmp_path]).items()}
    assert len(found) == len(outputs.solar())
    assert files.summary(found["ls4", 0]) == {}
    assert files.summary(found["rnn_vae", 1]) == {}  # it diverged
    assert "fake_mean" in files.summary(found["ls4", 1])
    assert len(files.history(found["rnn_vae", 1])) == 12
    assert files.history(found["gaussian", 0]).empty


def test_several_folders_are_read_together(tmp_path: Path) -> None:
    one, other = outputs.record(seed=0), outputs.record(seed=1)
    records.write(one, tmp_path / "a" / "record.json")
    records.write(other, tmp_path / "b" / "deep" / "record.json")
    found = files.find([tmp_path / "a", tmp_path / "b"])
    assert found == {tmp_path / "a": one, tmp_path / "b" / "deep": other}


def test_two_records_of_one_cell_are_refused_with_both_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        records.write(outputs.record(), tmp_path / folder / "record.json")
    with pytest.raises(UserError, match="full/generation/solar_weekly/ls4/0") as caught:
        files.find([tmp_path / "a", tmp_path / "b"])
    for folder in ("a", "b"):
        assert str(tmp_path / folder / "record.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_a_record_names_and_that_is_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell" / "errors.npz"
    write_arrays(path, {"squared": np.ones(3)})
    named = outputs.record(files={path.name: sha256(path)})
    records.write(named, path.with_name("record.json"))
    assert list(files.find([tmp_path])) == [path.parent]
    path.unlink()
    with pytest.raises(UserError, match=r"errors\.npz: expected the file of sha256 .*, found none"):
        files.find([tmp_path])


def test_no_records_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder, message in {
        tmp_path: f"{tmp_path}: no record.json below",
        file: f"{file}: expected a folder of results, found a file",
        tmp_path / "none": f"{tmp_path / 'none'}: expected a folder of results, found none",
    }.items():
        with pytest.raises(UserError) as caught:
            files.find([folder])
        assert str(caught.value) == message


def test_the_copies_of_mlflow_are_no_records_of_their_own(tmp_path: Path) -> None:
    folder = outputs.write_cells(tmp_path, [outputs.record()])
    (cell,) = files.find([folder])
    copy = folder / "mlflow" / "artifacts" / "record.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((cell / "record.json").read_bytes())
    assert list(files.find([folder])) == [cell]


def test_a_control_that_two_folders_have_is_read_from_the_first(tmp_path: Path) -> None:
    control = outputs.record(model="gaussian", scores=outputs.scores(0.1, 0.6, 0.1))
    first, second = (
        outputs.write_cells(tmp_path / name, [control.model_copy(update={"threads": threads})])
        for name, threads in (("first", 1), ("second", 2))
    )
    assert [record.threads for record in files.find([first, second]).values()] == [1]
    assert [record.threads for record in files.find([second, first]).values()] == [2]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("ls4", {}),
        ("gaussian", {"evaluator_fits": 1}),
        ("gaussian", {"status": "failed", "reason": "why"}),
    ],
)
def test_two_records_of_one_cell_are_refused(tmp_path: Path, model: str, change: dict) -> None:
    cell = outputs.record(model=model, scores=outputs.scores(0.1, 0.6, 0.1))
    first, second = (
        outputs.write_cells(tmp_path / name, [one])
        for name, one in (("first", cell), ("second", cell.model_copy(update=change)))
    )
    expected = f"expected one record of the cell full/generation/solar_weekly/{model}/0, found"
    with pytest.raises(UserError, match=f"{expected}.*harness compare takes both"):
        files.find([first, second])
