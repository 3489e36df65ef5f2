"""Profiles for clusters: their keys are known, they plan, and a SLURM may lose its node."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from harness.catalogue import ROOT
from tests.checkout import BIN, copy, planned, run, write_yaml

PROFILES = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (ROOT / "profiles").glob("*/profile.yaml")
}
SLURM = ("slurm", "slurm-no-accounting", "slurm-cpu")
RULES = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
DAEMONS = ("munged", "slurmctld", "slurmd")
GRID = {
    "budget": "smoke",
    "grid": [
        {
            "task": "generation",
            "datasets": ["sines"],
            "models": ["rnn_vae", "pca_kde"],
            "controls": ["white_noise"],
            "seeds": [0],
        }
    ],
    "evaluation": {"fits": 1, "epochs": 1, "splits": 2},
}


def needs(*plugins: str) -> pytest.MarkDecorator:
    """Skip a test where a plugin of Snakemake is not installed (requirements-cluster.txt)."""
    missing = [name for name in plugins if not importlib.util.find_spec(name)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def profile_options(*names: str) -> list[str]:
    return [word for name in names for word in ("--profile", f"profiles/{name}")]


def of_rules(entries: list[str]) -> dict[str, dict[str, str]]:
    """``rule:resource=value`` entries, by resource and rule."""
    resources: dict[str, dict[str, str]] = {}
    for entry in entries:
        rule, resource, value = re.fullmatch(r"(\w+):(\w+)=(.*)", entry).groups()  # type: ignore[union-attr]
        resources.setdefault(resource, {})[rule] = value
    return resources


# -- what the profiles say -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_rules_that_a_profile_names_exist(name: str) -> None:
    entries = [*PROFILES[name].get("set-resources", []), *PROFILES[name].get("set-threads", [])]
    named = {re.split("[:=]", entry)[0] for entry in entries}
    assert named <= set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", RULES, re.MULTILINE))


def test_without_gpus_no_rule_asks_for_one() -> None:
    bodies = re.findall(r"^rule (\w+):\n((?: .*\n|\n)*)", RULES, re.MULTILINE)
    asking = {rule for rule, body in bodies if "gpu=1" in body}
    heirs = re.findall(r"^use rule (\w+) as (\w+)", RULES, re.MULTILINE)
    asking |= {heir for rule, heir in heirs if rule in asking}
    assert of_rules(PROFILES["slurm-cpu"]["set-resources"])["gpu"] == dict.fromkeys(asking, "0")


def test_a_list_that_replaces_another_keeps_the_rest() -> None:
    own = of_rules(PROFILES["slurm-cpu"]["set-resources"])
    del own["gpu"]
    assert own == of_rules(PROFILES["slurm"]["set-resources"])


@pytest.mark.parametrize("name", SLURM[1:])
def test_a_variant_says_only_what_differs(name: str) -> None:
    base = PROFILES["slurm"]
    assert [key for key, value in PROFILES[name].items() if base.get(key) == value] == []


# Snakemake refuses keys that neither it nor the profile's plugin knows.
@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SLURM[:1], marks=needs("snakemake_executor_plugin_slurm")),
        pytest.param(SLURM, marks=needs("snakemake_executor_plugin_slurm")),
        pytest.param(
            ("kubernetes",),
            marks=needs("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"),
        ),
    ],
    ids="+".join,
)
def test_profiles_plan(tmp_path: Path, names: tuple[str, ...]) -> None:
    checkout = copy(tmp_path / "benchmark")
    # the volume of the jobs is the checkout
    volume = ["--default-storage-prefix", str(checkout)] if "kubernetes" in names else []
    demo = ["-n", *profile_options(*names), *volume, "--configfile", "config/demo.yaml"]
    done = run(sys.executable, "-m", "snakemake", *demo, cwd=checkout)
    assert planned(done.stdout)["train"] == 4, done.stdout


@pytest.mark.slow
def test_a_part_of_a_large_grid_plans(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    file, grid, commands = re.search(
        r"^### `(\S+)`\n\n```yaml\n((?:.*\n)*?)```\n\n```bash\n((?:.*\n)*?)```", page, re.MULTILINE
    ).groups()  # type: ignore[union-attr]
    (checkout / file).write_text(grid)
    last = commands.replace("seq 0 99", "echo 99").replace("--quiet", "")
    done = run("/bin/bash", "-e", "-c", f"PATH={BIN}:$PATH\n{last}", cwd=checkout)
    jobs = planned(done.stdout)
    assert jobs["train"] == jobs["evaluate"] == 1000, done.stdout
    assert "tables" not in jobs and "seed 99999" in done.stdout


# -- a whole run on a SLURM of one node ----------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Commands of tests/slurm.sh to a SLURM that runs as long as the test."""
    folder = tmp_path / "slurm"

    def do(command: str) -> None:
        subprocess.run([ROOT / "tests" / "slurm.sh", command, folder], check=True, timeout=120)

    do("start")
    yield do
    do("stop")


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0
    or not all(shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin") for name in DAEMONS),
    reason="needs root, and: apt-get install slurm-wlm munge",
)
@needs("snakemake_executor_plugin_slurm")
def test_slurm_that_loses_its_node(slurm: Callable[[str], None], tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    grid = write_yaml(tmp_path / "grid.yaml", GRID)
    command = [sys.executable, "-m", "snakemake", "tables", "--configfile", str(grid)]
    with (tmp_path / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *profile_options(*SLURM)], cwd=checkout, stdout=log, stderr=log
        )
        try:
            training = checkout / "results" / "smoke" / "logs" / "train"
            while not list(training.rglob("*.log")) and process.poll() is None:
                time.sleep(0.2)
            slurm("crash")
            slurm("node")
            status = process.wait(timeout=1800)
        finally:
            process.kill()
    assert status == 0, (tmp_path / "snakemake.log").read_text()
    records = list((checkout / "results" / "smoke" / "generation").rglob("record.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["done"] * 3
    queued = (tmp_path / "slurm" / "slurmctld.log").read_text()
    assert "requeue job" in queued
