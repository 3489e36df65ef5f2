"""USHCN: fixed-width lines, the published protocol, windows without a leak, GRU-ODE-Bayes' file."""

import gzip
import tarfile

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from datasets import base, ushcn, ushcn_sporadic
from datasets.errors import DataError
from datasets.ushcn import DAYS, ELEMENTS, MISSING, ROWS
from harness import catalogue
from tests.archives import special, tarred
from tests.datasets.sources import fetch


def line(element="TMAX", station=170100, year=1992, month=2, days=(), last=31):
    """A line with (value, quality flag) for the first days and missing values for the rest."""
    groups = [f"{value:5d}P{flag}6" for value, flag in days]
    groups += [f"{MISSING:5d}   "] * (last - len(groups))
    return f"{station:06d}{year:04d}{month:02d}{element:4}" + "".join(groups)


def text(*lines):
    return "".join(f"{each}\n" for each in lines).encode()


def days_since_1970(*dates):
    return np.array(dates, "datetime64[D]").astype(int)


# --- lines -------------------------------------------------------------------------------------


def test_a_line_is_a_month_of_one_element_in_raw_units():
    days = [(70, " "), (-9, " "), (MISSING, " "), (99999, " ")]
    daily, counts = ushcn.read_daily(text(line("TMIN", 11084, 1886, 3, days)), "file")
    np.testing.assert_array_equal(daily["value"], [70, -9, 99999])
    np.testing.assert_array_equal(
        daily["day"], days_since_1970("1886-03-01", "1886-03-02", "1886-03-04")
    )
    assert set(daily["station"]) == {11084}
    assert {ELEMENTS[k] for k in daily["element"]} == {"TMIN"}
    assert (counts["lines"], counts["kept"], counts["missing"]) == (1, 3, 28)


@pytest.mark.parametrize(
    ("year", "length"), [(1992, 29), (1993, 28), (1900, 28), (2000, 29), (1888, 29)]
)
def test_days_after_the_end_of_the_month_are_left_out_and_counted(year, length):
    lines = [line(year=year, days=[(1, " ")] * 31), line(year=year, month=3, days=[(2, " ")])]
    daily, counts = ushcn.read_daily(text(*lines), "file")
    first = days_since_1970(f"{year}-02-01")
    np.testing.assert_array_equal(daily["day"], first + np.arange(length + 1))
    np.testing.assert_array_equal(daily["value"], [1] * length + [2])
    assert counts["no such day, dropped"] == 31 - length


def test_values_that_failed_a_check_are_dropped_and_unknown_flags_counted():
    flags = "DGIKLMNORSTWXZ"
    days = [(k, flag) for k, flag in enumerate(flags + " Ad")] + [(MISSING, "D")]
    daily, counts = ushcn.read_daily(text(line(month=1, days=days)), "file")
    np.testing.assert_array_equal(daily["value"], [14, 15, 16])
    assert all(counts[f"quality flag {flag}, dropped"] == 1 for flag in flags)
    assert counts["quality flag A, kept, though unknown"] == 1
    assert counts["quality flag d, kept, though unknown"] == 1
    assert counts["missing"] == 31 - len(flags) - 3


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (line(month=3)[:-1], "f:2: expected 264 characters, found 263"),
        (line(month=3) + " ", "f:2: expected 264 characters, found 265"),
        ("", "f:2: expected 264 characters, found 0"),
        (line(month=13), "f:2: expected station, year and month in 12 digits, found '1701001"),
        (line(month=0), "f:2: expected station, year and month in 12 digits"),
        (" " + line(month=3)[1:], "f:2: expected station, year and month in 12 digits"),
        (line("WESD", month=3), "f:2: expected one of PRCP, SNOW, SNWD, TMAX, TMIN, found 'WESD'"),
        (line(), "f:2: expected one line for each station, month and element, found '1701001992"),
    ],
)
def test_a_malformed_line_is_named(second, message):
    with pytest.raises(DataError, match=message):
        ushcn.read_daily(text(line(), second, line("TMIN")), "f")


@pytest.mark.parametrize(
    "value", ["     ", "    -", "1   2", " 1-2 ", " --12", "  1.5", "   +1", "12   "]
)
def test_a_value_that_is_no_number_is_named(value):
    whole = line(month=3)
    second = whole[: 16 + 8 * 4] + value + whole[16 + 8 * 4 + 5 :]
    with pytest.raises(DataError, match=r"f:2: expected a right-aligned integer for day 5, found"):
        ushcn.read_daily(text(line(), second), "f")


def test_an_empty_file_and_carriage_returns_are_refused():
    for content in (b"", text(line()).replace(b"\n", b"\r\n")):
        with pytest.raises(DataError, match="f:1: expected 264 characters"):
            ushcn.read_daily(content, "f")


# --- steps of the protocol ---------------------------------------------------------------------


def test_outliers_are_more_than_four_standard_deviations_off_the_reference():
    reference = np.array([0.0, 2.0] * 50 + [np.nan])[:, None]  # mean 1, sample sd sqrt(100 / 99)
    limit = 4 * np.sqrt(100 / 99)
    x = np.array([1 - limit + 1e-9, 1 - limit - 1e-9, 1 + limit - 1e-9, 1 + limit + 1e-9, np.nan])
    clean = ushcn.without_outliers(x[:, None], reference)[:, 0]
    np.testing.assert_array_equal(np.isfinite(clean), [True, False, True, False, False])
    assert np.isfinite(x).sum() == 4  # x itself stays


def test_the_range_of_the_reference_becomes_one():
    reference = np.array([[2.0, 7.0, np.nan], [6.0, 7.0, np.nan], [np.nan, 7.0, np.nan]])
    x = np.array([[2.0, 7.0, 1.0], [8.0, 9.0, np.nan], [0.0, np.nan, 1.0]])
    scaled = ushcn.min_max(x, reference)
    np.testing.assert_array_equal(scaled[:, 0], [0, 1.5, -0.5])
    np.testing.assert_array_equal(scaled[:, 1], [0, 2, np.nan])
    assert np.isnan(scaled[:, 2]).all()  # nothing to scale by


def test_thinning_keeps_730_rows_and_four_fifths_of_their_entries():
    record = np.arange(DAYS * 5, dtype=float).reshape(DAYS, 5)
    record[::10] = np.nan
    before = record.copy()
    ushcn.thin(record, np.random.RandomState(0), np.random.RandomState(0))
    kept = np.isfinite(record)
    assert kept.sum() == 730 * 5 - 730
    np.testing.assert_array_equal(record[kept], before[kept])
    rows = np.flatnonzero(np.isfinite(before).any(1))
    drawn = np.sort(rows[np.random.RandomState(0).choice(len(rows), 730, replace=False)])
    removed = np.random.RandomState(0).choice(730 * 5, 730, replace=False)
    expected = np.zeros((DAYS, 5), bool)
    expected[drawn] = ~np.isin(np.arange(730 * 5), removed).reshape(730, 5)
    np.testing.assert_array_equal(kept, expected)


def test_station_split_has_the_published_shares():
    part = ushcn.split_stations(1218, seed=42, fractions=(0.6, 0.2, 0.2))
    assert np.bincount(part).tolist() == [730, 244, 244]
    assert (part == ushcn.split_stations(1218, seed=42, fractions=(0.6, 0.2, 0.2))).all()
    assert (part != ushcn.split_stations(1218, seed=43, fractions=(0.6, 0.2, 0.2))).any()
    with pytest.raises(DataError, match="expected enough stations"):
        ushcn.split_stations(2, seed=42, fractions=(0.6, 0.2, 0.2))


# --- whole sets --------------------------------------------------------------------------------


def weather(station, years, low=0, high=100, share=1.0):
    """A station's lines and its values by day, (days, 5); a part of the days has no value."""
    rng = np.random.default_rng(station)
    first, end = days_since_1970(f"{years[0]}-01-01", f"{years[1] + 1}-01-01")
    values = rng.integers(low, high + 1, (end - first, 5))
    values[rng.random(end - first) >= share] = MISSING
    lines = []
    months = np.arange(f"{years[0]}-01", f"{years[1] + 1}-01", dtype="datetime64[M]")
    for month in months:
        start = month.astype("datetime64[D]").astype(int)
        stop = (month + 1).astype("datetime64[D]").astype(int)
        year, number = (int(word) for word in str(month).split("-"))
        for k, element in enumerate(ELEMENTS):
            days = [(value, " ") for value in values[start - first : stop - first, k].tolist()]
            lines.append(line(element, station, year, number, days))
    return lines, {first + i: row for i, row in enumerate(values)}


def single(station, year):
    """One value in January, so that the station was there."""
    return line("PRCP", station, year, 1, [(1, " ")])


def archive(path, members):
    path.write_bytes(tarred(*members))
    return path


def load_archive(path, states=2):
    return ushcn.load(
        [path],
        name="us",
        title="US",
        expected={"states": states},
        split={"seed": 42, "fractions": (0.6, 0.2, 0.2)},
    )


@pytest.fixture(scope="module")
def country(tmp_path_factory):
    """Eleven stations of two states, and the values of the seven that qualify."""
    lines, values = {}, {}
    for station in range(10001, 10008):
        lines[station], values[station] = weather(station, (1990, 1993), high=100 + station % 100)
        lines[station].append(single(station, 1994))
    lines[10002].append(single(10002, 1890))
    lines[20008], _ = weather(20008, (1990, 1993), low=50, high=50, share=0.4)  # too few rows
    lines[20008].append(single(20008, 2005))
    lines[20009] = [single(20009, 1991), single(20009, 1999)]  # too late
    lines[20010] = [single(20010, 1950), single(20010, 1993)]  # too early
    lines[20011] = [single(20011, 1940), single(20011, 2005)]  # away
    first = text(*(each for station in range(10001, 10008) for each in lines[station]))
    second = text(*(each for station in range(20008, 20012) for each in lines[station]))
    folder = "pub12/ushcn_daily"
    members = [
        (f"{folder}/data_format.txt", b"words"),
        (f"{folder}/us.txt.gz", b"not read"),
        (f"{folder}/state01_AL.txt.gz", gzip.compress(first)),
        (f"{folder}/state02_AZ.txt", second),
    ]
    path = tmp_path_factory.mktemp("country") / "ushcn_daily.tar.gz"
    return archive(path, members), values


def test_the_published_set_from_archive_to_parts(country):
    path, values = country
    dataset = load_archive(path)
    report = dataset.meta["report"]
    assert report["files of states"] == 2
    assert report["stations dropped"] == {
        "nothing up to 1990": 1,
        "nothing from 1994 on": 1,
        "nothing in 1950-2000": 1,
        "fewer than 730 rows": 1,
    }
    # The eight stations that were there long enough are split; the one with few rows falls out.
    by_part = report["first years by station"]
    stations = {int(name): part for part, those in by_part.items() for name in those}
    assert sorted(stations) == sorted(values)
    assert dataset.x.shape[0] == 7 and dataset.meta["channels"] == list(ELEMENTS)
    first = days_since_1970("1990-01-01")[0]
    for i, station in enumerate(sorted(stations)):
        part = stations[station]
        assert i in getattr(dataset, part)
        members = [np.stack(list(values[s].values())) for s in stations if stations[s] == part]
        low, high = np.min(members, axis=(0, 1)), np.max(members, axis=(0, 1))
        rows = dataset.mask[i].any(-1)
        assert 720 < rows.sum() <= 730
        days = np.rint(dataset.t[i, rows].astype(float) * DAYS).astype(int)
        raw = np.stack([values[station][first + day] for day in days])
        expected = np.where(dataset.mask[i, rows], (raw - low) / (high - low), 0)
        np.testing.assert_allclose(dataset.x[i, rows], expected, atol=1e-6)


def test_730_rows_are_enough(tmp_path):
    lines = []
    for station in range(10001, 10006):
        lines += weather(station, (1990, 1991))[0] + [single(station, 1994)]
    path = archive(tmp_path / "a.tar.gz", [("state01_AL.txt", text(*lines))])
    assert len(load_archive(path, states=1).x) == 5


def test_stations_of_equal_length_keep_the_same_days_and_entries(country):
    dataset = load_archive(country[0])
    assert (dataset.mask == dataset.mask[0]).all() and (dataset.t == dataset.t[0]).all()
    assert dataset.mask[0].sum() == 730 * 5 * 0.8
    assert dataset.data_digest == load_archive(country[0]).data_digest


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("/state01_AL.txt", text(line()))], "unsafe archive member '/state01_AL.txt'"),
        ([("a/../../state01_AL.txt", text(line()))], "unsafe archive member 'a/../../state01"),
        ([(special(tarfile.SYMTYPE, "state01_AL.txt"), b"")], "unsafe archive"),
        ([(special(tarfile.LNKTYPE, "state01_AL.txt"), b"")], "unsafe archive"),
        ([(special(tarfile.FIFOTYPE, "pipe"), b"")], "unsafe archive member 'pipe'"),
        (
            [("a/state01_AL.txt", text(line())), ("b/state01_AL.txt.gz", b"")],
            "expected each state once, found state01_AL.txt.gz again",
        ),
        ([("state01_AL.txt", text(line()))], "expected 2 states, found 1"),
        ([("state01_AL.txt", b"short\n")], "state01_AL.txt:1: expected 264 characters, found 5"),
        ([("state01_AL.txt.gz", gzip.compress(b"x" * 99)[:-9])], "expected a gzip file, found"),
    ],
)
def test_hostile_and_damaged_members_are_refused(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        load_archive(archive(tmp_path / "a.tar.gz", members))


def test_a_state_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ushcn, "MOST_BYTES", 1000)
    for name, pack in (("state01_AL.txt", bytes), ("state01_AL.txt.gz", gzip.compress)):
        path = archive(tmp_path / "a.tar.gz", [(name, pack(text(line()) * 4))])
        with pytest.raises(DataError, match="expected at most 1000 bytes of text, found more"):
            load_archive(path)


def test_a_damaged_archive_is_refused(tmp_path, country):
    path = tmp_path / "a.tar.gz"
    whole = country[0].read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"expected a \.tar\.gz archive, found"):
            load_archive(path)


def load_state(path, lines, first_year=1990, records=12, stations=6, seed=0):
    path.write_bytes(gzip.compress(text(*(each for those in lines for each in those))))
    return ushcn.load_windows(
        [path],
        name="state",
        title="State",
        first_year=first_year,
        seed=seed,
        expected={"stations": stations, "records": records},
        split={"seed": 0, "fractions": (0.6, 0.2, 0.2)},
    )


@pytest.fixture(scope="module")
def state():
    """Six stations with two windows each: 1990-1993 and 1994-1997."""
    return {station: weather(station, (1990, 1997))[0] for station in range(170001, 170007)}


def test_windows_are_records_and_stations_are_split(tmp_path, state):
    dataset = load_state(tmp_path / "s.txt.gz", state.values())
    assert dataset.x.shape[0] == 12
    parts = dataset.meta["report"]["first years by station"]
    assert [len(those) for those in parts.values()] == [2, 2, 2]
    assert all(years == [1990, 1994] for those in parts.values() for years in those.values())
    stations = sorted(state)
    for part, those in parts.items():
        expected = [2 * stations.index(int(s)) + w for s in those for w in (0, 1)]
        np.testing.assert_array_equal(getattr(dataset, part), sorted(expected))
    assert dataset.meta["report"]["windows dropped"] == {
        "without observations": 0,
        "with fewer than 730 rows": 0,
    }
    train = dataset.train
    assert dataset.x[train].min() == 0 and dataset.x[train].max() == 1
    # Draws differ between records; 80 % of 730 x 5 entries stay, rows without any go.
    assert not (dataset.t[0] == dataset.t[1]).all()
    assert (dataset.mask.sum((1, 2)) == 2920).all()
    assert dataset.t.max() < 1
    again = load_state(tmp_path / "s.txt.gz", state.values())
    assert dataset.data_digest == again.data_digest
    other = load_state(tmp_path / "s.txt.gz", state.values(), seed=1)
    assert dataset.data_digest != other.data_digest


def test_other_stations_do_not_reach_the_training_set(tmp_path, state):
    dataset = load_state(tmp_path / "s.txt.gz", state.values())
    parts = dataset.meta["report"]["first years by station"]
    outside = [int(s) for part in ("validation", "test") for s in parts[part]]
    # An outlier among the training stations, though not among all that are changed below.
    inside = int(next(iter(parts["train"])))
    first, *others = state[inside]
    state = state | {inside: [f"{first[:16]}{190:5d}{first[21:]}", *others]}
    dataset = load_state(tmp_path / "s.txt.gz", state.values())
    assert sum(dataset.meta["report"]["outliers"].values()) == 1
    changed = state | {s: weather(s, (1990, 1997), low=-30, high=130)[0] for s in outside}
    other = load_state(tmp_path / "s.txt.gz", changed.values())
    for array in ("x", "t", "mask"):
        before, after = getattr(dataset, array), getattr(other, array)
        width = min(before.shape[1], after.shape[1])
        np.testing.assert_array_equal(before[dataset.train, :width], after[dataset.train, :width])
    assert not other.mask[dataset.train, width:].any()
    for part in (other.validation, other.test):
        assert other.x[part].min() < -0.25 and other.x[part].max() > 1.25


def test_windows_with_few_rows_and_years_outside_are_left_out(tmp_path, state):
    first = min(state)
    sparse = weather(170009, (1991, 1996), share=0.8)[0]  # 3 years of each window
    thin = weather(170010, (1990, 1993), share=0.4)[0]
    enough = weather(170011, (1990, 1991))[0]  # 730 days
    lines = [*state.values(), sparse, thin, enough, [single(first, 1989), single(first, 1998)]]
    dataset = load_state(tmp_path / "s.txt.gz", lines, records=15, stations=9)
    report = dataset.meta["report"]
    assert report["values"]["outside the windows"] == 2
    assert report["windows dropped"] == {"without observations": 2, "with fewer than 730 rows": 1}
    # A record's draws do not depend on which others there are.
    alone = load_state(tmp_path / "s.txt.gz", state.values())
    for i in range(12):
        rows = alone.mask[i].any(-1).sum()
        np.testing.assert_array_equal(alone.t[i, :rows], dataset.t[i, :rows])
        np.testing.assert_array_equal(alone.mask[i, :rows], dataset.mask[i, :rows])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stations": 7}, "expected 7 stations, found 6"),
        ({"records": 13}, "expected 13 records, found 12"),
        ({"first_year": 1995}, "expected four years from 1995 on, found none"),
    ],
)
def test_a_state_of_another_size_is_refused(tmp_path, state, changes, message):
    with pytest.raises(DataError, match=message):
        load_state(tmp_path / "s.txt.gz", state.values(), **changes)


def test_the_real_file_of_maine(mirrored, tmp_path):
    config = catalogue.describe("datasets", "ushcn_maine")
    folder = mirrored(*config["files"])
    assert [result.status for result in fetch("ushcn_maine", tmp_path, folder)] == ["copied"]
    dataset = ushcn.load_windows(
        [tmp_path / file for file in config["files"]],
        name="ushcn_maine",
        title=config["title"],
        split=config["split"],
        **config["options"],
    )
    # Counted with the shell: lines, and days whose value is there and has no quality flag.
    assert dataset.meta["report"]["values"]["lines"] == 57610
    assert dataset.meta["report"]["values"]["kept"] == 1674614
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [143, 61, 64]
    rows = dataset.mask.any(-1).sum(-1)
    assert rows.max() <= ROWS and rows.min() > 600
    assert dataset.x[dataset.train].min() == 0 and dataset.x[dataset.train].max() == 1
    winter = (dataset.t % (365.25 / DAYS)) < 60 / DAYS
    tmax, seen = dataset.x[..., ELEMENTS.index("TMAX")], dataset.mask[..., ELEMENTS.index("TMAX")]
    assert tmax[seen & winter].mean() + 0.2 < tmax[seen & ~winter].mean()
    assert (dataset.data_digest, dataset.split_digest) == (
        "01262e059a56a21900b48086f4dfb1ce70f6e6be42c0e75ec49ad4f7dff1830e",
        "0a43d44388a7b533b91bbbfd63326e9730c3af2ef38bf23b53ad7daaba4b6126",
    )


# --- the file of GRU-ODE-Bayes -----------------------------------------------------------------

SPORADIC = {"seed": 432, "fractions": (0.72, 0.18, 0.1)}


def test_the_fold_is_scikit_learns_from_the_global_stream():
    np.random.seed(432)
    rest, test = train_test_split(np.arange(1114), test_size=0.1)
    train, validation = train_test_split(rest, test_size=0.2)
    parts = ushcn_sporadic.fold(1114, **SPORADIC)
    assert [len(part) for part in parts] == [801, 201, 112]
    for expected, found in zip((train, validation, test), parts, strict=True):
        np.testing.assert_array_equal(np.sort(expected), found)


def sporadic_rows(n=20, seed=0):
    """Rows in the order of their time within no series, as in the file."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        for time in rng.permutation(np.arange(0, 200.1, 10)):
            mask = rng.random(5) < 0.5
            mask[number % 5] = True
            rows.append([number, time, *np.where(mask, rng.normal(size=5), 0), *mask])
    return np.array(rows, dtype=float)


def write_csv(path, rows):
    lines = [",".join(repr(float(word)) for word in row) for row in rows]
    path.write_text("\n".join([",".join(ushcn_sporadic.COLUMNS), *lines]) + "\n")
    return path


def load_sporadic(path, rows, series=20):
    return ushcn_sporadic.load(
        [path],
        name="sporadic",
        title="Sporadic",
        expected={"rows": rows, "series": series},
        split=SPORADIC,
    )


def test_the_sporadic_file_is_cut_and_scaled_by_what_is_not_test(tmp_path):
    rows = sporadic_rows()
    dataset = load_sporadic(write_csv(tmp_path / "a.csv", rows), len(rows))
    parts = ushcn_sporadic.fold(20, **SPORADIC)
    for part, indices in zip(base.PARTS, parts, strict=True):
        np.testing.assert_array_equal(getattr(dataset, part), indices)
    late = (rows[:, 1] > 150) & ~np.isin(rows[:, 0], parts[0])
    assert dataset.meta["report"]["validation and test rows after the last time"] == late.sum()
    rows = rows[~late]
    known = rows[~np.isin(rows[:, 0], parts[2])]
    seen = known[:, 7:] == 1
    low = np.where(seen, known[:, 2:7], np.inf).min(0)
    high = np.where(seen, known[:, 2:7], -np.inf).max(0)
    for i in range(20):
        own = rows[rows[:, 0] == i]
        own = own[np.argsort(own[:, 1])]
        n = len(own)
        np.testing.assert_allclose(dataset.t[i, :n], own[:, 1] / 200, rtol=1e-6)
        np.testing.assert_array_equal(dataset.mask[i, :n], own[:, 7:] == 1)
        expected = np.where(own[:, 7:] == 1, (own[:, 2:7] - low) / (high - low), 0)
        np.testing.assert_allclose(dataset.x[i, :n], expected, atol=1e-6)
        assert not dataset.mask[i, n:].any() and (dataset.t[i, n:] == dataset.t[i, n - 1]).all()
    assert {len(rows[rows[:, 0] == i]) for i in parts[0]} == {21}
    assert dataset.t[dataset.test].max() == 0.75


def test_test_values_do_not_reach_the_scale_and_empty_series_are_dropped(tmp_path):
    rows = sporadic_rows()
    test = ushcn_sporadic.fold(20, **SPORADIC)[2]
    before = load_sporadic(write_csv(tmp_path / "a.csv", rows), len(rows))
    changed = rows.copy()
    changed[np.isin(rows[:, 0], test), 2:7] *= 100
    changed = changed[(rows[:, 0] != test[0]) | (rows[:, 1] > 150)]  # nothing is left of this one
    after = load_sporadic(write_csv(tmp_path / "a.csv", changed), len(changed))
    assert after.meta["report"]["series without a row"] == 1
    assert len(after.test) == len(test) - 1 and len(after.x) == 19
    np.testing.assert_array_equal(after.x[after.train], before.x[before.train])
    assert after.x[after.test].max() > 10


def test_series_are_numbered_by_the_order_of_their_ids(tmp_path):
    rows = sporadic_rows()
    plain = load_sporadic(write_csv(tmp_path / "a.csv", rows), len(rows))
    rows[:, 0] = 3 * rows[:, 0] + 1
    spread = load_sporadic(write_csv(tmp_path / "a.csv", rows), len(rows))
    assert spread.data_digest == plain.data_digest and spread.split_digest == plain.split_digest
    assert plain.meta["report"]["ids other than 0, 1, 2, ..."] == 0
    assert spread.meta["report"]["ids other than 0, 1, 2, ..."] == 20


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "1.5", ":4: expected a whole number as ID"),
        (1, "-0.1", r":4: expected a Time in 0\.\.200"),
        (1, "200.1", r":4: expected a Time in 0\.\.200"),
        (2, "nan", ":4: expected 12 numbers, found"),
        (3, "x", ":4: expected 12 numbers"),
        (3, "1_0", ":4: expected 12 numbers"),
        (3, '"', r"a\.csv:22: expected CSV, found unexpected end of data"),
        (11, "0.5", ":4: expected flags of 0 and 1"),
        (11, "1.0,1.0", ":4: expected 12 numbers"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, column, value, message):
    path = write_csv(tmp_path / "a.csv", sporadic_rows(1))
    lines = path.read_text().splitlines()
    words = lines[3].split(",")
    words[column] = value
    lines[3] = ",".join(words)
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        ushcn_sporadic.read_table(path)


def test_a_sporadic_file_of_another_form_is_refused(tmp_path):
    rows = sporadic_rows()
    with pytest.raises(DataError, match="expected 421 rows, found 420"):
        load_sporadic(write_csv(tmp_path / "a.csv", rows), 421)
    with pytest.raises(DataError, match="expected 21 series, found 20"):
        load_sporadic(write_csv(tmp_path / "a.csv", rows), 420, series=21)
    with pytest.raises(DataError, match=r":422: expected one row for each ID and Time"):
        ushcn_sporadic.read_table(write_csv(tmp_path / "a.csv", [*rows, rows[0]]))
    (tmp_path / "a.csv").write_text("ID,Time\n")
    with pytest.raises(DataError, match=":1: expected columns ID,Time,Value_0"):
        ushcn_sporadic.read_table(tmp_path / "a.csv")
