"""Loading PhysioNet 2012: times, averages, scalings, malformed records, and the real archives."""

import numpy as np
import pytest

from datasets import base, physionet
from datasets.errors import DataError
from datasets.fetch import fetch_file
from datasets.physionet import CHANNEL, PARAMETERS
from harness import catalogue
from tests.archives import tarred

SPLIT = {"seed": 42, "fractions": [0.6, 0.2, 0.2]}

# Shape beside N, rows, values, largest x, data digest. Digests identify data in the records of
# results: a change here makes all committed records incomparable.
REAL = {
    "physionet": (
        (203, 41, 598_332, 3_504_810),
        2.0,
        "4ca506971f4242edbf5af65d462c9aef9745040fbec382cf6d91e03a03fed809",
    ),
    "physionet_cru": (
        (185, 37, 577_283, 3_482_477 - 4 * 8000),  # four descriptors of each record left out
        1.0,
        "cb57310854279f66b9b65bde2d49ce7d3e5c5a5828bb0134c3d6fa01e2e7888e",
    ),
    "physionet_clean": (
        (203, 41, 598_315, 3_496_701),
        1.0,
        "b6b1365fee462ee2c566a443b9b99c0bec2027d5e0321e4ffa3f14033da383e8",
    ),
}
REAL_SPLIT = "e76f25f092aadf9c4dcfd3e9a7bcc0e4c3ba450a78d38bdb8b0e6d18322ef675"


def record(record_id, *lines):
    head = "Time,Parameter,Value", f"00:00,RecordID,{record_id}"
    return "".join(f"{line}\n" for line in (*head, *lines))


SET_A = {
    "set-a/": None,
    "set-a/12.txt": record(12, "00:00,Age,50", "00:00,Height,-1", "48:00,HR,70"),
    "set-a/11.txt": record(
        11,
        "00:00,Age,30",
        "00:00,Height,150",
        "00:04,HR,80",  # 0.67 tenths of an hour
        "00:08,HR,90",
        "00:08,HR,130",
        "00:08,Temp,37.5",
        "24:00,HR,60",
    ),
}
SET_B = {
    "set-b/13.txt": record(13, "00:00,Age,40", "00:00,Height,180"),
    "set-b/14.txt": record(14, "00:00,Age,60", "06:00,Temp,36", "12:00,Temp,0", "12:00,HR,100"),
    "set-b/15.txt": record(15, "00:00,Age,70", "00:01,Temp,1e+02", "12:00,WBC,2.5"),
}
# The same with times in tenths of an hour: of each record, the rows.
ROWS = [
    {0: {"Age": 30, "Height": 150}, 1: {"HR": 100, "Temp": 37.5}, 240: {"HR": 60}},
    {0: {"Age": 50, "Height": -1}, 480: {"HR": 70}},
    {0: {"Age": 40, "Height": 180}},
    {0: {"Age": 60}, 60: {"Temp": 36}, 120: {"Temp": 0, "HR": 100}},
    {0: {"Age": 70, "Temp": 100}, 120: {"WBC": 2.5}},
]
COUNTS = {"records": 5, "times": 6, "rows": 11, "values": 17}


def laid_out(channels=PARAMETERS):
    """Raw values and mask of `ROWS` on the padded grid."""
    x, mask = np.zeros((5, 3, len(channels))), np.zeros((5, 3, len(channels)), dtype=bool)
    for i, rows in enumerate(ROWS):
        for j, values in enumerate(rows.values()):
            for parameter, value in values.items():
                if parameter in channels:
                    c = channels.index(parameter)
                    x[i, j, c], mask[i, j, c] = value, True
    return x, mask


def pack(path, members):
    """Write a .tar.gz of texts by name, None for a folder."""
    pairs = ((name, None if text is None else text.encode()) for name, text in members.items())
    path.write_bytes(tarred(*pairs))
    return path


def load(folder, *sets, quantisation=0.1, scaling="maximum", expected=None, **options):
    return physionet.load(
        [pack(folder / f"{i}.tar.gz", members) for i, members in enumerate(sets)],
        name="icu",
        title="ICU",
        quantisation=quantisation,
        scaling=scaling,
        expected=expected or {},
        split=SPLIT,
        **options,
    )


def test_records_are_averaged_on_their_times_and_divided_by_the_maximum(tmp_path):
    dataset = load(tmp_path, SET_B, SET_A, expected=COUNTS)
    raw, mask = laid_out()
    np.testing.assert_array_equal(dataset.mask, mask)
    low, high = np.zeros(41), np.ones(41)
    for parameter, bounds in {
        "Age": (30, 70),
        "Height": (-1, 180),
        "HR": (60, 100),
        "Temp": (0, 100),
        "WBC": (2.5, 2.5),
    }.items():
        low[CHANNEL[parameter]], high[CHANNEL[parameter]] = bounds
    np.testing.assert_allclose(dataset.x, np.where(mask, (raw - low) / high, 0), rtol=1e-6)
    times = [[*rows, *[max(rows)] * (3 - len(rows))] for rows in ROWS]  # padding: the last time
    np.testing.assert_allclose(dataset.t, np.array(times) / 480, rtol=1e-6)
    assert dataset.meta["counts"]["rows"] == 11 and dataset.meta["counts"]["observed"] == 17
    assert dataset.meta["channels"] == list(PARAMETERS) and len(set(PARAMETERS)) == 41
    for part, indices in zip(base.PARTS, base.split(5, **SPLIT), strict=True):
        np.testing.assert_array_equal(getattr(dataset, part), indices)


def test_a_maximum_of_0_counts_as_1(tmp_path):
    ages = {f"{i}.txt": record(i, "00:00,Age,1", f"01:00,Temp,{-i}") for i in range(5)}
    dataset = load(tmp_path, ages)
    np.testing.assert_array_equal(dataset.x[:, 1, CHANNEL["Temp"]], [4, 3, 2, 1, 0])


def test_what_is_left_out_leaves_no_rows(tmp_path):
    dataset = load(tmp_path, SET_A, SET_B, leave_out=["Age"], expected=COUNTS)
    channels = [parameter for parameter in PARAMETERS if parameter != "Age"]
    assert dataset.meta["channels"] == channels
    _, mask = laid_out(channels)
    mask[3] = np.roll(mask[3], -1, axis=0)  # its age was alone in the first row
    np.testing.assert_array_equal(dataset.mask, mask)
    np.testing.assert_allclose(dataset.t[3], np.array([60, 120, 120]) / 480)
    with pytest.raises(DataError, match=r"found none in set-b/15\.txt"):
        load(tmp_path, SET_A, SET_B, leave_out=["Age", "Temp", "WBC"])


def test_the_range_in_closed_form(tmp_path):
    dataset = load(tmp_path, SET_A, SET_B, scaling="range")
    raw, mask = laid_out()
    real_row = mask.any(-1)
    expected = np.zeros_like(raw)
    train, validation, test = base.split(5, **SPLIT)
    for part in (np.concatenate([train, validation]), test):
        entries = raw[part][real_row[part]]  # 0 where missing
        low, high = entries.min(0), entries.max(0)
        expected[part] = (raw[part] - low) / np.where(high > low, high - low, 1)
    np.testing.assert_allclose(dataset.x, np.where(mask, expected, 0), rtol=1e-6, atol=1e-7)
    # Every row of the test part has an age or not: then 0 is its lowest entry or not.
    lonely = {f"{i}.txt": record(i, f"00:00,Age,{i + 20}", f"09:00,Age,{i + 40}") for i in range(5)}
    dataset = load(tmp_path, lonely, scaling="range")
    np.testing.assert_allclose(dataset.x[test, :, 0], [[0, 1]])
    lonely[f"{test[0]}.txt"] += "10:00,HR,90\n"
    dataset = load(tmp_path, lonely, scaling="range")
    np.testing.assert_allclose(
        dataset.x[test, :2, 0], [[(test[0] + 20) / (test[0] + 40), 1]], rtol=1e-6
    )


def many(rng, extreme):
    """A hundred records; the test part's heart rates are `extreme`, its weights unknown."""
    test = base.split(100, **SPLIT)[2]
    rates = rng.normal(90, 20, (100, 24)).round(1).clip(0)
    rates[test] = extreme
    texts = {}
    for i, row in enumerate(rates):
        weight = -1 if i in test else 80
        hours = [f"{hour:02}:00,HR,{rate}" for hour, rate in enumerate(row)]
        texts[f"{i:03}.txt"] = record(f"{i:03}", f"00:00,Weight,{weight}", "00:00,Age,60", *hours)
    return texts, rates


@pytest.mark.parametrize("extreme", [0, 90, 299])
def test_quantiles_are_those_of_the_training_part(tmp_path, extreme):
    texts, rates = many(np.random.default_rng(0), extreme)
    dataset = load(tmp_path, texts, scaling="quantiles", drop_impossible=True)
    low, high = np.quantile(rates[dataset.train], [0.001, 0.999])
    scaled = (rates - low) / (high - low)
    outside = (scaled < 0) | (scaled > 1)
    np.testing.assert_allclose(dataset.x[..., CHANNEL["HR"]], scaled.clip(0, 1), rtol=1e-5)
    report = dataset.meta["report"]
    assert report["values outside the training quantiles: clipped"]["count"] == outside.sum()
    left_out = report["impossible values: left out"]
    first = f"{dataset.test[0]:03}.txt line 3"
    assert left_out["by_parameter"] == {"Weight": 20} and left_out["examples"][0] == first
    weight = dataset.mask[..., CHANNEL["Weight"]]
    assert not weight[dataset.test].any() and weight[dataset.train].any()
    # One value alone becomes 0.
    assert not dataset.x[..., CHANNEL["Weight"]].any() and not dataset.x[..., 0].any()


def test_impossible_values_do_not_enter_an_average(tmp_path):
    texts = {f"{i}.txt": record(i, "00:00,Weight,-1", "00:00,Weight,80") for i in range(4)}
    texts["4.txt"] = record(4, "00:00,Weight,40")
    dataset = load(tmp_path, texts, drop_impossible=True)
    np.testing.assert_allclose(dataset.x[:, 0, CHANNEL["Weight"]], [0.5] * 4 + [0])
    dataset = load(tmp_path, texts)
    np.testing.assert_allclose(dataset.x[:4, 0, CHANNEL["Weight"]], 0)
    assert dataset.meta["report"]["impossible values: kept"]["count"] == 4
    texts["3.txt"] = record(3, "00:00,Weight,-1")
    with pytest.raises(DataError, match=r"expected values in every record, found none in 3\.txt"):
        load(tmp_path, texts, drop_impossible=True)


def test_what_is_put_right_is_counted(tmp_path):
    clean = load(tmp_path, SET_A, SET_B)
    assert set(clean.meta["report"]) == {
        "records of descriptors only: kept",
        "impossible values: kept",
        "values of a parameter after its first in a row: averaged",
    }
    lines = "00:00,Age,50", "48:00,HR,70", "12:00,,7", "00:00,Height,-1"
    members = SET_A | {"set-a/12.txt": record(12, *lines), "set-a/README": "Hello"}
    dataset = load(tmp_path, members, SET_B)
    assert dataset.data_digest == clean.data_digest
    report = dataset.meta["report"]
    assert report["files that are no records: left out"]["examples"] == ["set-a/README"]
    nameless = report["lines without a parameter: left out"]
    assert nameless["count"] == 1 and nameless["examples"] == ["set-a/12.txt line 5"]
    back = report["times before that of the line above: put in order"]
    assert back["count"] == 2
    assert back["examples"] == ["set-a/12.txt line 5", "set-a/12.txt line 6"]
    averaged = report["values of a parameter after its first in a row: averaged"]
    assert averaged["count"] == 2 and averaged["by_parameter"] == {"HR": 2}
    assert averaged["examples"] == ["set-a/11.txt line 6", "set-a/11.txt line 7"]
    bare = report["records of descriptors only: kept"]
    assert bare == {"count": 1, "examples": ["set-b/13.txt"]}


GOOD = record(1, "00:00,Age,50", "10:00,HR,70")
MALFORMED = {
    "header": (GOOD.replace("Time,", "time,"), "line 1: expected Time,Parameter,Value, found 'ti"),
    "another's": (GOOD.replace("RecordID,1", "RecordID,2"), "line 2: expected 00:00,RecordID,1, f"),
    "empty": ("", "line 1: expected a line feed at the end of the file, found ''"),
    "head alone": (record(1), "expected values, found none"),
    "nameless alone": (record(1, "00:00,,1"), "expected values, found none"),
    "truncated line": (record(1, "00:00,Age,50", "10:00,HR"), "line 4: expected HH:MM,Parameter,v"),
    "truncated file": (
        GOOD[:-1],
        "line 4: expected a line feed at the end of the file, found '10:",
    ),
    "truncated in a line": (GOOD[:-5], "line 4: expected a line feed at the end of the file"),
    "no value": (record(1, "00:00,Age,"), "line 3: expected HH:MM,Parameter,value, found '00:00,A"),
    "no number": (record(1, "00:00,Age,old"), "line 3: expected HH:MM,Parameter,value"),
    "nan": (record(1, "00:00,Age,nan"), "line 3: expected HH:MM,Parameter,value"),
    "infinite": (record(1, "00:00,Age,1e+999"), "line 3: expected a finite value"),
    "field too many": (record(1, "00:00,Age,50,1"), "line 3: expected HH:MM,Parameter,value"),
    "blank line": (record(1, "00:00,Age,50", "", "01:00,HR,7"), "line 4: expected HH:MM,Parameter"),
    "code": (record(1, "00:00,Age,50", "01:00,HRT,7"), "line 4: expected one of the 41 parameters"),
    "RecordID again": (record(1, "00:00,RecordID,1"), "line 3: expected one of the 41 parameters"),
    "late": (record(1, "48:01,HR,50"), "line 3: expected a time from 00:00 to 48:00, found '48:01"),
    "minute": (record(1, "10:60,HR,50"), "line 3: expected a time from 00:00 to 48:00"),
    "CR": (GOOD.replace("\n", "\r\n"), r"line 1: expected Time,Parameter,Value, found 'Time,.*\\r"),
    "other bytes": (record(1, "00:00,Äge,50"), "line 3: expected HH:MM,Parameter,value"),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_is_refused_with_file_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"0\.tar\.gz: set-a/1\.txt.*{message}") as caught:
        load(tmp_path, {"set-a/1.txt": text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ([SET_A, SET_B], {"scaling": "log"}, "expected scaling to be of maximum, .* found 'log'"),
        ([SET_A, SET_B], {"leave_out": ["age"]}, "expected leave_out to be of Age, .* found 'age'"),
        ([SET_A, SET_B], {"quantisation": 0.0}, "expected quantisation > 0, found 0"),
        ([SET_A], {"expected": COUNTS}, "expected records 5, found 2"),
        ([SET_A, SET_B], {"expected": COUNTS | {"values": 16}}, "expected values 16, found 17"),
        ([SET_A], {"expected": {"sha256": ["0" * 64]}}, r"expected sha256 \['0.*\], found \['"),
        ([SET_A, {"set-b/12.txt": SET_A["set-a/12.txt"]}], {}, "every record once, found set-b/12"),
        ([{"x/": None}], {}, "expected archives of records, found none"),
        ([], {}, "expected archives of records, found none"),
    ],
)
def test_another_set_or_an_unknown_option_is_refused(tmp_path, sets, options, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, *sets, **options)


def test_an_archive_that_is_none_is_refused(tmp_path):
    path = tmp_path / "set-a.tar.gz"
    path.write_text("<html>")
    with pytest.raises(DataError, match=r"set-a\.tar\.gz: expected a \.tar\.gz archive"):
        physionet.read([path])


@pytest.fixture(scope="module")
def real_data(mirrored, tmp_path_factory):
    """The archives of the mirror as fetched, and what was read from them."""
    data = tmp_path_factory.mktemp("data")
    paths = catalogue.describe("datasets", "physionet")["files"]
    files = [fetch_file(path, data, mirrored(*paths)).path for path in paths]
    return files, physionet.read(files)


@pytest.mark.parametrize("name", REAL)
def test_real_archives_from_mirror_to_split(real_data, monkeypatch, name):
    config = catalogue.describe("datasets", name)
    files, (lines, digests, report) = real_data
    assert set(config["options"]["expected"]) == {"sha256", "records", "times", "rows", "values"}
    monkeypatch.setattr(physionet, "read", lambda files: (lines, digests, dict(report)))
    dataset = physionet.load(
        files, name=name, title=config["title"], split=config["split"], **config["options"]
    )
    shape, largest, data_digest = REAL[name]
    counts = dataset.meta["counts"]
    assert (counts["length"], counts["channels"], counts["rows"], counts["observed"]) == shape
    assert [counts[part] for part in base.PARTS] == [5760, 640, 1600]
    assert dataset.x.min() == 0 and dataset.x.max() == largest
    assert dataset.t[:, 0].max() == 0 and dataset.t.max() == 1
    assert dataset.meta["report"]["records of descriptors only: kept"]["count"] == 10
    assert dataset.data_digest == data_digest
    assert dataset.split_digest == REAL_SPLIT
