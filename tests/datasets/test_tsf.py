"""The .tsf reader: what it reads, and the line it names when a file breaks its own claims."""

from datetime import datetime

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.tsf import read_tsf
from harness.catalogue import ROOT

TINY = ROOT / "tests" / "data" / "tiny" / "temperature_rain_like.tsf"
FILES = ROOT / "tests" / "data" / "tsf"
GOOD = """\
# a comment
@relation Two
@attribute series_name string
@attribute start_timestamp date
@frequency monthly
@missing true
@equallength true
@data
T1:1959-01-01 00-00-00:1,-2.5,3e2
T2:1960-02-01 12-00-00:4,?,6
"""


def read(tmp_path, text, **options):
    path = tmp_path / "two.tsf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tsf(path, **options)


def test_reads_everything_that_the_file_says(tmp_path):
    tsf = read(tmp_path, GOOD)
    assert (tsf.relation, tsf.frequency, tsf.horizon) == ("Two", "monthly", None)
    assert tsf.attributes == {"series_name": "string", "start_timestamp": "date"}
    assert (tsf.missing, tsf.equal_length) == (True, True)
    assert tsf.names == ["T1", "T2"]
    assert tsf.starts == [datetime(1959, 1, 1), datetime(1960, 2, 1, 12)]
    np.testing.assert_array_equal(tsf.series[0], [1, -2.5, 300])
    np.testing.assert_array_equal(tsf.series[1], [4, np.nan, 6])


def test_line_ends_comments_and_blank_lines_do_not_matter(tmp_path):
    crlf = GOOD.replace("\n", "\r\n").encode().replace(b"a comment", b"574\x96589 \x9d \xff")
    tsf = read(tmp_path, crlf.replace(b"@data", b"\r\n@horizon 12\r\n@data\r\n"))
    assert tsf.horizon == 12
    assert tsf.names == ["T1", "T2"]


def test_names_come_from_whatever_attributes_there_are():
    tsf = read_tsf(TINY)
    assert list(tsf.attributes) == ["station_id", "obs_or_fcst", "start_timestamp"]
    assert tsf.names[0] == "2001/T_MEAN"
    assert len(tsf.series) == 15
    assert {len(series) for series in tsf.series} == {12}


def test_unequal_lengths_and_no_date_are_fine_when_declared(tmp_path):
    text = GOOD.replace("@equallength true", "@equallength false").replace("4,?,6", "4,?")
    text = text.replace("@attribute start_timestamp date\n", "@attribute weight numeric\n")
    text = text.replace("1959-01-01 00-00-00", "1.5").replace("1960-02-01 12-00-00", "2")
    tsf = read(tmp_path, text)
    assert [len(series) for series in tsf.series] == [3, 2]
    assert tsf.starts == [None, None]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("@relation", "@relations", 2, "expected one of @relation, .* found '@relations Two'"),
        ("@relation", "relation", 2, "expected one of @relation, .* found 'relation Two'"),
        ("name string", "name text", 3, "expected @attribute with a new name and one of string"),
        ("start_timestamp", "series_name", 4, "expected @attribute with a new name"),
        ("@frequency monthly", "@relation Three", 5, "expected @relation once, found it again"),
        ("@missing true", "@missing yes", 6, r"expected @missing true\|false, found 'yes'"),
        ("@missing true\n", "", 7, "expected a line @missing above @data, found none"),
        ("@missing true", "@missing false", 10, "expected no missing value .* found 1"),
        ("T1:1959-01-01 00-00-00:", "T1:", 9, r"expected 2 attributes \(series_name, start_times"),
        ("T1:1959", "T1:x:1959", 9, "expected 2 attributes .* found 3 attributes"),
        ("1959-01-01 00", "1959-13-01 00", 9, "expected a date for attribute start_timestamp"),
        ("-2.5", "-2.5.", 9, "expected a number or . as value 2, found '-2.5.'"),
        ("-2.5", "nan", 9, "expected a number or . as value 2, found 'nan'"),
        ("-2.5", "inf", 9, "expected a number or . as value 2, found 'inf'"),
        ("-2.5", "", 9, "expected a number or . as value 2, found ''"),
        ("1,-2.5,3e2", "", 9, "expected values, found an empty series"),
        ("1,-2.5,3e2", "?,?,?", 9, "expected values, found only missing ones"),
        ("4,?,6", "4,?", 10, "expected 3 values as in the first series .* found 2"),
        ("T2:", "T1:", 10, "expected a new series, found T1 of .*two.tsf:9"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, old, new, line, message):
    assert old in GOOD
    with pytest.raises(DataError, match=rf"two\.tsf:{line}: {message}") as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_numeric_attributes_are_checked(tmp_path):
    text = GOOD.replace("series_name string", "series_name numeric")
    with pytest.raises(DataError, match=r":9: expected a numeric for attribute series_name.*'T1'"):
        read(tmp_path, text)


def test_undecodable_bytes_outside_comments_are_refused(tmp_path):
    text = GOOD.encode().replace(b"T1", b"T\x9d")
    for encoding in ("utf-8", "cp1252"):
        with pytest.raises(DataError, match=rf":9: expected {encoding} text, found byte 0x9d"):
            read(tmp_path, text, encoding=encoding)
    with pytest.raises(DataError, match=r":2: expected a known encoding, found 'utf-9'"):
        read(tmp_path, text, encoding="utf-9")


def test_headers_without_data_and_data_without_series_are_refused(tmp_path):
    head, _ = GOOD.split("@data")
    with pytest.raises(DataError, match="expected a line @data, found none"):
        read(tmp_path, head)
    with pytest.raises(DataError, match="expected series after @data, found none"):
        read(tmp_path, head + "@data\n")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("underscore", r":8: expected a number or \? as value 1, found '1_000'$"),
        ("cut_last_value", r":8: expected a line end, found the end of the file$"),
        ("horizon", r":4: expected @horizon \[0-9\]\{1,9\}, found '9{40}'$"),
        ("absent", r"absent\.tsf: no such file$"),
    ],
)
def test_damaged_files_are_refused(file, message):
    with pytest.raises(DataError, match=message):
        read_tsf(FILES / f"{file}.tsf")


def test_series_without_a_name_are_counted():
    tsf = read_tsf(FILES / "only_date_attr.tsf")
    assert tsf.names == ["1", "2"]
    assert tsf.starts == [datetime(2020, 1, 1)] * 2


def test_names_are_utf_8_or_what_is_said(tmp_path):
    assert read_tsf(FILES / "utf8_russian_name.tsf").names == ["Википедия"]
    latin = GOOD.replace("T1", "Zürich").encode("latin-1")
    assert read(tmp_path, latin, encoding="latin-1").names[0] == "Zürich"
