"""The small arrays that figures need."""

from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from harness import summary
from tests import outputs


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


def test_files_round_trip_in_single_precision_and_are_deterministic(tmp_path: Path) -> None:
    arrays = summary.summarise(*series())
    summary.write(tmp_path / "a.npz", arrays)
    summary.write(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = summary.read(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    assert {a.dtype.name for name, a in found.items() if name != "steps"} == {"float32"}
    np.testing.assert_allclose(found["real_low"], arrays["real_low"], rtol=1e-6)


def test_a_cell_without_samples_has_an_empty_file(tmp_path: Path) -> None:
    summary.write(tmp_path / "empty.npz", {})
    assert summary.read(tmp_path / "empty.npz") == {}


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"bad\.npz"):
        summary.read(tmp_path / "bad.npz")


def test_cells_are_found_in_order_with_their_files(tmp_path: Path) -> None:
    outputs.write_cells(tmp_path, outputs.solar())
    (tmp_path / "generation/solar_weekly/ls4/0/summary.npz").unlink()
    cells = summary.find(tmp_path)
    assert [c.record.model for c in cells] == sorted(c.record.model for c in cells)
    found = {(c.record.model, c.record.seed): c for c in cells}
    assert found["ls4", 0].summary() == {}
    assert found["rnn_vae", 1].summary() == {}  # it diverged
    assert "fake_mean" in found["ls4", 1].summary()
    assert len(found["rnn_vae", 1].history()) == 12
    assert found["gaussian", 0].history().empty
