"""The data set on disk, its digests and its split."""

import json
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets import synthetic
from datasets.base import Dataset, Unavailable, build, compact, pad, split, write_unavailable
from datasets.errors import DataError
from datasets.fetch import read_manifest
from harness import catalogue


@pytest.fixture
def sines():
    config = catalogue.describe("datasets", "sines")
    return synthetic.load(
        config["files"],
        name="sines",
        title=config["title"],
        split=config["split"],
        **config["options"],
    )


@pytest.fixture
def irregular(sines):
    """The same with holes, labels and a grid for each series."""
    rng = np.random.default_rng(0)
    mask = rng.uniform(size=sines.x.shape) < 0.5
    return replace(
        sines,
        x=sines.x * mask,
        t=np.sort(rng.uniform(size=sines.t.shape), axis=1).astype(np.float32),
        mask=mask,
        label=np.arange(len(sines.x)) % 3,
    )


@pytest.fixture
def without_runtime_types():
    """Let arrays of a wrong shape or type through to the checks that users meet."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("which", ["sines", "irregular"])
def test_a_data_set_comes_back_as_it_was_saved(which, request, tmp_path):
    dataset = request.getfixturevalue(which)
    dataset.save(tmp_path / "a.npz")
    loaded = Dataset.load(tmp_path / "a.npz")
    for field in ("x", "t", "mask", "train", "validation", "test", "label"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(dataset, field))
    assert (loaded.name, loaded.meta) == (dataset.name, dataset.meta)
    assert loaded.data_digest == dataset.data_digest
    assert loaded.split_digest == dataset.split_digest
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "b.npz"}


def test_what_is_regular_is_stored_once(sines, irregular, tmp_path):
    sines.save(tmp_path / "a.npz")
    irregular.save(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a["t"].shape == (32,) and "mask" not in a and "label" not in a
        assert b["t"].shape == (64, 32) and "mask" in b and "label" in b


def test_digests_depend_on_every_value_and_nothing_else(irregular):
    other_x = irregular.x.copy()
    other_x[irregular.mask] += np.float32(1e-3)
    changed = [
        replace(irregular, x=other_x),
        replace(irregular, t=irregular.t * np.float32(0.5)),
        replace(irregular, mask=np.ones_like(irregular.mask)),
        replace(irregular, label=irregular.label + 1),
        replace(irregular, label=None),
    ]
    digests = {dataset.data_digest for dataset in [irregular, *changed]}
    assert len(digests) == len(changed) + 1
    assert {dataset.split_digest for dataset in changed} == {irregular.split_digest}
    same = replace(irregular, name="other", meta={}, x=np.asfortranarray(irregular.x))
    assert same.data_digest == irregular.data_digest


@pytest.mark.parametrize("field", ["x", "t", "train"])
def test_tampering_is_found(sines, tmp_path, field):
    path = tmp_path / "a.npz"
    sines.save(path)
    arrays = dict(np.load(path))
    del arrays["sha256"]  # of the file
    if field == "train":  # still a partition
        arrays["train"][0], arrays["test"][0] = arrays["test"][0], arrays["train"][0]
    else:
        arrays[field] = arrays[field] * np.float32(0.5)
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"expected (data|split)_digest \w{64}, found \w{64}"):
        Dataset.load(path)


def test_files_that_are_no_data_set_are_refused(sines, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"a\.npz: no such file"):
        Dataset.load(path)
    sines.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"expected an \.npz of plain arrays"):
        Dataset.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DataError, match=r"'x\.npy': expected an array in NumPy's format, found"):
        Dataset.load(path)
    np.savez(path, x=sines.x)
    with pytest.raises(DataError, match="expected array 'data_digest', found"):
        Dataset.load(path)
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="values of type object"):
        Dataset.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": lambda x: x.astype(np.float64)}, "x in float32"),
        ({"x": lambda x: x * np.nan}, "finite values"),
        ({"x": lambda x: x[:, :, 0]}, "shape"),
        ({"mask": lambda mask: ~mask}, "x = 0 wherever mask is False"),
        ({"mask": lambda mask: mask[:1]}, "mask of shape"),
        ({"t": lambda t: t * 2}, r"t in \[0, 1\]"),
        ({"t": lambda t: t[:, ::-1]}, "non-decreasing t"),
        ({"train": lambda train: train[1:]}, "each of 64 series once, found 63 indices, 63"),
        ({"test": lambda test: np.append(test, 0)}, "each of 64 series once, found 65 indices, 64"),
    ],
)
@pytest.mark.usefixtures("without_runtime_types")
def test_arrays_that_break_a_promise_are_refused(sines, change, message):
    ((field, function),) = change.items()
    with pytest.raises(DataError, match=message):
        replace(sines, **{field: function(getattr(sines, field))})


@pytest.mark.usefixtures("without_runtime_types")
def test_series_without_channels_are_refused(sines):
    about = {"normalisation": "none", "unit": "1", "options": {}, "split_options": {"seed": 0}}
    x, t, mask = sines.x[..., 0], sines.t, sines.mask[..., 0]
    with pytest.raises(DataError, match=r"mine: expected x of shape \(N, L, D\), found \(64, 32"):
        build(name="mine", title="Mine", x=x, t=t, mask=mask, **about)


def test_the_split_is_written_with_how_it_was_drawn(sines, tmp_path):
    sines.write_split(tmp_path / "split.json")
    written = json.loads((tmp_path / "split.json").read_text())
    assert written["dataset"] == "sines"
    assert (written["seed"], written["fractions"]) == (0, [0.7, 0.1, 0.2])
    assert written["stratified"] is False
    assert written["digest"] == sines.split_digest
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(written[part], getattr(sines, part))


def test_the_report_says_what_was_found(sines, tmp_path):
    sines.write_report(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["data_digest"] == sines.data_digest
    assert {key: written[key] for key in sines.meta} == sines.meta


def test_data_that_cannot_be_had_say_so_when_they_are_read(tmp_path):
    paths = [tmp_path / name for name in ("a.npz", "a.split.json", "a.report.json")]
    write_unavailable(*paths, "a", "data not available: no network")
    with pytest.raises(Unavailable, match=r"^data not available: no network$"):
        Dataset.load(paths[0])
    assert all("no network" in path.read_text() for path in paths[1:])


@pytest.mark.parametrize(
    ("n", "n_validation", "n_test"),
    [(107, 11, 22), (111, 12, 23), (137, 14, 28), (32072, 3208, 6415), (35, 4, 7), (3, 1, 1)],
)
def test_test_and_validation_are_rounded_up(n, n_validation, n_test):
    train, validation, test = split(n, seed=0)
    assert (len(validation), len(test)) == (n_validation, n_test)
    assert len(train) == n - n_validation - n_test


@given(n=st.integers(3, 300), seed=st.integers(0, 2**32), k=st.integers(1, 5))
def test_a_split_is_a_partition_that_keeps_shares_of_strata(n, seed, k):
    strata = np.repeat(np.arange(k), n)
    parts = split(n * k, seed=seed, strata=strata)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n * k))
    for part in parts:
        assert (np.diff(part) > 0).all()
        counts = np.bincount(strata[part], minlength=k)
        assert counts.min() == counts.max()
    for one, again in zip(parts, split(n * k, seed=seed, strata=strata), strict=True):
        np.testing.assert_array_equal(one, again)


def test_another_seed_gives_another_split_and_seed_0_is_a_seed():
    splits = {tuple(split(50, seed=seed)[2]) for seed in (0, 1, 2, 0)}
    assert len(splits) == 3


@pytest.mark.parametrize("fractions", [(0.7, 0.2), (0.7, 0.1, 0.1), (1.2, -0.4, 0.2)])
def test_fractions_that_are_no_partition_are_refused(fractions):
    with pytest.raises(DataError, match="three fractions adding up to 1"):
        split(10, fractions, seed=0)


def test_too_few_series_are_refused():
    with pytest.raises(DataError, match="expected enough series"):
        split(2, seed=0)


def by_record(t, x, mask):
    """Each record's observed rows, as lists of (time, values with None where unobserved)."""
    return [
        [
            (time, [v if seen else None for v, seen in zip(values, flags, strict=True)])
            for time, values, flags in zip(*(part.tolist() for part in rows), strict=True)
            if any(flags)
        ]
        for rows in zip(t, x, mask, strict=True)
    ]


@given(seed=st.integers(0, 2**32), n=st.integers(1, 5), length=st.integers(1, 6))
def test_compact_keeps_what_was_observed_in_order_and_pads_at_the_end(seed, n, length):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(size=(n, length)).astype(np.float32), axis=1)
    x = rng.normal(size=(n, length, 2)).astype(np.float32)
    mask = rng.uniform(size=x.shape) < 0.4
    x[~mask] = np.nan
    before = by_record(t, x, mask)
    compact_t, compact_x, compact_mask = compact(t, x, mask)
    assert by_record(compact_t, compact_x, compact_mask) == before
    assert compact_t.shape[1] == max(1, *map(len, before))
    assert not compact_x[~compact_mask].any()
    for i, rows in enumerate(before):
        assert compact_mask[i].any(-1).tolist() == [j < len(rows) for j in range(len(compact_t[i]))]
        last = rows[-1][0] if rows else t[i, 0]
        assert (compact_t[i, len(rows) :] == last).all()


def test_rows_are_laid_out_by_record():
    t, x, mask = pad(
        np.array([0, 1, 1, 1, 2, 2]),
        np.array([0.5, 0.1, 0.2, 0.3, 0.6, 0.7]),
        np.arange(6.0)[:, None],
        np.array([1, 1, 1, 0, 1, 1], bool)[:, None],
    )
    times = np.array([[0.5, 0.5, 0.5], [0.1, 0.2, 0.3], [0.6, 0.7, 0.7]], np.float32)
    np.testing.assert_array_equal(t, times)
    np.testing.assert_array_equal(x[..., 0], [[0, 0, 0], [1, 2, 0], [4, 5, 0]])
    np.testing.assert_array_equal(mask[..., 0], [[1, 0, 0], [1, 1, 0], [1, 1, 0]])
    assert (t.dtype, x.dtype, mask.dtype) == (np.float32, np.float32, bool)


def test_sines_are_sinusoids_of_their_seed(sines):
    assert sines.x.shape == (64, 32, 2)
    assert 0.9 < np.abs(sines.x).max() <= 1
    again, other = (
        synthetic.load(
            name="sines",
            title="Sines",
            n=64,
            length=32,
            channels=2,
            seed=seed,
            split={"seed": 0, "fractions": [0.7, 0.1, 0.2]},
        )
        for seed in (0, 1)
    )
    assert again.data_digest == sines.data_digest != other.data_digest
    # x'' = -(2 pi f)^2 x: on an even grid, x[k+1] + x[k-1] = 2 cos(2 pi f dt) x[k].
    x = sines.x.astype(np.float64)
    middle, ends = x[:, 1:-1], x[:, 2:] + x[:, :-2]
    factor = (middle * ends).sum(axis=1) / (middle**2).sum(axis=1)
    np.testing.assert_allclose(ends, factor[:, None] * middle, atol=1e-5)
    cycles = np.arccos(factor / 2) * 31 / (2 * np.pi)
    assert 1 < cycles.min() < 1.5 and 3.5 < cycles.max() < 4


@pytest.mark.parametrize("name", catalogue.available("datasets"))
def test_every_configured_file_is_in_the_manifest(name):
    config = catalogue.describe("datasets", name)
    known = {file.path for source in read_manifest().sources.values() for file in source.files}
    assert set(config.get("files", [])) <= known
