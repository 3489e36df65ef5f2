# What the rules share: the checked configuration, and what each job depends on.
# Planning needs nothing but Snakemake: harness.cells and what it imports need YAML and pydantic, which
# come with it.
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The packages lie beside workflow/, which is not on Python's path where workflow/Snakefile is run.
sys.path.insert(0, str(Path(workflow.current_basedir.path).parents[1]))

from harness import catalogue, cells, grid, sources, sweeps
from harness.checks import check
from harness.config import Settings
from harness.errors import UserError
from harness.texts import parse_json, parse_yaml, read_text, write_text
from harness.tasks import TABLES

# Jobs use the Python that runs Snakemake, activated or not; a conda environment comes before it.
os.environ.update(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

# All that a command prints goes into its log. Why it failed is shown in the terminal, too
# (harness/cli/failures.py): a log on a full disk stays empty.
shell.prefix("set -euo pipefail; exec 3>&2; export LS4_TERMINAL=3; ")


def checked(function, *arguments):
    """Call a function; a user's mistake becomes one line without a traceback."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def code(*references):
    """Return the source files behind modules, or ``module:name`` references, and what they import.

    As inputs, they make a change of a file rerun what depends on it and nothing else.
    """
    modules = {reference.partition(":")[0] for reference in references if reference}
    return sorted({file for module in modules for file in checked(sources.source_files, module)})


def read_grid():
    """Return the configuration, its cells, and what is to be checked of them before they run.

    Every file that they are made from is read.
    """
    for file in map(Path, workflow.configfiles):  # Snakemake has read them, and less strictly
        parse = parse_json if file.suffix == ".json" else parse_yaml
        parse(read_text(file), file)
    settings = check(Settings, config, "configuration")
    for name in settings.datasets:
        catalogue.check_name("datasets", name, "configuration: datasets: ")
    found = cells.cells(settings)
    used = {c.dataset: cells.describe_dataset(settings, c.dataset) for c in found}
    for name in {*catalogue.available("datasets"), *used}:
        description = cells.describe_dataset(settings, name)
        code(description.loader, description.shard, *description.scoring_references)
    if settings.runtime:
        for size, study in {None: settings.runtime, **settings.runtime.sizes}.items():
            for name in study.models:
                catalogue.settings(name, size)
    for name, description in used.items():
        cells.check_own_files(name, description)
    asked = grid.describe(used, (cells.describe_cell(settings, cell) for cell in found))
    for spec in asked.models:
        code(spec.class_)
    cells.traces(settings)
    return settings, found, asked


SETTINGS, CELLS, GRID = checked(read_grid)
COMMANDS = checked(catalogue.commands)
# Models that are trained here, with the variants of sweeps.
TRAINED = {*checked(catalogue.trained), *(c.model for c in CELLS if not c.control)} - {*COMMANDS}
MODELS = "|".join(map(re.escape, sorted(TRAINED)))
CELL = "<results>/{task}/{dataset}/{model}/{seed}"


def fetch_options():
    mirror = ["--mirror", SETTINGS.mirror] if SETTINGS.mirror else []
    return ["--data", SETTINGS.data, *mirror]


def dataset(wildcards):
    return cells.describe_dataset(SETTINGS, wildcards.dataset)


def dataset_parts(wildcards):
    """Return the files that a data set is made from: downloaded, or generated in shards."""
    description = dataset(wildcards)
    # An optional data set fetches its files itself: a file that cannot be had must not stop the rest.
    paths = [] if description.optional else description.files
    # `ancient`: what the manifest's hash has verified stays the same when it is looked at again.
    # Files of one's own lie where the description says, and a change of them counts.
    fetched = catalogue.manifest_paths()
    files = [ancient(f"<data>/{path}") if path in fetched else path for path in paths]
    return files + [
        f"<results>/data/shards/{{dataset}}/{shard}.npz" for shard in description.shards
    ]


def cell(wildcards):
    control = wildcards.model not in {*TRAINED, *COMMANDS}
    identity = {**wildcards, "seed": int(wildcards.seed)}
    return checked(cells.describe_cell, SETTINGS, cells.Cell(**identity, control=control))


def model_code(wildcards):
    return catalogue.model(sweeps.parts(wildcards.model)[0]).class_


def scoring_code(wildcards):
    """Return the modules that score a cell, for `code`."""
    return "harness.run.evaluate", *dataset(wildcards).scoring_references


def commanded(model):
    """Return the description of a model that is a command."""
    return checked(catalogue.command, model)


def conda_of(command):
    """Return the environment file of a command: its own, or the project's; none with a container."""
    file = commanded(command)
    return None if file.container else f"../../{file.conda or 'environment.yml'}"


def as_content(function):
    """Make a function of wildcards return what a JSON file of the workflow holds."""
    return lambda wildcards: function(wildcards).model_dump(mode="json", by_alias=True)


def check_first():
    """Check what the grid names and its options: in another process, since that imports all of it."""
    if importlib.util.find_spec("torch") is None:
        return  # jobs have another environment; each checks what it is given
    file = Path(SETTINGS.results, SETTINGS.budget, "grid.json")
    try:
        write_text(file, GRID.model_dump_json(by_alias=True))
    except OSError as error:
        raise WorkflowError(f"{file}: {error.strerror}") from None
    words = [sys.executable, "-m", "harness", "check", file]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise WorkflowError(done.stderr.strip())


def of_cells(name, untrained=True, tasks=None):
    """Return a file of each cell's directory."""
    return [
        f"<results>/{cell.path}/{name}"
        for cell in CELLS
        if (untrained or not (cell.control or cell.model in COMMANDS))
        and (tasks is None or cell.task in tasks)
    ]


def powers():
    """Return the powers of the tests on the data sets of generation."""
    names = dict.fromkeys(cell.dataset for cell in CELLS if cell.task == "generation")
    return [f"<results>/power/{name}.json" for name in names]


def traced_steps(wildcards):
    """Return the optimiser steps at which a cell's scores are followed."""
    wanted = {cell.path: steps for cell, steps in cells.traces(SETTINGS).items()}
    return wanted["{task}/{dataset}/{model}/{seed}".format(**wildcards)]


def traces():
    """Return the traces that the configuration asks for."""
    return [f"<results>/{cell.path}/trace.json" for cell in cells.traces(SETTINGS)]


def run_time_studies():
    """Return the studies of run time by the folder of their records."""
    wanted = SETTINGS.runtime
    if wanted is None:
        return {}
    return {"runtime": wanted} | {f"runtime_{size}": of for size, of in wanted.sizes.items()}


def run_times():
    """Return the records of figure 3; none where the configuration leaves it out."""
    return [
        f"<results>/{folder}/{model}/{length}.json"
        for folder, study in run_time_studies().items()
        for model in study.models
        for length in study.lengths
    ]


def measured_size(wildcards):
    """Return the size of the models of a study of run time; None for that of their papers."""
    return wildcards.study.removeprefix("runtime").removeprefix("_") or None


def measured_settings(wildcards):
    """Return the settings that a model is measured with: a change of its file measures it anew."""
    return checked(catalogue.settings, wildcards.model, measured_size(wildcards))


def run_time_options(wildcards):
    limit, size = run_time_studies()[wildcards.study].limit, measured_size(wildcards)
    return f"--limit {limit}" + (f" --size {size}" if size else "")


def run_times_of_all():
    """Return those that the default target makes: hours of measuring are no part of a small run."""
    return run_times() if SETTINGS.budget == "paper" else []


def all_cores(wildcards):
    """Return the cores of this run, so that nothing runs beside a job that takes them.

    As a function: an executor without a number of cores sets the threads of the rule instead.
    """
    return workflow.cores


def targets():
    return ["<results>/report.html", f"<root>/mlflow/{SETTINGS.budget}.done"]


def prepared():
    return [f"<results>/data/{name}.npz" for name in dict.fromkeys(c.dataset for c in CELLS)]
