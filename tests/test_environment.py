"""One set of pins, enough for every import, and a set-up that says which Python it wants."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from harness.catalogue import ROOT
from tests.test_architecture import PACKAGES

# Used without being imported: by Snakemake's report, by pandas for Markdown.
INDIRECT = {"pygments", "tabulate"}


def pins(file: str) -> dict[str, str]:
    """Package -> version in a requirements file."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("-")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "expected name==version"
    return {name.lower(): version for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    """Return a distribution's name as pip compares names."""
    return re.sub("[-_.]+", "-", name)


def imported(*folders: str) -> set[str]:
    """Distributions that provide the modules imported by the Python files of some folders."""
    providers = packages_distributions()
    names: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    names -= {*PACKAGES, "tests", *sys.stdlib_module_names}
    return {min(providers[name], key=len).lower() for name in names}  # mlflow, not mlflow-skinny


def test_conda_and_pip_pins_are_equal() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    assert dict(pin.lower().split("==") for pin in pip) == pins("requirements.txt")


def test_all_imports_are_pinned_and_all_pins_are_used() -> None:
    assert imported(*PACKAGES) | INDIRECT | {"snakemake"} == set(pins("requirements.txt"))
    assert imported("tests") <= set(pins("requirements.txt") | pins("requirements-dev.txt"))


def test_the_lock_file_holds_the_pins() -> None:
    locked = {
        name: version.partition("+")[0]  # the build: 2.13.0+cpu
        for name, _, version in (
            line.lower().partition("==")
            for line in (ROOT / "requirements.lock").read_text().splitlines()
            if not line.startswith("#")
        )
    }
    locked = {canonical(name): version for name, version in locked.items()}
    pinned = pins("requirements.txt") | pins("requirements-dev.txt")
    wanted = {canonical(name): version for name, version in pinned.items()}
    assert {name: locked.get(name) for name in wanted} == wanted, "run make lock"
    assert len(locked) > len(wanted)  # and what these need


def test_the_image_is_made_of_the_pins() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    assert {*re.findall(r"-r /opt/(\S+)", recipe)} == {
        "requirements.txt",
        "requirements-cluster.txt",
    }
    assert "==" not in recipe
    python = re.search(r"^FROM python:([\d.]+)", recipe, re.MULTILINE)
    assert python and f"python ={python[1]}\n" in (ROOT / "environment.yml").read_text()


def test_workflows_of_ci_name_files_that_are_there() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    files = re.findall(r"\S+\.py\b", text)
    assert files and all((ROOT / file).is_file() for file in files)


def test_snakemake_is_new_enough() -> None:
    text = (ROOT / "workflow" / "Snakefile").read_text()
    (floor,) = re.findall(r'min_version\("([\d.]+)"\)', text)
    pinned = pins("requirements.txt")["snakemake"]
    assert [int(n) for n in floor.split(".")] <= [int(n) for n in pinned.split(".")]


@pytest.mark.parametrize(
    ("version", "right"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_make_says_which_python_it_wants(tmp_path: Path, version: tuple, right: bool) -> None:
    for file in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / file, tmp_path)
    python = tmp_path / "python"  # of another version; only `-c` works, so nothing is installed
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c'
        f' "import sys; sys.version_info = {version}\n$2"\n'
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["make", ".venv/ready", f"PYTHON={python}"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    message = f"error: expected Python 3.11 to 3.13, found {version[0]}.{version[1]}"
    assert (message not in done.stderr) == right
    assert not (tmp_path / ".venv").exists()
