r"""Loader of the PhysioNet/Computing in Cardiology Challenge 2012: 8000 patients, 48 h each.

A record is a text of lines ``HH:MM,Parameter,Value``. Times become multiples :math:`q k` of a
quantisation q, and all values :math:`v_1 \dots v_n` that a parameter has at one of them their mean:

.. math:: k = \mathrm{round}(t / q), \qquad x_{k} = \frac{1}{n} \sum_{i=1}^{n} v_i

A row of a record is a k at which anything was observed. Sets a and b are pooled, no record is left
out, and the descriptors Age, Gender, Height and ICUType are channels that are observed at time 0.

Then one of three scalings, channel by channel (`SCALINGS`):

maximum
    :math:`(x - \min) / \max` over the observed values of all records, test included, as Rubanova
    et al. have it, and LS4 after them. A maximum of 0 counts as 1.
range
    :math:`(x - \min) / (\max - \min)` over all entries, the missing ones as zeros, once for
    training and validation together and once for the test part, as Schirmer et al. have it.
quantiles
    :math:`(x - a) / (b - a)`, clipped to [0, 1], where a and b are the quantiles 0.001 and 0.999
    of the observed values of the training part alone. If they are equal, b - a counts as 1.

The code -1 stands for an unknown Gender, Height or Weight, and some values are artefacts, such as
a pH of 735. The published experiments keep all of them. With ``drop_impossible``, lines whose value
lies outside `POSSIBLE` are left out before anything is averaged.

What is wrong in a record
-------------------------
Left out or put right, counted and reported: lines without a parameter's name (left out); times that
step back (put in order); files of an archive that are no records (left out). Refused with file and
line: anything else than the header, the record's own RecordID and well-formed lines that end in a
line feed, with a time from 00:00 to 48:00, one of the 41 parameters and a finite decimal number.

References
----------
Silva et al. 2012, "Predicting Mortality of ICU Patients: The PhysioNet/Computing in Cardiology
Challenge 2012", PhysioNet.
Rubanova et al. 2019, "Latent ODEs for Irregularly-Sampled Time Series", arXiv:1907.03907.
Schirmer et al. 2022, "Modeling Irregular Time Series with Continuous Recurrent Units",
arXiv:2111.11344.
Zhou et al. 2023, "Deep Latent State Space Models for Time-Series Generation", arXiv:2212.12749.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from datasets import base
from datasets.archives import contents_sha256, read_tar
from datasets.errors import DataError
from datasets.progress import progress

PARAMETERS = (
    *("Age", "Gender", "Height", "ICUType", "Weight"),
    *("Albumin", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Cholesterol", "Creatinine"),
    *("DiasABP", "FiO2", "GCS", "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "Mg", "MAP"),
    *("MechVent", "Na", "NIDiasABP", "NIMAP", "NISysABP", "PaCO2", "PaO2", "pH", "Platelets"),
    *("RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT", "Urine", "WBC"),
)
DESCRIPTORS = 5  # the first ones, which every record has at time 0
POSSIBLE = {  # the others are only clipped
    "Gender": (0, 1),
    "Height": (100, 250),  # cm
    "Weight": (20, 500),  # kg
    "Temp": (20, 45),  # degrees Celsius
    "pH": (6, 8),
    # mm Hg; 0 is a line that is open or closed
    **dict.fromkeys(("DiasABP", "MAP", "SysABP", "NIDiasABP", "NIMAP", "NISysABP"), (1, 300)),
    **dict.fromkeys(("PaCO2", "PaO2"), (1, 800)),
}
HOURS = 48
EXAMPLES = 3  # of each kind in the report

CHANNEL = {name: channel for channel, name in enumerate(PARAMETERS)}
NAMELESS = -1
MINUTE = {f"{minute // 60:02}:{minute % 60:02}": minute for minute in range(HOURS * 60 + 1)}
CODE = {"": NAMELESS, **CHANNEL}
HEADER = ("Time,Parameter,Value", "00:00,RecordID,{}")
RECORD = re.compile(r"(?:.*/)?[0-9]+\.txt")
LINE = re.compile(r"^([0-9:]+),(\w*),(-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)$", re.M | re.ASCII)


@dataclass(frozen=True)
class Lines:
    """The n values of N records, line by line.

    Attributes
    ----------
    names : tuple of N strings
        Files of the records, such as ``set-a/132539.txt``.
    record : (n,)
        Index into `names`, non-decreasing.
    number : (n,)
        Of the line in its file, from 1.
    minute : (n,)
        Since admission, 0..2880.
    channel : (n,)
        Index into `PARAMETERS`, or `NAMELESS`.
    value : (n,)
        As written.
    """

    names: tuple[str, ...]
    record: Int[np.ndarray, "n"]
    number: Int[np.ndarray, "n"]
    minute: Int[np.ndarray, "n"]
    channel: Int[np.ndarray, "n"]
    value: Float64[np.ndarray, "n"]

    def __getitem__(self, chosen: np.ndarray) -> "Lines":
        columns = self.record, self.number, self.minute, self.channel, self.value
        return Lines(self.names, *(column[chosen] for column in columns))

    def places(self, chosen: Int[np.ndarray, "_"]) -> dict[str, Any]:
        """Count lines, also by parameter, and say where the first few are, for the report."""
        entry = _entry([f"{self.names[self.record[i]]} line {self.number[i]}" for i in chosen])
        channels, counts = np.unique(self.channel[chosen], return_counts=True)
        by_parameter = {(*PARAMETERS, "")[c]: int(n) for c, n in zip(channels, counts, strict=True)}
        return entry and entry | {"by_parameter": by_parameter}


@dataclass(frozen=True)
class Cells:
    """The m averaged values in the order of record, time and channel, no two alike.

    `bin` is the k of the time, and `line` the first line that a value was made from.
    """

    record: Int[np.ndarray, "m"]
    bin: Int[np.ndarray, "m"]
    channel: Int[np.ndarray, "m"]
    value: Float64[np.ndarray, "m"]
    line: Int[np.ndarray, "m"]

    def __getitem__(self, chosen: np.ndarray) -> "Cells":
        columns = self.record, self.bin, self.channel, self.value, self.line
        return Cells(*(column[chosen] for column in columns))

    def opens_row(self) -> Bool[np.ndarray, "m"]:
        """Tell which values are the first of a row."""
        same = (np.diff(self.record, prepend=-1) == 0) & (np.diff(self.bin, prepend=-1) == 0)
        return ~same


@dataclass(frozen=True)
class Scaling:
    """A scaling of the values of one channel.

    `function` maps the values (n,), the part of the split that each belongs to (n,), as an index
    into `datasets.base.PARTS`, and the numbers of rows of the three parts (3,) to scaled values
    (n,), which are then clipped to [0, 1] if `clip` is set.
    """

    function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    normalisation: str
    unit: str
    clip: bool = False


def load(
    files: Sequence[Path],
    *,
    name: str,
    title: str,
    quantisation: float,
    scaling: str,
    leave_out: Sequence[str] = (),
    drop_impossible: bool = False,
    expected: Mapping[str, Any],
    split: Mapping[str, Any],
) -> base.Dataset:
    """Read the archives, average over each time, scale and split by record.

    Parameters
    ----------
    files : paths
        The archives of the sets.
    name, title : str
        What the configuration calls the data set.
    quantisation : float
        Hours q of which times become multiples.
    scaling : {"maximum", "range", "quantiles"}
        See the head of this module.
    leave_out : names
        Parameters that do not become channels.
    drop_impossible : bool
        Leave out lines whose value lies outside `POSSIBLE`.
    expected : mapping
        What must be found, any of: ``sha256`` of each file's records, one after the other in the
        order of their names, and the numbers of ``records``, different ``times``, ``rows`` and
        averaged ``values``, counted on all 41 channels after `drop_impossible`, before `leave_out`.
    split : mapping
        ``seed`` and ``fractions`` of `datasets.base.split`.

    Raises
    ------
    DataError
        If an option is unknown, a record malformed, or something else found than expected.
    """
    for parameter in leave_out:
        _one_of(CHANNEL, parameter, f"data set {name}: expected leave_out")
    method = _one_of(SCALINGS, scaling, f"data set {name}: expected scaling")
    if not quantisation > 0:
        raise DataError(f"data set {name}: expected quantisation > 0, found {quantisation}")
    lines, digests, report = read(files)
    lines = look_for_impossible(lines, report, drop=drop_impossible)
    cells = average(lines, quantisation, report)
    found = {
        "sha256": digests,
        "records": len(lines.names),
        "times": len(np.unique(cells.bin)),
        "rows": int(cells.opens_row().sum()),
        "values": len(cells.value),
    }
    for key, value in expected.items():
        if found.get(key) != value:
            raise DataError(f"data set {name}: expected {key} {value}, found {found.get(key)}")
    channels = [channel for parameter, channel in CHANNEL.items() if parameter not in leave_out]
    parts = base.split(len(lines.names), **split)
    cells = scale(cells[np.isin(cells.channel, channels)], parts, method, lines, report)
    t, x, mask = grid(cells, channels, lines.names, quantisation)
    return base.build(
        name=name,
        title=title,
        x=x,
        t=t,
        mask=mask,
        split_options=split,
        parts=parts,
        normalisation=method.normalisation,
        unit=method.unit,
        time=f"{HOURS} h",
        channels=[PARAMETERS[channel] for channel in channels],
        files=files,
        options={
            "quantisation": quantisation,
            "scaling": scaling,
            "leave_out": list(leave_out),
            "drop_impossible": drop_impossible,
            "records_sha256": digests,
        },
        report=report,
    )


def read(files: Sequence[Path]) -> tuple[Lines, list[str], dict[str, Any]]:
    """Read all records of some archives.

    Returns
    -------
    lines : Lines
        All of them with a parameter's name; the records are in the order of their RecordID.
    digests : list of str
        sha256 of the records of each file, one after the other in the order of their names.
    report : dict
        What was found, by kind: how often, and where first.

    Raises
    ------
    DataError
        Naming archive, file and line of what is no record, or a record that comes twice.
    """
    records: dict[str, tuple[Path, str, bytes]] = {}  # by RecordID
    digests, others = [], []
    for path in files:
        try:
            contents = read_tar(path)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        others += [file for file in contents if not RECORD.fullmatch(file)]
        contents = {file: text for file, text in contents.items() if RECORD.fullmatch(file)}
        digests.append(contents_sha256(contents))
        for file, content in contents.items():
            record_id = PurePosixPath(file).stem
            if record_id in records:
                raise DataError(f"{path}: expected every record once, found {file} again")
            records[record_id] = path, file, content
    if not records:
        raise DataError(f"expected archives of records, found none in {list(map(str, files))}")
    columns = []
    with progress() as bar:
        for record_id in bar.track(sorted(records), description="Reading the records"):
            path, file, content = records[record_id]
            columns.append(_read_record(content, record_id, f"{path}: {file}"))
    lengths = [len(minute) for minute, _, _ in columns]
    lines = Lines(
        tuple(records[record_id][1] for record_id in sorted(records)),
        np.repeat(np.arange(len(lengths)), lengths),
        np.concatenate([len(HEADER) + 1 + np.arange(length) for length in lengths]),
        *(np.concatenate(column) for column in zip(*columns, strict=True)),
    )

    nameless = lines.channel == NAMELESS
    back = (np.diff(lines.minute, prepend=0) < 0) & (np.diff(lines.record, prepend=0) == 0)
    measured = lines.record[lines.channel >= DESCRIPTORS]
    bare = np.setdiff1d(lines.record, measured)
    report = {
        "files that are no records: left out": _entry(others),
        "lines without a parameter: left out": lines.places(np.flatnonzero(nameless)),
        "times before that of the line above: put in order": lines.places(np.flatnonzero(back)),
        "records of descriptors only: kept": _entry([lines.names[record] for record in bare]),
    }
    return lines[~nameless], digests, {kind: found for kind, found in report.items() if found}


def _read_record(
    content: bytes, record_id: str, where: str
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Return minute, channel and value of each line below the RecordID."""
    text = content.decode("ascii", errors="replace")
    head = "".join(f"{line}\n" for line in HEADER).format(record_id)
    lines = LINE.findall(text, len(head))
    minutes, channels, values = zip(*lines, strict=True) if lines else ((), (), ())
    try:
        minute = np.fromiter(map(MINUTE.__getitem__, minutes), np.int16, len(lines))
        channel = np.fromiter(map(CODE.__getitem__, channels), np.int8, len(lines))
    except KeyError:
        raise _mistake(text, record_id, where) from None
    value = np.fromiter(map(float, values), np.float64, len(lines))
    whole = text.startswith(head) and text.endswith("\n")
    if not (whole and len(lines) == text.count("\n", len(head)) and np.isfinite(value).all()):
        raise _mistake(text, record_id, where)
    if not (channel != NAMELESS).any():
        raise DataError(f"{where}: expected values, found none")
    return minute, channel, value


def _mistake(text: str, record_id: str, where: str) -> DataError:
    """Find the first line that `_read_record` refuses."""
    *lines, rest = text.split("\n")
    heads = [head.format(record_id) for head in HEADER]
    for number, line in enumerate([*lines, rest], start=1):
        match = LINE.fullmatch(line)
        if number > len(lines):
            expected = "a line feed at the end of the file"
        elif number <= len(heads):
            expected = heads[number - 1]
            if line == expected:
                continue
        elif match is None:
            expected = "HH:MM,Parameter,value"
        elif match[1] not in MINUTE:
            expected = "a time from 00:00 to 48:00"
        elif match[2] not in CODE:
            expected = f"one of the {len(PARAMETERS)} parameters"
        elif not math.isfinite(float(match[3])):
            expected = "a finite value"
        else:
            continue
        return DataError(f"{where} line {number}: expected {expected}, found {line[:60]!r}")
    raise AssertionError(f"{where}: refused without a mistake")


def look_for_impossible(lines: Lines, report: dict[str, Any], *, drop: bool) -> Lines:
    """Report the lines whose value lies outside `POSSIBLE`, and leave them out if told so."""
    wrong = np.zeros(len(lines.value), dtype=bool)
    for parameter, (low, high) in POSSIBLE.items():
        outside = (lines.value < low) | (lines.value > high)
        outside &= lines.channel == CHANNEL[parameter]
        wrong |= outside
    if found := lines.places(np.flatnonzero(wrong)):
        report[f"impossible values: {'left out' if drop else 'kept'}"] = found
    return lines[~wrong] if drop else lines


def average(lines: Lines, quantisation: float, report: dict[str, Any]) -> Cells:
    """Round the times to multiples of `quantisation` hours and average what falls together."""
    hours = lines.minute // 60 + lines.minute % 60 / 60
    bins = np.rint(hours / quantisation).astype(np.int64)
    n_bins = round(HOURS / quantisation) + 1
    key = (lines.record * n_bins + bins) * len(PARAMETERS) + lines.channel
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.diff(key, prepend=-1) != 0
    cell = np.cumsum(first) - 1
    if found := lines.places(np.sort(order[~first])):
        report["values of a parameter after its first in a row: averaged"] = found
    row, channel = np.divmod(key[first], len(PARAMETERS))
    record, bin_ = np.divmod(row, n_bins)
    # bincount adds one by one, so that the sums do not depend on the processor.
    value = np.bincount(cell, lines.value[order]) / np.bincount(cell)
    return Cells(record, bin_, channel, value, order[first])


def scale(
    cells: Cells, parts: base.Parts, scaling: Scaling, lines: Lines, report: dict[str, Any]
) -> Cells:
    """Scale the values of each channel; report those that are clipped."""
    part_of = np.empty(len(lines.names), dtype=np.int64)
    for part, records in enumerate(parts):
        part_of[records] = part
    part = part_of[cells.record]
    rows = np.bincount(part[cells.opens_row()], minlength=len(parts))
    scaled = np.zeros_like(cells.value)
    for channel in np.unique(cells.channel):
        here = np.flatnonzero(cells.channel == channel)
        scaled[here] = scaling.function(cells.value[here], part[here], rows)
    if scaling.clip:
        outside = (scaled < 0) | (scaled > 1)
        if found := lines.places(cells.line[outside]):
            report["values outside the training quantiles: clipped"] = found
        scaled = scaled.clip(0, 1)
    return dataclasses.replace(cells, value=scaled)


def _maximum(value: np.ndarray, part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return (value - value.min()) / (value.max() or 1)


def _range(value: np.ndarray, part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    scaled = np.empty_like(value)
    for group in ([0, 1], [2]):
        here = np.isin(part, group)
        entries = value[here]
        if len(entries) < rows[group].sum():
            entries = np.append(entries, 0)
        low, high = entries.min(initial=np.inf), entries.max(initial=-np.inf)
        scaled[here] = (value[here] - low) / ((high - low) or 1)
    return scaled


def _quantiles(value: np.ndarray, part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    low, high = np.quantile(value[part == 0], [0.001, 0.999])
    return (value - low) / ((high - low) or 1)


def grid(
    cells: Cells, channels: Sequence[int], names: Sequence[str], quantisation: float
) -> tuple[Float32[np.ndarray, "N L"], Float32[np.ndarray, "N L D"], Bool[np.ndarray, "N L D"]]:
    """Lay the values out by record, row and channel, after which come padding rows.

    Parameters
    ----------
    cells : Cells
        Of no other channels than these:
    channels : D sorted indices into `PARAMETERS`
    names : N files of the records
    quantisation : float
        Hours that the bins are multiples of.

    Returns
    -------
    t : (N, L)
        Times in units of 48 h; L is the largest number of rows of a record.
    x, mask : (N, L, D)
        Values, and where one was observed.

    Raises
    ------
    DataError
        If a record has no value.
    """
    count = np.bincount(cells.record, minlength=len(names))
    if not count.all():
        empty = names[int(count.argmin())]
        raise DataError(f"expected values in every record, found none in {empty}")
    opens = cells.opens_row()
    where = np.cumsum(opens) - 1, np.searchsorted(channels, cells.channel)
    x = np.zeros((np.count_nonzero(opens), len(channels)), dtype=np.float32)
    mask = np.zeros(x.shape, dtype=bool)
    x[where], mask[where] = cells.value, True
    return base.pad(cells.record[opens], cells.bin[opens] * quantisation / HOURS, x, mask)


def _one_of(known: Mapping[str, Any], name: str, expected: str) -> Any:
    if name not in known:
        raise DataError(f"{expected} to be of {', '.join(known)}, found {name!r}")
    return known[name]


def _entry(places: Sequence[str]) -> dict[str, Any]:
    return {"count": len(places), "examples": list(places[:EXAMPLES])} if places else {}


SCALINGS = {
    "maximum": Scaling(
        _maximum,
        "(x - min) / max of each channel, over all records",
        "largest value of the channel",
    ),
    "range": Scaling(
        _range,
        "(x - min) / (max - min) of each channel, missing values as 0, over train and validation "
        "together and over test",
        "range of the channel with 0",
    ),
    "quantiles": Scaling(
        _quantiles,
        "(x - a) / (b - a) of each channel, clipped to [0, 1], with the quantiles a = 0.001 and "
        "b = 0.999 of the training part",
        "distance of the channel's training quantiles 0.001 and 0.999",
        clip=True,
    ),
}
