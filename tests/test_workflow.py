"""The graph: what is planned, what a change reruns, which mistakes are refused, and a whole run."""

import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness import catalogue
from harness.catalogue import ROOT, merge
from harness.cells import cells, describe_dataset
from harness.config import Settings
from harness.schemas import schemas
from tests.checkout import configuration, copy, planned, run, snakemake, write_yaml

CONFIGS = sorted(p.name for p in (ROOT / "config").glob("*.yaml") if "budget:" in p.read_text())
MICRO = {
    "budget": "smoke",
    "grid": [
        {
            "task": "generation",
            "datasets": ["sines"],
            "models": ["rnn_vae", "diverging"],
            "controls": ["white_noise"],
            "seeds": [0],
        },
        {
            "task": "interpolation",
            "datasets": ["sines_irregular"],
            "models": ["rnn", "latent_ode"],
            "controls": ["linear", "gp"],
            "seeds": [0],
        },
        {
            "task": "extrapolation",
            "datasets": ["unreachable"],
            "models": ["rnn"],
            "controls": ["mean"],
            "seeds": [0],
        },
    ],
    "evaluation": {"fits": 1, "epochs": 1, "draws": 3, "shares": [0.3]},
}
# An optional data set whose file cannot be had.
UNREACHABLE = {
    "title": "Unreachable",
    "files": [
        {"path": "unreachable.csv", "sha256": "0" * 64, "urls": ["http://127.0.0.1:9/file.csv"]}
    ],
    **dict.fromkeys(["licence", "terms", "citation"], "none"),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("checkout") / "benchmark")


# -- plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ["Snakefile", "workflow/Snakefile"])
def test_bare_command_plans_the_default_grid(checkout: Path, entry: str) -> None:
    # A root Snakefile that only includes another one plans nothing and succeeds.
    arguments = [] if entry == "Snakefile" else ["-s", entry]
    jobs = planned(snakemake(checkout, "-n", *arguments))
    grid = cells(Settings(**configuration()))
    assert jobs["train"] == jobs["evaluate"] == sum(not cell.control for cell in grid) > 0
    assert jobs["control"] == sum(cell.control for cell in grid)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_plans(checkout: Path, name: str) -> None:
    jobs = planned(snakemake(checkout, "-n", "--configfile", f"config/{name}"))
    grid = cells(Settings(**configuration(name)))
    assert jobs["train"] == sum(not cell.control for cell in grid)
    assert jobs["prepare"] == len({cell.dataset for cell in grid})
    assert jobs["tables"] == jobs["figures"] == jobs["report"] == jobs["track"] == 1


def test_planning_needs_snakemake_alone(checkout: Path) -> None:
    blocked = ("torch", "scipy", "jaxtyping", "safetensors", "matplotlib", "mlflow")
    program = (
        f"import sys; sys.modules |= dict.fromkeys({blocked}); sys.argv = ['snakemake', '-n'];"
        "from snakemake.cli import main; main()"
    )
    done = run(sys.executable, "-c", program, cwd=checkout)
    assert done.returncode == 0 and planned(done.stdout), done.stdout


def test_configurations_that_change_a_data_set_keep_it_apart() -> None:
    # Else `make demo` would replace the data of a finished grid, which would then train again.
    made: dict[tuple[str, str], tuple[object, str]] = {}
    for name in CONFIGS:
        config = Settings(**configuration(name))
        for dataset in {cell.dataset for cell in cells(config)}:
            described = describe_dataset(config, dataset)
            folder = f"{config.results}/{config.budget}/data"
            other, by = made.setdefault((folder, dataset), (described, name))
            assert described == other, f"{name} and {by} make different {dataset} in {folder}/"


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgte": "full"}, "configuration: budgte: Extra inputs are not permitted, found 'full'"),
        ({"budget": "huge"}, "no budget 'huge', only smoke, "),
        ({"datasets": {"flame": {"n": 3}}}, "configuration: datasets.flame.n: Extra inputs"),
        ({"datasets": {"flme": {}}}, "configuration: datasets: unknown dataset 'flme': expected"),
        (
            {"grid": [MICRO["grid"][0] | {"controls": ["perfect"]}]},  # another data set's
            "grid: expected controls of generation on sines, noise_floor",
        ),
        ({"grid": [MICRO["grid"][0] | {"models": ["ls5"]}]}, "unknown model 'ls5': expected one"),
        ({"runtime": {"models": ["ls5"]}}, "unknown model 'ls5': expected one"),
        (
            {"runtime": {"sizes": {"7T": {"models": ["ls4"], "lengths": [8], "limit": 1}}}},
            "config/models/ls4.yaml: sizes: expected '7T', found ",
        ),
        (
            {"runtime": {"lengths": [0]}},
            "configuration: runtime.lengths.0: Input should be greater",
        ),
        (
            {"grid": [MICRO["grid"][0] | {"task": "extrapolation", "trace": [2]}]},
            "trace: expected the task generation, found extrapolation",
        ),
        ({"grid": [MICRO["grid"][0] | {"datasets": ["sun"]}]}, "unknown dataset 'sun': expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_in_the_configuration(
    checkout: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    file = write_yaml(tmp_path / "mine.yaml", changes)
    done = run("snakemake", "-n", "--configfile", str(file), cwd=checkout)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Job stats" not in done.stdout


def test_a_key_that_comes_twice_in_a_configuration(checkout: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("budget: smoke\nbudget: full\n")
    done = run("snakemake", "-n", "--configfile", str(file), cwd=checkout)
    assert done.returncode != 0 and "Job stats" not in done.stdout
    assert f"{file}: not YAML: expected each key once, found 'budget' again" in done.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": "baselines.ls5:LS5"}, "no module baselines.ls5: expected baselines/ls5.py"),
        (
            {"datasets": {"flme": {"sigma": 1}}},
            "config/models/ls4.yaml: datasets: unknown dataset 'flme': expected one of",
        ),
        (
            {"training": {"full": {"datasets": {"flme": {"steps": 1}}}}},
            "config/models/ls4.yaml: training.full.datasets: unknown dataset 'flme': expected",
        ),
        (
            {"training": {"full": {"datasets": {"flame": {"stps": 1}}}}},
            "config/models/ls4.yaml: training.full.datasets.flame.stps: Extra inputs are not",
        ),
    ],
    ids=["class", "data set", "data set of a budget", "key of a budget's data set"],
)
def test_mistakes_in_a_model_file(tmp_path: Path, changes: dict, message: str) -> None:
    checkout = copy(tmp_path / "benchmark")
    file = checkout / "config" / "models" / "ls4.yaml"
    write_yaml(file, merge(catalogue.read_yaml(file), changes))
    done = run("snakemake", "-n", cwd=checkout)
    assert done.returncode != 0
    assert message in done.stdout


COMMAND = {"label": "Mine", "group": "g", "tasks": ["generation"], "command": "run {out}"}


def with_command(folder: Path, changes: dict) -> Path:
    """Copy the checkout, and add a model that is a command and a grid with its cell."""
    checkout = copy(folder / "benchmark")
    write_yaml(checkout / "config" / "models" / "mine.yaml", COMMAND | changes)
    block = MICRO["grid"][0] | {"models": ["mine"]}
    write_yaml(checkout / "mine.yaml", MICRO | {"grid": [block]})
    return checkout


# Neither conda nor apptainer need be there to see what a rule asks for.
ENVIRONMENT = """
from pathlib import Path
from snakemake.api import OutputSettings, SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

with SnakemakeApi(OutputSettings()) as api:
    config = ConfigSettings(configfiles=[Path("mine.yaml")])
    workflow = api.workflow(ResourceSettings(), config, snakefile=Path("Snakefile"))._workflow
    rule = workflow.get_rule("command_mine")
    print("conda:", rule.conda_env, "container:", rule.container_img)
"""


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "conda: ../../environment.yml container: None"),
        ({"conda": "r.yaml"}, "conda: ../../r.yaml container: None"),
        ({"container": "docker://julia:1.10"}, "conda: None container: docker://julia:1.10"),
    ],
    ids=["the project's", "conda", "container"],
)
def test_a_command_runs_in_its_own_environment(tmp_path: Path, changes: dict, wanted: str) -> None:
    checkout = with_command(tmp_path, changes | {"files": ["mine.R"]})
    for file in ("mine.R", "r.yaml"):
        (checkout / file).write_text("dependencies: [r-base]")
    done = run("python", "-c", ENVIRONMENT, cwd=checkout)
    assert wanted in done.stdout
    jobs = planned(snakemake(checkout, "-n", "--configfile", "mine.yaml"))
    assert jobs["command_mine"] == jobs["given"] == jobs["answer"] == 1 and "train" not in jobs
    assert "Congratulations" in snakemake(checkout, "--lint")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "run {dta} {out}"}, "config/models/mine.yaml: command: unknown"),
        ({"files": ["mine.R"]}, "config/models/mine.yaml: no such file: mine.R"),
        ({"tasks": ["interpolation"]}, "mine.yaml: expected a model of generation, found one of"),
    ],
    ids=["placeholder", "file", "task"],
)
def test_mistakes_in_a_command(tmp_path: Path, changes: dict, message: str) -> None:
    checkout = with_command(tmp_path, changes)
    done = run("snakemake", "-n", "--configfile", "mine.yaml", cwd=checkout)
    assert done.returncode != 0 and message in done.stdout and "Job stats" not in done.stdout


def test_a_mistake_in_options_ends_a_run_before_its_first_job(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    grid = [MICRO["grid"][0] | {"models": ["rnn_vae"]}]
    changes = {"grid": grid, "datasets": {"sines": {"options": {"n": -4}}}}
    file = write_yaml(tmp_path / "mine.yaml", MICRO | changes)
    done = run("snakemake", "--cores", "1", "--configfile", str(file), cwd=checkout)
    assert done.returncode != 0
    message = "error: config/datasets/sines.yaml: options: n: Input should be greater than 0"
    assert message in done.stdout and "Traceback" not in done.stdout
    assert [path.name for path in (checkout / "results/smoke").iterdir()] == ["grid.json"]


def test_the_reason_of_a_failure_is_shown_and_not_in_the_log_alone(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    grid = [MICRO["grid"][0] | {"models": []}]
    changes = {"grid": grid, "datasets": {"sines": {"options": {"n": 1}}}}
    file = write_yaml(tmp_path / "mine.yaml", MICRO | changes)
    done = run("snakemake", "--cores", "1", "--configfile", str(file), cwd=checkout)
    assert done.returncode != 0
    message = "error: split: expected enough series for"
    assert message in done.stdout
    assert message in (checkout / "results/smoke/logs/prepare/sines.log").read_text()


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_mistake_in_a_file_of_the_grid(tmp_path: Path, kind: str) -> None:
    checkout = copy(tmp_path / "benchmark")
    file = checkout / "config" / kind / {"models": "ls4.yaml", "datasets": "flame.yaml"}[kind]
    write_yaml(file, yaml.safe_load(file.read_text()) | {"hue": "red"})
    done = run("snakemake", "-n", cwd=checkout)
    assert done.returncode != 0
    assert f"config/{kind}/{file.name}: hue: Extra inputs are not permitted" in done.stdout


def test_schemas_are_in_sync() -> None:
    for name, schema in schemas().items():
        file = ROOT / "workflow" / "schemas" / f"{name}.schema.json"
        assert json.loads(file.read_text()) == schema, f"{file.name} is old: make schemas"


# -- what a change reruns ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the demo looks finished: empty outputs, recorded as made."""
    checkout = copy(tmp_path_factory.mktemp("finished") / "benchmark")
    write_yaml(checkout / "config" / "config.yaml", configuration("demo.yaml"))
    summary = snakemake(checkout, "--summary", "--quiet", "all")
    for line in summary.partition("output_file")[2].splitlines()[1:]:
        path = checkout / line.split("\t")[0]
        if path.name in {"tables", "figures"}:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    snakemake(checkout, "--touch", "--forceall", "--cores", "1")
    assert not planned(snakemake(checkout, "-n"))
    return checkout


@pytest.fixture
def edit(finished: Path) -> Iterator:
    """Change a file of `finished` for one test, and return the messages of the jobs it reruns."""
    before: dict[Path, str] = {}

    def jobs(file: str, old: str, new: str) -> set[str]:
        path = finished / file
        before[path] = path.read_text()
        assert old in before[path]
        path.write_text(before[path].replace(old, new))
        return set(re.findall(r"^Job \d+: (.+)$", snakemake(finished, "-n"), re.MULTILINE))

    yield jobs
    for path, text in before.items():
        path.write_text(text)


def test_one_table_of_the_paper_can_be_asked_for(checkout: Path) -> None:
    jobs = planned(snakemake(checkout, "table2", "-n", "--configfile", "config/full.yaml"))
    blocks = [b for b in configuration("full.yaml")["grid"] if b["task"] != "generation"]
    cells = [len(b["datasets"]) * len(b["models"]) * len(b["seeds"]) for b in blocks]
    assert jobs["table2"] == 1 and jobs["train"] == sum(cells) and "table1" not in jobs
    assert jobs["prepare"] == 2


def test_figure_3_can_be_asked_for_and_is_no_part_of_the_small_runs(checkout: Path) -> None:
    jobs = planned(snakemake(checkout, "figure3", "-n", "--config", "budget=full"))
    wanted = configuration()["runtime"]
    n = len(wanted["models"]) * len(wanted["lengths"])
    assert jobs["measure"] == n > 0 and jobs.keys() == {"measure", "figure3", "total"}
    assert planned(snakemake(checkout, "-n"))["measure"] == n
    for name in ("demo.yaml", "full.yaml"):
        small = planned(snakemake(checkout, "-n", "--configfile", f"config/{name}"))
        assert small and "measure" not in small


ENDS = {"Make the tables", "Draw the figures", "Write the report", "Import the runs into MLflow"}


def test_change_of_a_model_reruns_its_cells_only(edit) -> None:
    jobs = edit("baselines/rnn_vae.py", "\nclass", "\n#\nclass")
    own = {"Train rnn_vae on flame, seed 0", "Score rnn_vae on flame, seed 0"}
    assert jobs == own | ENDS


def test_change_of_hyperparameters_reruns_their_cells_only(edit) -> None:
    jobs = edit("config/models/latent_ode.yaml", "flame: { steps: 4 }", "flame: { steps: 5 }")
    own = {f"{what} latent_ode on flame, seed 0" for what in ("Describe", "Train", "Score")}
    assert jobs == own | ENDS


def test_change_of_a_score_trains_nothing(edit) -> None:
    jobs = edit("metrics/marginal.py", "\ndef ", "\n#\ndef ")
    assert all(job.startswith(("Score ", "Measure the power ")) for job in jobs - ENDS)
    assert {"Score ls4 on flame, seed 0", "Score gaussian on flame, seed 0"} < jobs


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("harness/present/published.yaml", "table1:", "#\ntable1:"),
        ("harness/present/claims.yaml", "claims:", "#\nclaims:"),
        ("harness/present/templates/legends.j2", "seeds: done", "Seeds: done"),
        ("harness/present/templates/report.css", "}", "} "),
        ("config/models/sashimi.yaml", "label: ", "label: Mr "),
        ("config/budgets.yaml", "smoke: ", "smoke: some "),
        ("config/controls.yaml", "label: ", "label: a "),
    ],
    ids=lambda value: value if "/" in value else "",
)
def test_change_of_what_is_presented_scores_nothing(edit, file: str, old: str, new: str) -> None:
    assert edit(file, old, new) == ENDS


def test_change_of_a_control_scores_what_is_drawn_by_it(edit) -> None:
    jobs = edit("metrics/degradations.py", "\ndef ", "\n#\ndef ")
    assert {"Score gaussian on flame, seed 0"} < jobs
    assert not {job for job in jobs if job.startswith("Train ")}
    assert "Score ls4 on flame, seed 0" not in jobs


def test_change_of_a_control_s_function_scores_it(edit) -> None:
    jobs = edit("config/controls.yaml", "degradations:gaussian", "degradations:white_noise")
    own = {
        f"{w} gaussian on {d}, seed 0" for w in ("Describe", "Score") for d in ("flame", "heston")
    }
    assert jobs == own | ENDS


def test_another_mirror_reruns_nothing_but_a_look_at_the_files(edit) -> None:
    assert edit("config/config.yaml", "budget:", "mirror: elsewhere\nbudget:") == set()


# -- form ----------------------------------------------------------------------------------------


def test_lint(checkout: Path) -> None:
    assert "Congratulations" in snakemake(checkout, "--lint")


@pytest.mark.parametrize(
    "command",
    ["snakefmt --check Snakefile workflow", "ruff check", "ruff format --check"],
)
def test_format(checkout: Path, command: str) -> None:
    done = run(*command.split(), cwd=checkout)
    assert done.returncode == 0, done.stdout


# -- a whole run ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_whole_run_with_a_diverging_cell_and_a_data_set_that_cannot_be_had(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    manifest = catalogue.read_yaml(checkout / "datasets" / "manifest.yaml")
    manifest["sources"]["unreachable"] = UNREACHABLE
    write_yaml(checkout / "datasets" / "manifest.yaml", manifest)
    dataset = catalogue.describe("datasets", "ushcn_sporadic") | {"files": ["unreachable.csv"]}
    write_yaml(checkout / "config" / "datasets" / "unreachable.yaml", dataset)
    model = catalogue.describe("models", "rnn_vae")
    model["config"] = model.get("config", {}) | {"lr": 1e30}
    model["training"] = {"smoke": {"steps": 5, "batch_size": 8}}
    write_yaml(checkout / "config" / "models" / "diverging.yaml", model)
    arguments = ["--configfile", str(write_yaml(tmp_path / "micro.yaml", MICRO)), "--cores", "2"]
    snakemake(checkout, *arguments)

    results = checkout / "results" / "smoke"
    records = [json.loads(path.read_text()) for path in results.rglob("record.json")]
    assert {(r["dataset"], r["model"]): r["status"] for r in records} == {
        ("sines", "rnn_vae"): "done",
        ("sines", "diverging"): "diverged",
        ("sines", "white_noise"): "done",
        ("sines_irregular", "rnn"): "done",
        ("sines_irregular", "latent_ode"): "done",
        ("sines_irregular", "linear"): "done",
        ("sines_irregular", "gp"): "done",
        ("unreachable", "rnn"): "skipped",
        ("unreachable", "mean"): "skipped",
    }
    assert all(r["reason"].startswith("data not available: unreachable.csv: ")
               for r in records if r["status"] == "skipped")  # fmt: skip
    scores = {s["name"] for r in records if r["model"] == "latent_ode" for s in r["scores"]}
    assert {"mse_micro", "crps_macro", "mse_micro_hidden_30", "neg_elbo"} <= scores
    table = "".join(path.read_text() for path in (results / "tables").glob("*.md"))
    assert "diverged" in table and "data not available" in table
    assert len(list((results / "figures").glob("*.png"))) > 0
    assert "<html" in (results / "report.html").read_text()
    with sqlite3.connect(checkout / "results" / "mlflow" / "mlflow.db") as database:
        query = "select count(*) from tags where key = 'status' and value = 'diverged'"
        assert database.execute(query).fetchone()[0] >= 1

    assert "Nothing to be done" in snakemake(checkout, *arguments)
    snakemake(checkout, *arguments, "--report", "report.zip")
    assert (checkout / "report.zip").exists()


OWN_SCORES = '''"""A score of one's own."""


def crossings(real, fake):
    """Share of steps at which generated series change their sign."""
    return {"zero crossings (%)": 100 * float(((fake[:, 1:] > 0) != (fake[:, :-1] > 0)).mean())}
'''


@pytest.mark.slow
def test_whole_run_in_a_folder_and_with_a_score_that_have_any_characters(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "a benchmark")
    (checkout / "metrics" / "mine.py").write_text(OWN_SCORES)
    dataset = catalogue.describe("datasets", "sines") | {"own_scores": "metrics.mine:crossings"}
    write_yaml(checkout / "config" / "datasets" / "my-sines.yaml", dataset)
    folder = "my 'results' für alle"
    grid = [
        MICRO["grid"][0] | {"datasets": ["my-sines"], "models": ["rnn_vae"]},
        MICRO["grid"][1] | {"models": [], "controls": ["linear"]},
    ]
    file = write_yaml(tmp_path / "micro.yaml", MICRO | {"grid": grid, "results": folder})
    arguments = ["--configfile", str(file), "--cores", "2"]
    snakemake(checkout, *arguments)
    assert "Nothing to be done" in snakemake(checkout, *arguments)
    assert not (checkout / "results").exists() and not (checkout / "my").exists()
    results = checkout / folder / "smoke"
    (record,) = results.glob("generation/my-sines/rnn_vae/0/record.json")
    assert "zero crossings (%)" in {s["name"] for s in json.loads(record.read_text())["scores"]}
    assert "zero crossings (%)" in (results / "report.html").read_text()
    assert (results / "logs" / "train" / "generation" / "my-sines" / "rnn_vae" / "0.log").exists()
    with sqlite3.connect(checkout / folder / "mlflow" / "mlflow.db") as database:
        query = "select count(*) from latest_metrics where key = 'zero crossings ___'"
        assert database.execute(query).fetchone()[0] >= 2  # the seed, and the mean over seeds


@pytest.mark.slow
def test_whole_run_of_figure_3(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    wanted = {"models": ["rnn_vae"], "lengths": [8, 16], "limit": 20}
    file = write_yaml(tmp_path / "micro.yaml", {"budget": "smoke", "runtime": wanted})
    snakemake(checkout, "figure3", "--configfile", str(file), "--cores", "2")
    results = checkout / "results" / "smoke"
    records = [json.loads(path.read_text()) for path in results.glob("runtime/rnn_vae/*.json")]
    assert {(r["length"], r["status"]) for r in records} == {(8, "done"), (16, "done")}
    # a measurement has all the cores of the run, so nothing runs beside it
    assert {r["threads"] for r in records} == {2}
    made = (results / "figure3").iterdir()
    kinds = {path.suffix for path in made if not path.name.startswith(".")}  # Snakemake's
    assert kinds == {".csv", ".md", ".tex", ".pdf", ".png", ".json"}
    asked = ["figure3", "-n", "--configfile", str(file)]
    assert "measure" not in planned(snakemake(checkout, *asked))
    # other settings are other run times
    model = checkout / "config" / "models" / "rnn_vae.yaml"
    model.write_text(model.read_text().replace("\nconfig:\n", "\nconfig:\n  latents: 4\n"))
    assert planned(snakemake(checkout, *asked))["measure"] == 2
