"""Loading the Monash sets: normalisation, masks, and the real files from manifest to split."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets import monash
from datasets.errors import DataError
from datasets.fetch import Manifest, read_manifest
from datasets.files import sha256
from harness import catalogue
from harness.catalogue import ROOT
from tests.datasets.sources import fetch

TINY = ROOT / "tests" / "data" / "tiny" / "temperature_rain_like.tsf"
SPLIT = {"seed": 0, "fractions": [0.7, 0.1, 0.2]}

# Name, number of test series, data digest, split digest. Digests identify data in the records
# of results: a change here makes all committed records incomparable.
REAL = [
    (
        "fred_md",
        22,
        "72001f61dd88bf5b5e9574556f77da17b27ebedc24bad0be3b0eb919b9966a91",
        "2947077bd327f5cc48698e0504f7757b4bef74461ef6b8b392e98b79b4c3bdfe",
    ),
    (
        "nn5_daily",
        23,
        "07ff133280a4d33363780eabd761afd341b6d403672ca42813f2842bca6a3669",
        "bfece7528f41f2f50a91588e03619055a9690b7e7a864062e867a732b41f4e14",
    ),
    (
        "solar_weekly",
        28,
        "ba7ce1fa556174ae098af92838ea6974f95b8fc93e3c0a1066fed74510cc734c",
        "f79a42b5de5492a74169ff901e377cfda4b3c01ef0825bed499631152ffd0fa1",
    ),
]


def load(path, normalise="minmax", series=15, length=12, **options):
    return monash.load(
        [path],
        name="weather",
        title="Weather",
        normalise=normalise,
        expected={"series": series, "length": length},
        split=SPLIT,
        **options,
    )


def test_names_are_utf_8_or_what_is_said(tmp_path):
    path = tmp_path / "names.tsf"
    text = (ROOT / "tests" / "data" / "tsf" / "utf8_russian_name.tsf").read_text(encoding="utf-8")
    path.write_text(text.replace("Википедия", "Zürich"), encoding="utf-8")
    with pytest.raises(DataError, match="expected 4 values in series Zürich, found 3"):
        load(path, series=1, length=4)
    path.write_text(text.replace("Википедия", "Zürich"), encoding="cp1252")
    with pytest.raises(
        DataError, match=r":8: expected utf-8 text, found byte 0xfc; a data set's option"
    ):
        load(path, series=1, length=4)
    with pytest.raises(DataError, match="expected 4 values in series Zürich, found 3"):
        load(path, series=1, length=4, encoding="cp1252")


@pytest.mark.parametrize(("name", "n_test", "data_digest", "split_digest"), REAL)
def test_real_files_from_mirror_to_split(
    mirrored, tmp_path, name, n_test, data_digest, split_digest
):
    config = catalogue.describe("datasets", name)
    results = fetch(name, tmp_path, mirrored(*config["files"]))
    assert [result.status for result in results] == ["copied"]
    files = [tmp_path / file for file in config["files"]]
    dataset = monash.load(
        files, name=name, title=config["title"], split=config["split"], **config["options"]
    )
    expected = config["options"]["expected"]
    assert dataset.x.shape == (expected["series"], expected["length"], 1)
    assert dataset.mask.all()
    assert len(dataset.test) == n_test
    np.testing.assert_allclose(dataset.x.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(dataset.x.std(axis=1), 1, atol=1e-5)
    assert dataset.data_digest == data_digest
    assert dataset.split_digest == split_digest


def test_the_tiny_set_of_temperature_rain_s_form():
    dataset = load(TINY)
    x = dataset.x[..., 0]
    constant = x.max(axis=1) == 0
    assert constant.sum() == 1
    assert dataset.meta["warnings"] == ["1 constant series set to 0"]
    np.testing.assert_array_equal(x.min(axis=1), 0)
    np.testing.assert_array_equal(x[~constant].max(axis=1), 1)
    np.testing.assert_allclose(dataset.t[0], np.arange(12) / 11, rtol=1e-6)
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [10, 2, 3]


def test_temperature_rain_flows_from_archive_to_split(tmp_path):
    config = catalogue.describe("datasets", "temperature_rain")
    (path,) = config["files"]
    described = read_manifest().sources["temperature_rain"].model_dump(exclude_none=True)
    (file,) = described["files"]
    packed = tmp_path / "mirror" / Path(path).with_name(file["archive"]["name"])
    packed.parent.mkdir(parents=True)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(TINY, file["archive"]["member"])
    file |= {"sha256": sha256(TINY), "bytes": TINY.stat().st_size}
    file["archive"] |= {"sha256": sha256(packed)}
    manifest = Manifest.model_validate({"sources": {"temperature_rain": described}})
    (result,) = fetch("temperature_rain", tmp_path / "data", tmp_path / "mirror", manifest)
    assert (result.status, result.path) == ("copied", tmp_path / "data" / path)
    options = config["options"] | {"expected": {"series": 15, "length": 12}}
    dataset = monash.load(
        [result.path],
        name="temperature_rain",
        title=config["title"],
        split=config["split"],
        **options,
    )
    assert dataset.x.min() == 0 and dataset.x.max() == 1
    assert dataset.data_digest == load(TINY).data_digest


def test_missing_values_are_masked_and_left_out_of_the_statistics(tmp_path):
    head = TINY.read_bytes().split(b"2001:")[0].replace(b"@missing false", b"@missing true")
    rows = "".join(f"{i}:T:2015-05-02 00-00-00:1,?,3,?,5,{i}\r\n" for i in range(4))
    path = tmp_path / "holes.tsf"
    path.write_bytes(head + rows.encode())
    dataset = load(path, normalise="zscore", series=4, length=6)
    expected = np.array([True, False, True, False, True, True])
    np.testing.assert_array_equal(dataset.mask[..., 0], np.tile(expected, (4, 1)))
    assert not dataset.x[~dataset.mask].any()
    observed = np.array([1, 3, 5, 2.0])
    np.testing.assert_allclose(
        dataset.x[2, expected, 0], (observed - observed.mean()) / observed.std(), rtol=1e-6
    )


def test_normalisations_keep_missing_values_and_survive_constants():
    series = np.array([1.0, np.nan, 3.0])
    np.testing.assert_allclose(monash.zscore(series), [-1, np.nan, 1])
    np.testing.assert_allclose(monash.minmax(series), [0, np.nan, 1])
    for function in (monash.zscore, monash.minmax):
        np.testing.assert_array_equal(function(np.array([0.1, np.nan, 0.1])), [0, np.nan, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": 16}, "expected 16 series, found 15"),
        ({"length": 13}, "expected 13 values in series 2001/T_MEAN, found 12"),
    ],
)
def test_a_file_of_another_size_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        load(TINY, **options)
