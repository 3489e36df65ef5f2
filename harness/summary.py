"""What figures and tracking need of a cell besides its record: small arrays and the history.

Files of a cell's directory: ``summary.npz`` (of generation, the arrays below; of the other tasks,
those of `harness.prediction.examples`; none where the cell has no samples) and ``history.jsonl`` (a
row every few training steps).

================ ============ ================================================================
array            shape        meaning
================ ============ ================================================================
real_mean        (L, D)       mean of the test series at each step; likewise fake_mean
real_low, _high  (L, D)       their 5 % and 95 % quantiles; likewise fake_low, fake_high
steps            (4,)         four steps, logarithmically equidistant from 0.5 % to 10 % of L
real_at_steps    (n, 4, D)    values of the test series there; likewise fake_at_steps
examples         (4, L, D)    the first four generated series
================ ============ ================================================================

Real series are not among the examples: most sources may not be passed on.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from datasets.files import load_arrays, save_arrays
from harness import records
from harness.records import Record
from metrics.arrays import check_series
from metrics.flame import front_steps

EXAMPLES = 4
BAND = (0.05, 0.95)


@dataclass(frozen=True)
class CellFiles:
    """A cell's record and the directory that it lies in."""

    record: Record
    folder: Path

    def summary(self) -> dict[str, np.ndarray]:
        """The summary's arrays; none where the cell has no samples or no such file."""
        path = self.folder / "summary.npz"
        return read(path) if path.exists() else {}

    def history(self) -> pd.DataFrame:
        """The rows of the training history; none for a control or where there is no such file."""
        path = self.folder / "history.jsonl"
        if not path.exists():
            return pd.DataFrame()
        return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


def find(folder: Path) -> list[CellFiles]:
    """Read the cells below a folder, in the order of their identity."""
    cells = [CellFiles(records.read(p), p.parent) for p in folder.rglob("record.json")]
    return sorted(cells, key=lambda c: tuple(getattr(c.record, k) for k in records.IDENTITY))


def summarise(
    real: Float[np.ndarray, "N L D"], fake: Float[np.ndarray, "M L D"]
) -> dict[str, np.ndarray]:
    """Reduce test series and samples to the arrays in this file's table.

    Raises
    ------
    ValueError
        For unusable arrays.
    """
    check_series(real=real, fake=fake)
    steps = front_steps(real.shape[1])
    arrays: dict[str, np.ndarray] = {"steps": np.array(steps), "examples": fake[:EXAMPLES]}
    for name, series in {"real": real, "fake": fake}.items():
        low, high = np.quantile(series, BAND, axis=0)
        arrays |= {
            f"{name}_mean": series.mean(0),
            f"{name}_low": low,
            f"{name}_high": high,
            f"{name}_at_steps": series[:, steps],
        }
    return arrays


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, real ones in single precision, whole or not at all; no arrays is fine too."""
    save_arrays(
        path,
        {
            name: array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array
            for name, array in arrays.items()
        },
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """Read what `write` wrote.

    Raises
    ------
    DataError
        If the file is absent, damaged or holds pickled objects.
    """
    return load_arrays(path, set())
