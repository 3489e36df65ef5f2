"""The command line: ``python -m harness <command>``; every rule of the workflow is one of these.

Imports are inside the commands: torch, matplotlib and mlflow take seconds to load, and most
commands need one of them at most.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from datasets.errors import DataError
from harness.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 a mistake told in one line, 2 wrong usage."""
    options = vars(parser().parse_args(arguments))
    command = options.pop("command")
    try:
        sys.exit(command(**options))
    except (UserError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """Build the parser; each command's function and options stand together."""
    top = argparse.ArgumentParser(prog="python -m harness", description="The LS4 benchmark.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(function: Any, name: str | None = None) -> argparse.ArgumentParser:
        text = str(function.__doc__)
        sub = commands.add_parser(
            name or function.__name__, help=text.splitlines()[0], description=text
        )
        sub.set_defaults(command=function)
        return sub

    data = {"type": Path, "default": Path("data"), "help": "folder of downloads (default: data)"}
    mirror = {
        "type": Path,
        "default": os.environ.get("LS4_MIRROR") or None,
        "help": "folder that holds the sources already (default: $LS4_MIRROR)",
    }

    sub = add(score)
    sub.add_argument("--dataset", required=True, help="a name in config/datasets/")
    sub.add_argument("--samples", type=Path, required=True, help=".npz, .npy or .csv; (n, L, D)")
    sub.add_argument("--data", **data)
    sub.add_argument("--mirror", **mirror)
    sub.add_argument("--prepared", type=Path, help="prepared data, such as a reduced FLAME's")
    sub.add_argument("--fits", type=int, default=5, help="evaluator fits (default: 5)")
    sub.add_argument("--epochs", type=int, default=100, help="epochs of a fit (default: 100)")

    sub = add(download, "data")
    sub.add_argument("--data", **data)
    sub.add_argument("--mirror", **mirror)

    sub = add(fetch)
    sub.add_argument("path", help="a file of datasets/manifest.yaml")
    sub.add_argument("--data", **data)
    sub.add_argument("--mirror", **mirror)

    sub = add(shard)
    sub.add_argument("dataset")
    sub.add_argument("shard", type=int)
    sub.add_argument("--spec", type=json.loads, required=True, help="the data set's file, as JSON")
    sub.add_argument("--out", type=Path, required=True)

    sub = add(prepare)
    sub.add_argument("dataset")
    sub.add_argument("files", type=Path, nargs="*", help="raw files or shards")
    sub.add_argument("--spec", type=json.loads, required=True, help="the data set's file, as JSON")
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--split", type=Path, required=True, help="where to write the split")
    sub.add_argument("--report", type=Path, required=True, help="where to write what was found")
    sub.add_argument("--data", **data)
    sub.add_argument("--mirror", **mirror)

    sub = add(train)
    sub.add_argument("--spec", type=json.loads, required=True, help="the cell, as JSON")
    sub.add_argument("--data", type=Path, required=True, help="prepared data set")
    sub.add_argument("--out", type=Path, required=True, help="the cell's directory")

    sub = add(evaluate)
    sub.add_argument("--spec", type=json.loads, required=True, help="the cell, as JSON")
    sub.add_argument("--dataset-spec", type=json.loads, required=True)
    sub.add_argument("--evaluation", type=json.loads, required=True)
    sub.add_argument("--data", type=Path, required=True, help="prepared data set")
    sub.add_argument("--out", type=Path, required=True, help="the cell's directory")

    sub = add(tables)
    sub.add_argument("--records", type=Path, required=True, help="folder with record.json files")
    sub.add_argument("--tasks", nargs="+", help="only these tasks (default: all)")
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--readme", type=Path, help="also rewrite the tables in this file")

    sub = add(figures)
    sub.add_argument("--records", type=Path, required=True, help="folder with record.json files")
    sub.add_argument("--data", type=Path, required=True, help="folder with prepared data sets")
    sub.add_argument("--out", type=Path, required=True)

    sub = add(report)
    sub.add_argument("--records", type=Path, required=True, help="folder with record.json files")
    sub.add_argument("--tables", type=Path, required=True)
    sub.add_argument("--figures", type=Path, required=True)
    sub.add_argument("--out", type=Path, required=True)

    sub = add(track)
    sub.add_argument("--records", type=Path, required=True, help="folder with record.json files")
    sub.add_argument("--uri", default="sqlite:///results/mlflow/mlflow.db", help="MLflow server")
    sub.add_argument("--artifacts", type=Path, default=Path("results/mlflow/artifacts"))
    sub.add_argument("--tables", type=Path)
    sub.add_argument("--figures", type=Path)

    sub = add(bench)
    sub.add_argument(
        "of",
        nargs="?",
        choices=["models", "engine"],
        default="models",
        help="all models at two sizes (default), or LS4 at several beside its floor",
    )
    sub.add_argument("--models", nargs="+", help="names in config/models/ (default: all)")
    sub.add_argument("--out", type=Path, required=True, help="file of the record, .json")
    sub.add_argument("--docs", type=Path, help="also rewrite the table in this file")

    sub = add(runtime)
    sub.add_argument("--model", required=True, help="a name in config/models/")
    sub.add_argument("--length", type=int, required=True, help="time steps of a series")
    sub.add_argument("--out", type=Path, required=True, help="file of the record, .json")
    sub.add_argument("--limit", type=float, help="seconds of a measurement (default: 600)")

    sub = add(figure3)
    sub.add_argument("--records", type=Path, required=True, help="folder with runtime/*/*.json")
    sub.add_argument("--out", type=Path, required=True)

    sub = add(schemas)
    sub.add_argument("--out", type=Path, default=ROOT / "workflow" / "schemas")
    return top


def score(
    dataset: str,
    samples: Path,
    data: Path,
    mirror: Path | None,
    prepared: Path | None,
    fits: int,
    epochs: int,
) -> int:
    """Score samples of your own beside the controls of a data set.

    Samples are in the data set's normalised units (docs/data.md), n series of its length.
    """
    from harness.config import DatasetFile, Evaluation, check
    from harness.grid import describe

    file = describe("datasets", dataset)  # before torch is loaded: most mistakes are here
    description = check(DatasetFile, file, f"config/datasets/{dataset}.yaml")
    if not samples.is_file():
        raise UserError(f"{samples}: no such file")

    from rich.console import Console

    from harness.evaluation import Footing
    from harness.scoring import compare, read_samples

    evaluation = check(Evaluation, {"fits": fits, "epochs": epochs}, "score")
    path = prepared or Path("results/paper/data") / f"{dataset}.npz"
    footing = Footing(_prepared(path, dataset, description, data, mirror), description, evaluation)
    fake = read_samples(samples, footing.test.shape)
    compare(footing, fake, samples.name, Console())
    return 0


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


def shard(dataset: str, shard: int, spec: dict[str, Any], out: Path) -> int:
    """Generate one part of a generated data set."""
    from harness.config import DatasetFile, check, load

    description = check(DatasetFile, spec, f"data set {dataset}")
    if description.shard is None:
        raise UserError(f"config/datasets/{dataset}.yaml: has no shards to generate")
    out.parent.mkdir(parents=True, exist_ok=True)
    load(description.shard)(out, shard, **description.shard_options)
    return 0


def prepare(
    dataset: str,
    files: list[Path],
    spec: dict[str, Any],
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
    from harness.config import DatasetFile, check

    description = check(DatasetFile, spec, f"data set {dataset}")
    out.parent.mkdir(parents=True, exist_ok=True)
    if description.optional:
        try:
            files = [fetch_file(path, data, mirror).path for path in description.files]
        except DataError as error:
            print(error, file=sys.stderr)
            write_unavailable(out, split, report, dataset, f"data not available: {error}")
            return 0
    prepared = _load(dataset, description, files)
    prepared.save(out)
    prepared.write_split(split)
    prepared.write_report(report)
    return 0


def train(spec: dict[str, Any], data: Path, out: Path) -> int:
    """Train a cell, or go on with it."""
    from datasets.base import Dataset, Unavailable
    from harness.devices import device
    from harness.trainer import skip, train

    with device() as where:
        try:
            dataset = Dataset.load(data)
        except Unavailable as missing:
            outcome = skip(spec, str(missing), out, where)
        else:
            outcome = train(spec, dataset, out, where)
    print(
        f"{outcome.status}: {outcome.steps} steps in {outcome.seconds:.1f} s"
        + _because(outcome.reason)
    )
    return 0


def evaluate(
    spec: dict[str, Any],
    dataset_spec: dict[str, Any],
    evaluation: dict[str, Any],
    data: Path,
    out: Path,
) -> int:
    """Score a trained cell or a control and write its record."""
    from datasets.base import Dataset, Unavailable
    from harness import records, summary
    from harness.config import DatasetFile, Evaluation, check
    from harness.devices import device
    from harness.evaluation import Evaluated, Footing, evaluate, skipped
    from harness.trainer import Outcome

    description = check(DatasetFile, dataset_spec, f"data set {spec['dataset']}")
    settings = check(Evaluation, evaluation, "evaluation")
    outcome = None
    if "class" in spec:
        outcome = Outcome(**json.loads((out / "train.json").read_text()))
    with device() as where:
        try:
            footing = Footing(Dataset.load(data), description, settings)
        except Unavailable as missing:
            done = Evaluated(skipped(spec, description, settings, str(missing), where), {})
        else:
            done = evaluate(spec, footing, outcome, out / "weights.safetensors", where)
    summary.write(out / "summary.npz", done.summary)
    samples = {} if done.samples is None else {"samples": done.samples}
    summary.write(out / "samples.npz", samples)
    records.write(done.record, out / "record.json")
    print(done.record.status + _because(done.record.reason))
    return 0


def tables(records: Path, tasks: list[str] | None, out: Path, readme: Path | None) -> int:
    """Rebuild all tables from records alone."""
    from harness import runtime, scaling, tables
    from harness.records import find

    found = _some([r for r in find(records) if not tasks or r.task in tasks], records)
    timed = [] if tasks else scaling.documents(runtime.find(records))
    for path in [*tables.write(found, out), *tables.write_documents(timed, out)]:
        print(path)
    if readme is not None:
        tables.update_readme(readme, found)
        if timed:
            tables.update_sections(readme, {"figure3": scaling.readme_section(timed)})
    return 0


def figures(records: Path, data: Path, out: Path) -> int:
    """Rebuild all figures from the cells' directories."""
    from harness import figures, runtime, scaling_figure

    paths = figures.write(records, data, out) + scaling_figure.write(runtime.find(records), out)
    for path in dict.fromkeys(paths):
        print(path)
    return 0


def report(records: Path, tables: Path, figures: Path, out: Path) -> int:
    """Write the report, one HTML file."""
    from harness import report, runtime
    from harness.records import find

    report.write(_some(find(records), records), tables, figures, out, runtime.find(records))
    print(out)
    return 0


def track(
    records: Path, uri: str, artifacts: Path, tables: Path | None, figures: Path | None
) -> int:
    """Import the records into MLflow; what is there already stays."""
    from harness.tracking import track

    track(records, uri, artifacts, [folder for folder in (tables, figures) if folder])
    return 0


def bench(of: str, models: list[str] | None, out: Path, docs: Path | None) -> int:
    """Measure what models cost: training steps a second, memory, sampling."""
    from harness import bench, engine

    if of == "models":
        print(bench.table(bench.models(out, docs, models)))
    elif models:
        raise UserError("bench engine measures LS4: expected no --models")
    else:
        print(engine.table(engine.run(out, docs)))
    return 0


def runtime(model: str, length: int, out: Path, limit: float | None) -> int:
    """Measure training, reconstruction and generation of a model at a length."""
    from harness import records, runtime
    from harness.scaling import outcome

    if length < 1 or (limit is not None and limit <= 0):
        raise UserError("expected a length of at least 1 and a limit above 0 seconds")
    record = runtime.measure(model, length, runtime.LIMIT if limit is None else limit)
    records.write(record, out)
    for measurement in record.measurements:
        print(f"{measurement.name}: {outcome(measurement)}" + _because(measurement.reason))
    return 0


def figure3(records: Path, out: Path) -> int:
    """Make figure 3, run time against length, and its tables from records alone."""
    from harness import runtime, scaling, scaling_figure, tables

    found = runtime.find(records)
    if not found:
        raise UserError(f"{records}: no runtime/<model>/<length>.json below this folder")
    for path in [
        *tables.write_documents(scaling.documents(found), out),
        *scaling_figure.write(found, out),
    ]:
        print(path)
    return 0


def schemas(out: Path) -> int:
    """Write the JSON schemas of the configuration files."""
    from harness import config
    from harness.records import write_json

    for name, schema in config.schemas().items():
        write_json(out / f"{name}.schema.json", schema)
    return 0


def _prepared(path: Path, dataset: str, description: Any, data: Path, mirror: Path | None) -> Any:
    """The data set of the paper's grid; made here, from sources that are fetched if need be."""
    from datasets.base import Dataset
    from datasets.fetch import fetch_file

    if path.exists():
        return Dataset.load(path)
    if description.shards:
        raise UserError(f"{path}: not there; make it with: snakemake --cores all -- {path}")
    for file in description.files:
        fetch_file(file, data, mirror)
    return _load(dataset, description, [data / file for file in description.files])


def _load(dataset: str, description: Any, files: list[Path]) -> Any:
    from harness.config import load

    return load(description.loader)(
        files,
        name=dataset,
        title=description.title,
        split=description.split.model_dump(),
        **description.options,
    )


def _some(records: list[Any], folder: Path) -> list[Any]:
    if not records:
        raise UserError(f"{folder}: no record.json below this folder")
    return records


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
