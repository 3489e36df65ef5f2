# What the rules share: the checked configuration, and what each job depends on.
# Planning needs nothing but Snakemake: harness.grid imports the standard library and YAML alone.
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# The packages lie beside workflow/, which is not on Python's path where workflow/Snakefile is run.
sys.path.insert(0, str(Path(workflow.current_basedir.path).parents[1]))

from harness import grid
from harness.errors import UserError

# Jobs use the Python that runs Snakemake, activated or not; a conda environment comes before it.
os.environ.update(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def check(kind, where, content):
    """Refuse content that does not follow its schema, in one line that says where."""
    try:
        # Only the configuration takes the schema's defaults: specs say what their files say.
        validate(content, f"../schemas/{kind}.schema.json", set_default=kind == "config")
    except WorkflowError as error:
        mistake = error.__context__  # as jsonschema found it; `error` adds pages of schema
        raise WorkflowError(f"{where}: {mistake.json_path}: {mistake.message}") from None


def code(*references):
    """Return the source files behind modules, or ``module:name`` references, and what they import.

    As inputs, they make a change of a file rerun what depends on it and nothing else.
    """
    modules = [reference.partition(":")[0] for reference in references if reference]
    try:
        return sorted({file for module in modules for file in grid.source_files(module)})
    except UserError as error:
        raise WorkflowError(str(error)) from None


def read_grid():
    """Return the cells of the grid after a check of every file that they are made from."""
    check("config", "configuration", config)
    try:
        cells = grid.cells(config)
        grid.check_dataset_names(config, "configuration")
        for name in {*grid.available("datasets"), *(cell.dataset for cell in cells)}:
            spec = grid.dataset_spec(config, name)
            check("dataset", f"config/datasets/{name}.yaml", spec)
            code(spec["loader"], spec.get("shard"), spec.get("own_scores"))
        models = {cell.model for cell in cells if not cell.control}
        models |= {*(config["runtime"] or {"models": []})["models"]}
        files = {name: grid.describe("models", name) for name in sorted(models)}
        # What a variant takes over is checked where it stands.
        bases = {file["base"] for file in files.values() if "base" in file}
        files = {name: grid.describe("models", name) for name in sorted(bases)} | files
        for name, file in files.items():
            where = f"config/models/{name}.yaml"
            check("model", where, file)
            grid.check_dataset_names(file, where)
        for cell in cells:
            if not cell.control:
                code(grid.training_spec(config, cell)["class"])
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return cells


CELLS = read_grid()
TABLES = {  # the paper's, by the tasks of their cells
    "table1": ["generation"],
    "table2": ["reconstruction", "interpolation", "extrapolation"],
}
MODELS = "|".join(grid.available("models"))
CELL = "<results>/{task}/{dataset}/{model}/{seed}"


def fetch_options():
    mirror = ["--mirror", config["mirror"]] if config["mirror"] else []
    return ["--data", config["data"], *mirror]


def dataset_spec(wildcards):
    return grid.dataset_spec(config, wildcards.dataset)


def dataset_parts(wildcards):
    """Return the files that a data set is made from: downloaded, or generated in shards."""
    spec = dataset_spec(wildcards)
    # An optional data set fetches its files itself: a file that cannot be had must not stop the rest.
    paths = [] if spec.get("optional") else spec.get("files", [])
    # `ancient`: what the manifest's hash has verified stays the same when it is looked at again.
    files = [ancient(f"<data>/{path}") for path in paths]
    return files + [
        f"<results>/data/shards/{{dataset}}/{shard}.npz" for shard in spec.get("shards", [])
    ]


def cell_spec(wildcards):
    cell = grid.Cell(**{**wildcards, "seed": int(wildcards.seed)}, control=False)
    return grid.training_spec(config, cell)


def control_spec(wildcards):
    identity = {**wildcards, "seed": int(wildcards.seed), "budget": config["budget"]}
    return identity | grid.protocol(config, wildcards.task)


def scoring(wildcards):
    """Return the modules that score a cell, for `code`."""
    return "harness.evaluation", "harness.summary", dataset_spec(wildcards).get("own_scores")


def as_json(function):
    """Make a function of wildcards return JSON: how a spec reaches a command."""
    return lambda wildcards: json.dumps(function(wildcards))


def of_cells(name, controls=True, tasks=None):
    """Return a file of each cell's directory."""
    return [
        f"<results>/{cell.path}/{name}"
        for cell in CELLS
        if (controls or not cell.control) and (tasks is None or cell.task in tasks)
    ]


def run_times():
    """Return the records of figure 3; none where the configuration leaves it out."""
    wanted = config["runtime"] or {"models": [], "lengths": []}
    return [
        f"<results>/runtime/{model}/{length}.json"
        for model in wanted["models"]
        for length in wanted["lengths"]
    ]


def run_times_of_all():
    """Return those that the default target makes: hours of measuring are no part of a small run."""
    return run_times() if config["budget"] == "paper" else []


def all_cores(wildcards):
    """Return the cores of this run, so that nothing runs beside a job that takes them.

    As a function: an executor without a number of cores sets the threads of the rule instead.
    """
    return workflow.cores


def targets():
    return ["<results>/report.html", f"<root>/mlflow/{config['budget']}.done"]


def prepared():
    return [f"<results>/data/{name}.npz" for name in dict.fromkeys(c.dataset for c in CELLS)]
