"""``power/<dataset>.json``: which known faults the two-sample tests can see on a data set."""

from collections.abc import Sequence
from pathlib import Path

from harness.checks import Frozen, check_json

LEVEL = 0.05  # of every two-sample test: the largest p that tells two sets of series apart
POWERS = "power/*.json"  # where they lie in a folder of results
ENOUGH = 0.5  # power of a distance on the fault that it is for; with less it says little


class Power(Frozen):
    """What `metrics.power` found on one data set.

    Attributes
    ----------
    n : int
        Test series, or groups of them, such as windows of one series.
    shares : dict
        By fault, then by distance and "all": share of the splits in which it is told apart.
    targets : dict
        The fault that each distance is for.
    reason : str, optional
        Why nothing was measured, where the data cannot be had.
    """

    format: int = 1
    dataset: str
    data_digest: str
    n: int
    season: int | None
    splits: int
    permutations: int
    level: float
    shares: dict[str, dict[str, float]]
    targets: dict[str, str]
    reason: str | None = None
    version: str
    commit: str
    date: str

    def on_target(self, distance: str) -> float:
        """Return the share of splits in which a distance by itself sees the fault it is for."""
        return self.shares[self.targets[distance]][distance]

    @property
    def weak(self) -> tuple[str, ...]:
        """The distances that see the fault they are for in less than half of the splits."""
        return tuple(name for name in self.targets if self.on_target(name) < ENOUGH)


def power_files(folder: Path) -> list[Path]:
    """Return the files of powers below a folder, which may be that of them alone, in order."""
    return sorted(path for path in folder.rglob("*.json") if path.match(POWERS))


def find_powers(folders: Sequence[Path]) -> list[Power]:
    """Read all ``power/<dataset>.json`` below some folders that measured something, by data set.

    Raises
    ------
    UserError
        If a file is no such thing.
    """
    paths = [path for folder in folders for path in power_files(folder)]
    found = [check_json(Power, path, "a record of the tests' power") for path in paths]
    measured = [power for power in found if power.reason is None]
    return sorted(measured, key=lambda power: (power.dataset, power.data_digest))
