"""Commands about data sets: fetch, generate, prepare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import DataError
from harness.cli.common import DATA, DESCRIPTION, MIRROR, OUT, Add, read_description
from harness.config import DatasetFile
from harness.errors import UserError

if TYPE_CHECKING:
    from datasets.base import Dataset

GIVEN = ("name", "title", "split")  # what `load_dataset` passes to every loader


def add_commands(add: Add) -> None:
    """Add the commands of this module to the parser."""
    sub = add(download, "data")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)

    sub = add(fetch)
    sub.add_argument("path", help="a file of datasets/manifest.yaml")
    sub.add_argument("--data", **DATA)
    sub.add_argument("--mirror", **MIRROR)

    sub = add(shard)
    sub.add_argument("dataset")
    sub.add_argument("shard", type=int)
    sub.add_argument("--description", **DESCRIPTION)
    sub.add_argument("--out", **OUT)

    sub = add(prepare)
    sub.add_argument("dataset")
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


def shard(dataset: str, shard: int, description: Path, out: Path) -> int:
    """Generate one part of a generated data set."""
    from harness.config import load
    from harness.options import check_options

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
    from datasets.fetch import fetch_file

    described = read_description(description)
    out.parent.mkdir(parents=True, exist_ok=True)
    if described.optional:
        try:
            files = [fetch_file(path, data, mirror).path for path in described.files]
        except DataError as error:
            print(error, file=sys.stderr)
            write_unavailable(out, split, report, dataset, f"data not available: {error}")
            return 0
    prepared = load_dataset(dataset, described, files)
    prepared.save(out)
    prepared.write_split(split)
    prepared.write_report(report)
    return 0


def load_dataset(name: str, description: DatasetFile, files: list[Path]) -> "Dataset":
    """Call a data set's loader."""
    from harness.config import load
    from harness.options import check_options

    where = f"config/datasets/{name}.yaml: options"
    check_options(description.loader, description.options, where, GIVEN)
    return load(description.loader)(
        files,
        name=name,
        title=description.title,
        split=description.split.model_dump(),
        **description.options,
    )
