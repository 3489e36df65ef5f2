"""Commands about data sets and grids: data, fetch, check, shard, check-data, prepare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import DataError
from harness.cli.common import DATA, DESCRIPTION, MIRROR, OUT, Add, read_description
from harness.config import DatasetFile
from harness.errors import UserError

if TYPE_CHECKING:
    from datasets.base import Dataset


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(download, "data")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)

    sub = add(fetch)
    sub.add_argument("path", help="a file of datasets/manifest.yaml")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)

    sub = add(check)
    sub.add_argument("grid", type=Path, help="grid.json, which the workflow writes")

    sub = add(shard)
    sub.add_argument("dataset", help="a name in config/datasets/")
    sub.add_argument("shard", type=int, help="number of the part, from 0")
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--out", **OUT)

    sub = add(check_data, "check-data")
    sub.add_argument("dataset", help="a name in config/datasets/")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)

    sub = add(prepare)
    sub.add_argument("dataset", help="a name in config/datasets/")
    sub.add_argument("files", type=Path, nargs="*", help="raw files or shards")
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--out", **OUT)
    sub.add_argument("--split", type=Path, required=True, help="where to write the split")
    sub.add_argument("--report", type=Path, required=True, help="where to write what was found")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)


def download(data: Path, mirror: Path | None) -> int:
    """Fetch every source; those that cannot be reached are listed at the end."""
    from datasets.fetch import fetch_all

    results = fetch_all(data, mirror)
    for result in results:
        print(f"{result.status:9} {result.path}" + (f": {result.reason}" if result.reason else ""))
    failed = [result for result in results if result.status == "failed"]
    print(f"{len(results) - len(failed)} of {len(results)} files are in {data}")
    return 1 if failed else 0


def fetch(path: str, data: Path, mirror: Path | None) -> int:
    """Fetch one file of the manifest, verified; from the mirror folder where it is there."""
    from datasets.fetch import fetch_file

    fetch_file(path, data, mirror)
    return 0


def check(grid: Path) -> int:
    """Check what a grid names and the options it gives, before anything is fetched or trained.

    Loaders, models and scores are imported; the workflow runs this first.
    """
    from harness.grid import check_grid

    found = check_grid(grid)
    print(f"{len(found.datasets)} data sets, {len(found.models)} configurations of models")
    return 0


def shard(dataset: str, shard: int, description: Path, out: Path) -> int:
    """Generate one part of a generated data set."""
    from harness.checks import check_options, load

    described = read_description(description)
    if described.shard is None:
        raise UserError(f"config/datasets/{dataset}.yaml: has no shards to generate")
    where = f"config/datasets/{dataset}.yaml: shard_options"
    check_options(described.shard, described.shard_options, where)
    out.parent.mkdir(parents=True, exist_ok=True)
    load(described.shard)(out, shard, **described.shard_options)
    return 0


def prepare(
    dataset: str,
    files: list[Path],
    description: Path,
    out: Path,
    split: Path,
    report: Path,
    data: Path,
    mirror: Path | None,
) -> int:
    """Read, normalise and split a data set.

    An optional one fetches its files itself; if they cannot be had, that is what it writes.
    """
    from datasets.base import write_unavailable

    described = read_description(description)
    out.parent.mkdir(parents=True, exist_ok=True)
    if described.optional:
        try:
            files = raw_files(described, data, mirror)
        except DataError as error:
            print(error, file=sys.stderr)
            write_unavailable(out, split, report, dataset, f"data not available: {error}")
            return 0
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: expected a file that is there, found none")
    prepared = load_dataset(dataset, described, files)
    prepared.save(out)
    prepared.write_split(split)
    prepared.write_report(report)
    return 0


def check_data(dataset: str, data: Path, mirror: Path | None) -> int:
    """Say what is in a data set before anything is trained.

    Its files are read as for a training (fetched first, if the manifest has them); nothing is
    written.
    """
    from datasets.inspection import page
    from harness import catalogue
    from harness.grid import check_dataset
    from harness.run.generation import check_scorable

    description = catalogue.dataset(dataset)
    check_dataset(dataset, description)
    if description.shards:
        raise UserError(f"{dataset}: expected a data set that is read from files, found a made one")
    files = raw_files(description, data, mirror)
    found = load_dataset(dataset, description, files)
    for line in page(found):
        print(line)
    try:
        check_scorable(found)
    except UserError as error:
        print(f"\nno generation: {error}")
    return 0


def raw_files(description: DatasetFile, data: Path, mirror: Path | None) -> list[Path]:
    """Return the files of a data set: those of the manifest are fetched, others must be there.

    Raises
    ------
    DataError
        If one cannot be had.
    """
    from datasets.fetch import fetch_file
    from harness import catalogue

    files = []
    for path in description.files:
        if path in catalogue.manifest_paths():
            files.append(fetch_file(path, data, mirror).path)
        elif Path(path).is_file():
            files.append(Path(path))
        else:
            raise DataError(
                f"{path}: expected a file that is there, or a path of datasets/manifest.yaml"
            )
    return files


def load_dataset(name: str, description: DatasetFile, files: list[Path]) -> "Dataset":
    """Call a data set's loader.

    Raises
    ------
    DataError
        If the files are not what it expects.
    UserError
        If its options, or the description's season, do not fit.
    """
    from harness.checks import check_options, load
    from harness.grid import GIVEN

    where = f"config/datasets/{name}.yaml: options"
    check_options(description.loader, description.options, where, GIVEN)
    made = load(description.loader)(
        files,
        name=name,
        title=description.title,
        split=description.split.model_dump(),
        **description.options,
    )
    _check_season(description, made)
    return made


def _check_season(description: DatasetFile, dataset: "Dataset") -> None:
    """Refuse a season that is as long as the series: no test could use it."""
    season, length = description.season, dataset.x.shape[1]
    if season is not None and season >= length:
        raise UserError(
            f"config/datasets/{dataset.name}.yaml: season: expected less than {length} time steps,"
            f" found {season}"
        )


def open_dataset(name: str, prepared: Path | None, data: Path, mirror: Path | None) -> "Dataset":
    """Return a data set: from `prepared`, else as the paper's grid prepared it, else made now.

    Raises
    ------
    UserError
        If the prepared data are another set's or too short for the description's season, or are not
        there and take long to make.
    DataError
        If a file that it is made from cannot be had.
    """
    from datasets.base import Dataset
    from harness import catalogue

    description = catalogue.dataset(name)
    path = prepared or Path("results/paper/data") / f"{name}.npz"
    if prepared or path.exists():
        found = Dataset.load(path)
        if found.name != name:
            raise UserError(f"{path}: expected the data set {name!r}, found {found.name!r}")
        _check_season(description, found)
        return found
    if description.shards:
        raise UserError(f"{path}: not there; make it with: snakemake --cores all -- {path}")
    return load_dataset(name, description, raw_files(description, data, mirror))
