"""A long table: what stands where, whatever the order of its lines, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets import table
from datasets.errors import DataError

SPLIT = {"seed": 0, "fractions": [0.6, 0.2, 0.2]}
LINES = [
    ("b", "1", "hr", "10"),
    ("a", "0", "hr", "60"),
    ("a", "2", "bp", "80"),
    ("a", "2", "hr", "62"),
    ("b", "5", "bp", "90"),
    *((name, str(k), "hr", str(k * 10)) for name in "cde" for k in (0, 3)),
]


def text(lines=LINES):
    return "\n".join(["id,time,channel,value", *map(",".join, lines)]) + "\n"


def load(path: Path, content: str | bytes | None = None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    known = {"split": SPLIT, "time_unit": "h", "normalise": "none"} | options
    return table.load([path], name="mine", title="Mine", **known)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def test_values_stand_at_their_series_time_and_channel(path):
    dataset = load(path, text())
    assert dataset.meta["channels"] == ["bp", "hr"]
    assert dataset.meta["report"]["series"] == ["a", "b", "c", "d", "e"]
    np.testing.assert_array_equal(dataset.x[0], [[0, 60], [80, 62]])
    np.testing.assert_array_equal(dataset.mask[0], [[False, True], [True, True]])
    np.testing.assert_allclose(dataset.t[:3], [[0, 0.5], [0, 1], [0, 0.75]])  # 4 h is the longest
    assert dataset.meta["time"] == "4 h"
    assert dataset.group is None
    (file,) = dataset.meta["files"]
    assert file["name"] == "mine.csv"


def test_the_common_clock_starts_with_the_first_of_all(path):
    dataset = load(path, text(), clock="common")
    np.testing.assert_allclose(dataset.t[:2], [[0, 0.4], [0.2, 1]])


def test_channels_can_be_chosen_and_ordered(path):
    dataset = load(path, text(), channels=["hr"])
    np.testing.assert_array_equal(dataset.x[0, :, 0], [60, 62])
    assert dataset.meta["report"]["lines of channels that are not read"] == 2
    assert load(path, channels=["hr", "bp"]).meta["channels"] == ["hr", "bp"]


def test_shuffled_lines_other_columns_and_parquet_give_the_same_data(path, tmp_path):
    expected = load(path, text()).data_digest
    rows = [LINES[k] for k in np.random.default_rng(0).permutation(len(LINES))]
    assert load(path, text(rows)).data_digest == expected
    frame = pd.DataFrame(rows, columns=["who", "when", "what", "much"]).assign(more="x")
    frame = frame.astype({"when": float, "much": float})[["much", "more", "what", "when", "who"]]
    names = {"id": "who", "time": "when", "channel": "what", "value": "much"}
    frame.to_csv(path, index=False, sep=";")
    assert load(path, delimiter=";", **names).data_digest == expected
    frame.to_parquet(tmp_path / "mine.parquet")
    assert load(tmp_path / "mine.parquet", **names).data_digest == expected


def test_a_table_of_one_channel_needs_no_column_for_it(path):
    dataset = load(path, "id,time,price\na,0,1\na,1,2\nb,0,3\nb,1,4\nc,0,1\nc,1,2\n",
                   channel=None, value="price")  # fmt: skip
    assert dataset.meta["channels"] == ["price"]
    assert dataset.mask.all()
    np.testing.assert_array_equal(dataset.x[1, :, 0], [3, 4])


def test_dates_with_zones_are_compared_as_moments(path):
    def dated(*moments: str) -> str:
        return text([(n, m, "hr", str(k)) for n in "abc" for k, m in enumerate(moments)])

    options = {"dates": True, "time_unit": "h"}
    dataset = load(
        path, dated("2024-03-31T00:30:00+01:00", "2024-03-31T00:30Z", "2024-03-31T03:30+02:00"),
        **options,
    )  # fmt: skip
    np.testing.assert_allclose(dataset.t[0], [0, 0.5, 1])
    assert dataset.meta["time"] == "2 h"
    days = load(path, dated("2024-02-28", "2024-03-01"), dates=True, time_unit="d")
    assert days.meta["time"] == "2 d"
    mixed = dated("2024-03-31T00:30:00+01:00", "2024-03-31T00:30:00")
    with pytest.raises(DataError, match=r"csv:3: expected a date with a time zone as before, foun"):
        load(path, mixed, **options)
    with pytest.raises(DataError, match="time_unit: expected one of s, min, h, d, found 'week'"):
        load(path, dates=True, time_unit="week")


def test_missing_values_are_left_out_and_counted(path):
    rows = [*LINES, ("a", "1", "hr", ""), ("a", "0", "bp", "NaN"), ("f", "1", "hr", "NA")]
    dataset = load(path, text(rows))
    assert dataset.data_digest == load(path, text()).data_digest
    report = dataset.meta["report"]
    assert (report["lines without a value"], report["series without a value"]) == (3, 1)
    assert "values are missing" in dataset.meta["warnings"][0]
    with pytest.raises(DataError, match=r"csv:13: expected a number as value, found ''"):
        load(path, text(rows), missing=["-9999"])


def test_windows_of_a_series_stay_in_one_part(path):
    rows = [(n, str(k), "hr", str(k)) for n in "abcde" for k in range(12)]
    dataset = load(path, text(rows), window={"length": 4, "stride": 4})
    assert dataset.x.shape == (15, 4, 1) and dataset.mask.all()
    np.testing.assert_array_equal(dataset.x[:3, :, 0], np.arange(12).reshape(3, 4))
    np.testing.assert_allclose(dataset.t, np.tile([0, 0.25, 0.5, 0.75], (15, 1)))
    assert dataset.group is not None
    parts = [set(dataset.group[part]) for part in (dataset.train, dataset.validation, dataset.test)]
    assert [len(part) for part in parts] == [3, 1, 1]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_scales_come_from_the_training_part_or_from_each_series(path):
    rows = [(n, str(k), "hr", str((i + 1) * k)) for i, n in enumerate("abcdef") for k in range(5)]
    dataset = load(path, text(rows), normalise="zscore")
    train = dataset.x[dataset.train]
    np.testing.assert_allclose([train.mean(), train.std()], [0, 1], atol=1e-6)
    raw = np.array([float(row[3]) for row in rows]).reshape(6, 5, 1)
    np.testing.assert_allclose(dataset.scaling.undo(dataset.x), raw, rtol=1e-5, atol=1e-5)
    own = load(path, normalise="minmax", by="series")
    np.testing.assert_allclose(own.x[:, :, 0], np.tile(np.linspace(0, 1, 5), (6, 1)), atol=1e-7)


BAD = [
    ("", r"csv: expected one column 'id', found an empty file"),
    ("id,time,channel,value\n", r"csv: expected lines below the header, found none"),
    ("id,time,value\na,1,2\n", r"csv: expected one column 'channel', found 'id', 'time', 'value'"),
    ("id,time,channel,value,value\n", r"csv: expected one column 'value', found 'id', 'time'"),
    (text([*LINES, ("a", "2", "hr", "9")]), r"csv:13: expected one value of series 'a', time 2, "
     r"channel 'hr', found another in line 5"),
    (text([("a", "0", "hr", "inf")]), r"csv:2: expected a number as value, found 'inf'"),
    (text([("a", "0", "hr", "1_0")]), r"csv:2: expected a number as value, found '1_0'"),
    (text([("a", "0", "hr", "high")]), r"csv:2: expected a number as value, found 'high'"),
    (text([("a", "nan", "hr", "1")]), r"csv:2: expected a number as time, found 'nan'"),
    (text([("a", "2024-01-01", "hr", "1")]), r"csv:2: .* found '2024-01-01'; `dates: true` reads"),
    (text([("", "0", "hr", "1")]), r"csv:2: expected names of series and channel, found none"),
    (text([("a", "0", "hr", "")]), r"data set mine: expected values of channel any, found none"),
    (text([("a", "0", "hr", "1")]), r"data set mine: expected a series with two times, found none"),
    (text(LINES[:5]), r"data set mine: split: expected enough series for .* found 2"),
    (text()[:-4] + "\n", r"csv:12: expected 4 words, found 3"),
    (text() + 'f,0,hr,"1\n', r"csv:13: expected CSV, found unexpected end of data"),
    (text().encode() + b"\xff,0,hr,1\n", r"csv:13: expected utf-8 text, found byte 0xff; a"),
    (text([*LINES, ("a", "2.0000001", "hr", "1")]), r"expected times that differ by more"),
    (text([("a", "0", "hr", "1e300"), *LINES]).replace("a,0,hr,60\n", ""),
     r"expected values that single precision can hold"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_tables_are_refused_in_one_line(path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        load(path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"channels": ["hr", "spo2"]},
            "data set mine: expected values of channel spo2, found none",
        ),
        ({"channels": ["hr", "hr"]}, r"channels: expected different names, found \['hr', 'hr'\]"),
        ({"clock": "wall"}, "data set mine: clock: expected one of own, common, found 'wall'"),
        ({"normalise": "log"}, "data set mine: normalise: expected one of none, zscore, minmax"),
        ({"window": {"length": 3}}, "window: expected a positive length and a positive stride"),
        ({"encoding": "utf-9"}, r"csv:1: expected a known encoding, found 'utf-9'"),
        ({"delimiter": ";;"}, "delimiter: expected one character, found ';;'"),
    ],
)
def test_bad_options_are_refused(path, options, message):
    with pytest.raises(DataError, match=message):
        load(path, text(), **options)


def test_files_of_other_kinds_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"txt: name: expected one of \.csv, \.parquet, found"):
        load(tmp_path / "mine.txt", text())
    with pytest.raises(DataError, match=r"mine\.csv: no such file$"):
        load(tmp_path / "mine.csv")
    for content in ("no Parquet", "PAR1 and then nothing PAR1"):
        with pytest.raises(DataError, match=r"mine\.parquet: expected a Parquet file, found none"):
            load(tmp_path / "mine.parquet", content)

    def without_pyarrow(path: Path) -> None:
        raise ImportError

    monkeypatch.setattr(pd, "read_parquet", without_pyarrow)
    with pytest.raises(DataError, match=r"parquet: expected pyarrow, which reads Parquet, found"):
        load(tmp_path / "mine.parquet")
