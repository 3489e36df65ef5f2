"""Damaged files are refused in one line or read equal to the original; never a traceback.

Each reader gets seeded damage: flipped bits, cuts, inserted and overwritten bytes, swapped lines,
huge numbers. Where a file has no checksum, values may differ from the original, since nobody can
know them, and rows at its end may be missing; names and shapes may not differ. Of settings, every
name must be a known one. ``make fuzz`` tries 2,000 of each.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datasets import physionet, ushcn, ushcn_sporadic
from datasets.base import Dataset
from datasets.errors import DataError
from datasets.synthetic import load as sines
from datasets.tsf import read_tsf
from harness import catalogue, cells, records
from harness.catalogue import CONFIG, ROOT, read_yaml
from harness.checks import check, load, model_config
from harness.config import DatasetFile, ModelFile, Settings
from harness.errors import UserError
from harness.grid import check_dataset
from harness.present import files
from harness.run.checkpoints import Checkpoint
from harness.run.outcome import Outcome, read_outcome, read_weights, write_training
from harness.run.own_samples import read_samples
from tests import specs
from tests.archives import tarred

N = int(os.environ.get("FUZZ", "200"))
SAMPLES = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
RECORD = "Time,Parameter,Value\n00:00,RecordID,12\n00:00,Age,50\n48:00,HR,70\n"
TSF = """@relation r\n@attribute series_name string\n@frequency weekly\n@missing false
@equallength true\n@data\nT1:1.5,2,3,4,5,6\nT2:4,5,6,7,8,9\nT3:7,8,9,10,11,12\n"""
ROWS = "0,1,.5,0,0,0,0,1,0,0,0,0\n1,3,2,0,0,0,0,1,0,0,0,0\n"
SPORADIC = ",".join(ushcn_sporadic.COLUMNS) + "\n" + ROWS
DAILY = f"{170100:06d}{1992:04d}{2:02d}TMAX" + "   70P 6" * 31 + "\n"


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Return another content, by one of seven kinds of damage."""
    kind, at = rng.integers(7), int(rng.integers(len(content)))
    many = bytearray(content)
    if kind == 0:
        many[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        del many[at:]
    elif kind == 2:
        many[at:at] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == 3:
        many[at : at + 4] = rng.bytes(4)
    elif kind == 4:
        lines = content.split(b"\n")
        a, b = rng.integers(len(lines), size=2)
        lines[a], lines[b] = lines[b], lines[a]
        many = bytearray(b"\n".join(lines))
    elif kind == 5:
        many[at : at + 1] = rng.choice([b"1e999", b"-1", b"9" * 5000, b"nan", b"\xff\xfe"])
    else:
        del many[at : at + int(rng.integers(1, 9))]
    return bytes(many)


@dataclass(frozen=True)
class Reader:
    """How a file is written and read, and whether damage to it can be known."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    checked: bool = False  # a checksum: all damage is known
    settings: bool = False  # all names are known ones, any of which may be left out

    def excuses(self, cut: bool, found: Any, expected: Any) -> bool:
        """Whether nothing in the file tells the damage that made this of what was expected."""
        if self.checked:
            return False
        return cut or self.settings or names(found) == names(expected)


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def dataset(path: Path) -> None:
    sines(
        [], name="sines", title="Sines", n=20, length=6, channels=1, seed=0, split=specs.SPLIT
    ).save(path)


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0), "b": torch.ones(2, 3)}


def outcome() -> Outcome:
    of = specs.cell().digest
    return Outcome("done", None, "steps", 4, None, None, None, 1.5, 0, 6, of, "d", {"threads": 1})


def trained(path: Path) -> None:
    write_training(path.parent, outcome(), [{"step": 1, "loss": 0.5}, {"step": 2}], weights())


def record(path: Path) -> None:
    records.write(records.read(next((ROOT / "results" / "reference").rglob("record.json"))), path)


def resume(path: Path) -> Any:
    state = Checkpoint(path, "key").load()
    if state is None:
        raise UserError("starting afresh")
    return state


def config(name: str) -> Callable[[Path], Any]:
    """Return what writes a file of config/ without comments: one may swallow a line unnoticed."""
    return text(yaml.safe_dump(read_yaml(CONFIG / name), sort_keys=False))


def settings(path: Path) -> Any:
    found = check(Settings, read_yaml(CONFIG / "config.yaml") | read_yaml(path), str(path))
    for cell in cells.cells(found):
        cells.describe_cell(found, cell)
    for name in found.datasets:
        check_dataset(name, cells.describe_dataset(found, name))
    return found.model_dump()


def model(path: Path) -> Any:
    """Read the description of a model, and every configuration that it gives the model."""
    found = check(ModelFile, read_yaml(path), str(path))
    catalogue._check_changes(found, str(path))
    trainings = [t for b in found.training.values() for t in (b, *b.datasets.values())]
    changes = [found.config, found.tiny, *found.datasets.values(), *found.sizes.values()]
    for change in [*changes, *(training.config for training in trainings)]:
        model_config(load(found.class_), change, str(path))
    return found.model_dump()


def described(path: Path) -> Any:
    found = check(DatasetFile, read_yaml(path), str(path))
    check_dataset("sines", found)
    return found.model_dump()


READERS = [
    Reader("x.tsf", text(TSF), lambda p: read_tsf(p).series),
    Reader("12.txt", text(RECORD), lambda p: physionet._read_record(p.read_bytes(), "12", "12")),
    Reader(
        "set.tar.gz",
        lambda p: p.write_bytes(tarred(("a/", None), ("a/12.txt", RECORD.encode()))),
        lambda p: physionet.read([p]),
        checked=True,
    ),
    Reader("daily.txt", text(DAILY), lambda p: ushcn.read_daily(p.read_bytes(), "file")[0]),
    Reader("sporadic.csv", text(SPORADIC), ushcn_sporadic.read_table),
    Reader("s.npy", lambda p: np.save(p, SAMPLES), lambda p: read_samples(p, (4, 6, 1))),
    Reader(
        "s.npz",
        lambda p: np.savez(p, samples=SAMPLES),
        lambda p: read_samples(p, (4, 6, 1)),
        checked=True,
    ),
    Reader(
        "s.csv",
        lambda p: np.savetxt(p, SAMPLES, delimiter=","),
        lambda p: read_samples(p, (4, 6, 1)),
    ),
    Reader("record.json", record, lambda p: records.read(p).model_dump(), checked=True),
    Reader("prepared.npz", dataset, Dataset.load, checked=True),
    Reader(
        "checkpoint.pt",
        lambda p: Checkpoint(p, "key").save({"step": 1, "model": weights()}),
        resume,
        checked=True,
    ),
    Reader("weights.safetensors", trained, read_weights, checked=True),
    Reader(
        "train.json", trained, lambda p: asdict(read_outcome(p.parent, specs.cell())), checked=True
    ),
    Reader(
        "history.jsonl",
        trained,
        lambda p: (read_outcome(p.parent, specs.cell()), files.history(p.parent))[1],
        checked=True,
    ),
    Reader("config.yaml", config("demo.yaml"), settings, settings=True),
    Reader("model.yaml", config("models/ls4.yaml"), model, settings=True),
    Reader("dataset.yaml", config("datasets/sines.yaml"), described, settings=True),
]


def plain(value: Any) -> Any:
    """Return what can be compared: the bytes of arrays, the fields of objects."""
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.asarray(value)
        return array.shape, array.dtype.str, array.tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__}
    return value if isinstance(value, str | int | float | None) else str(value)


def names(value: Any) -> Any:
    """Return what holds the values: the keys of mappings, the shapes of arrays."""
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, dict):
        return {key: names(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {key: names(getattr(value, key)) for key in value.__dataclass_fields__}
    return [names(item) for item in value] if isinstance(value, list | tuple) else None


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damage_is_refused_or_changes_nothing(reader: Reader, tmp_path: Path, capsys) -> None:
    path = tmp_path / reader.name
    reader.write(path)
    content, expected = path.read_bytes(), reader.read(path)
    rng = np.random.default_rng(0)
    counts, wrong = Counter(), []
    for k in range(N):
        damaged = damage(content, rng)
        path.write_bytes(damaged)
        try:
            found = reader.read(path)
        except (UserError, DataError) as error:
            assert "\n" not in str(error)
            counts["refused"] += 1
        except Exception as error:
            counts["traceback"] += 1
            wrong.append(f"{k}: {type(error).__name__}: {error}"[:200])
        else:
            equal = plain(found) == plain(expected)
            counts["equal" if equal else "another value"] += 1
            if not equal and not reader.excuses(content.startswith(damaged), found, expected):
                wrong.append(f"{k}: read, but not what was written")
    with capsys.disabled():
        if "FUZZ" in os.environ:
            print(f"\n{reader.name}: {dict(counts)}")
    assert not wrong, wrong[:5]
    assert counts["refused"], "damage that nobody noticed"
