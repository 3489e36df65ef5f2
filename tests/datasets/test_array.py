"""Regular series from arrays, CSV and .tsf: shapes, masks, windows, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from datasets import array
from datasets.errors import DataError
from datasets.windows import of_steps
from harness.catalogue import ROOT

SPLIT = {"seed": 0, "fractions": [0.6, 0.2, 0.2]}
X = np.random.default_rng(0).normal(size=(10, 6, 2))


def load(path: Path, content: str | None = None, **options):
    if content is not None:
        path.write_text(content, encoding="utf-8")
    known = {"split": SPLIT, "normalise": "none"} | options
    return array.load([path], name="mine", title="Mine", **known)


def as_csv(x: np.ndarray) -> str:
    return "".join(",".join(map(repr, series.ravel().tolist())) + "\n" for series in x)


def test_all_files_of_the_same_numbers_give_the_same_data(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", x=X, other=np.arange(3))
    np.savez(tmp_path / "b.npz", X)
    files = [tmp_path / name for name in ("a.npy", "a.npz", "b.npz", "a.csv")]
    files[3].write_text(as_csv(X))
    sets = [load(file, channels=["u", "v"]) for file in files]
    assert len({dataset.data_digest for dataset in sets}) == 1
    np.testing.assert_array_equal(sets[0].x, X.astype(np.float32))
    np.testing.assert_array_equal(sets[0].t, np.tile(np.linspace(0, 1, 6, dtype="f4"), (10, 1)))
    assert sets[0].mask.all() and sets[0].meta["channels"] == ["u", "v"]


def test_a_header_is_taken_as_one_where_it_can_be_nothing_else(tmp_path):
    path, body = tmp_path / "mine.csv", as_csv(X[:, :, :1])
    expected = load(path, body).data_digest
    for header in ("0,1,2,3,4,5\n", "mon,tue,wed,thu,fri,sat\n", "\ufeffa,b,c,d,e,f\r\n"):
        assert load(path, header + body).data_digest == expected
    assert load(path, "0,1,2,3,4,5\n" + body, header=False).x.shape == (11, 6, 1)
    assert load(path, "7,7,7,7,7,7\n" + body, header=True).data_digest == expected
    with pytest.raises(DataError, match=r"csv:1: expected values, found the header of a column of"):
        load(path, ",0,1,2,3,4\n" + body)
    with pytest.raises(DataError, match=r"csv:1: expected a number as value 1, found 'a'"):
        load(path, "a,1.5,2,3,4,5\n" + body)


def test_missing_values_become_a_mask(tmp_path):
    x = X.copy()
    x[0, 2, 1] = x[3, 5, 0] = np.nan
    np.save(tmp_path / "a.npy", x)
    dataset = load(tmp_path / "a.npy", channels=["u", "v"])
    np.testing.assert_array_equal(dataset.mask, np.isfinite(x))
    assert dataset.x[0, 2, 1] == 0
    assert load(tmp_path / "a.csv", as_csv(x), channels=["u", "v"]).data_digest == (
        dataset.data_digest
    )
    assert "2 of 120 values are missing" in dataset.meta["warnings"][0]


def test_unequal_lengths_want_a_word_or_windows(tmp_path):
    path = tmp_path / "mine.csv"
    lengths = [4, 6, 5, 7, 3, 8]
    text = "".join(",".join(str(k + 1.0) for k in range(n)) + "\n" for n in lengths)
    with pytest.raises(DataError, match=r"found 4 steps in series 0 and 6 in series 1; `unequal: "):
        load(path, text)
    masked = load(path, unequal="mask")
    np.testing.assert_array_equal(masked.mask[:, :, 0].sum(1), lengths)
    np.testing.assert_allclose(masked.t[4], [0, 1 / 7, *[2 / 7] * 6])
    cut = load(path, window={"length": 4, "stride": 2})
    assert cut.x.shape == (1 + 2 + 1 + 2 + 3, 4, 1) and cut.mask.all()
    np.testing.assert_array_equal(cut.x[-1, :, 0], [5, 6, 7, 8])
    assert cut.meta["report"]["series shorter than a window"] == 1
    assert cut.meta["report"]["steps in no window"] == 1 + 1 + 3
    assert cut.group is not None
    parts = [set(cut.group[part]) for part in (cut.train, cut.validation, cut.test)]
    assert [len(part) for part in parts] == [3, 1, 1]
    assert len(set.union(*parts)) == 5
    with pytest.raises(DataError, match="a series of at least 9 steps, found at most 8"):
        load(path, window={"length": 9, "stride": 1})
    for window in ({"length": 2.5, "stride": 1}, {"length": 2, "stride": -1}, {"length": 2}):
        with pytest.raises(DataError, match="window: expected "):
            of_steps(lengths, window)


def test_tsf_files_of_one_s_own(tmp_path):
    head = "@relation R\n@attribute name string\n@frequency daily\n@missing true\n"
    body = "".join(f"Ärger {k}:{k},?,{k * k}\n" for k in range(5))
    path = tmp_path / "mine.tsf"
    dataset = load(path, head + "@equallength true\n@data\n" + body)
    assert dataset.x.shape == (5, 3, 1) and not dataset.mask[:, 1].any()
    assert dataset.meta["report"]["series"][3] == "Ärger 3"
    with pytest.raises(DataError, match=r":7: expected ascii text, found byte 0xc3"):
        load(path, encoding="ascii")
    unequal = head + "@equallength false\n@data\n" + body + "last:1\n"
    with pytest.raises(DataError, match="found 3 steps in series Ärger 0 and 1 in series last"):
        load(path, unequal)
    assert load(path, unequal="mask").x.shape == (6, 3, 1)
    with pytest.raises(DataError, match=r":8: expected a number or \? as value 1, found '1_000'"):
        load(ROOT / "tests" / "data" / "tsf" / "underscore.tsf")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"csv: expected a series a line, found none"),
        ("1,2,inf\n", r"csv:1: expected a number as value 3, found 'inf'"),
        ("1,2,4\n1,2,x\n", r"csv:2: expected a number as value 3, found 'x'"),
        ("1,2,4\n", r"data set mine: split: expected enough series for .* found 1"),
        ("1\n2\n3\n4\n5\n", r"expected series of at least 2 steps, found 1"),
        (",,\n,,\n", r"expected values, found only missing ones"),
        ("2020,2021,2022\n1,2,4\n", r"csv:1: expected values, found 2020, 2021, 2022, ...; `head"),
        (",1,2,3\n0,1,2,4\n", r"csv:1: expected values, found the header of a column of row num"),
        (
            "1,2,3\r4,5,7\r",
            r"csv:1: expected CSV, found new-line character seen in unquoted field$",
        ),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "mine.csv", content)
    assert "\n" not in str(caught.value)


def test_consecutive_numbers_are_names_or_values_as_the_option_says(tmp_path):
    path, content = tmp_path / "mine.csv", "1,2,3\n" + "5,7,11\n" * 5
    assert load(path, content, header=True).x[:, :, 0].tolist() == [[5, 7, 11]] * 5
    assert load(path, content, header=False).x[0, :, 0].tolist() == [1, 2, 3]


def test_bad_arrays_are_refused(tmp_path):
    path = tmp_path / "mine.npy"

    def refused(content: np.ndarray | bytes, message: str, **options) -> None:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        with pytest.raises(DataError, match=message) as caught:
            load(path, **options)
        assert "\n" not in str(caught.value)

    refused(np.full((5, 4, 1), np.inf), r"expected finite values or NaN, found infinity at \(0, 0,")
    refused(np.array(["a"]), "expected real numbers, found <U1")
    refused(np.zeros(5), r"expected \(N, L, D\) or \(N, L\), not empty, found \(5,\)")
    refused(np.zeros((0, 4, 1)), r"not empty, found \(0, 4, 1\)")
    refused(X, r"mine\.npy: expected 3 channels, found 2", channels=["a", "b", "c"])
    refused(X, "channels: expected at least one name, found none", channels=[])
    refused(X, "channels: expected different names, found", channels=["a", "a"])
    split = {"seed": 0, "fractions": [0.8, 0.2, 0.0]}
    refused(
        X[..., :1], r"split: expected a series in each part, found \[\d+, \d+, 0\]", split=split
    )
    for how in ("zscore", "minmax"):
        refused(X[..., :1] * 1e300, r"normalise: expected values below \de\+15\d,", normalise=how)
    refused(np.array([{}]), "expected numbers or text, found values of type object")
    refused(b"", "expected an array in NumPy's format, found none")
    refused(b"\x93NUMPY\x01\x00v\x00{'descr'", "expected an array in NumPy's format, found none")
    np.savez(tmp_path / "mine.npz", a=X, b=X)
    with pytest.raises(DataError, match=r"expected one array, or one called x, found \['a', 'b'\]"):
        load(tmp_path / "mine.npz")
    with pytest.raises(DataError, match=r"name: expected one of \.npy, \.npz, \.csv, \.tsf, found"):
        load(tmp_path / "mine.json")
    with pytest.raises(DataError, match=r"mine2\.npy: no such file"):
        load(tmp_path / "mine2.npy")
