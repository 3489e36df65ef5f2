"""Copies of the checkout, and runs of this environment's tools in them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from harness.catalogue import ROOT, read_yaml

BIN = Path(sys.executable).parent


def copy(target: Path) -> Path:
    """Copy the checkout without results and data, for a test that runs or changes something."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        generated = {"data", "results"} if Path(folder) == ROOT else {"__pycache__"}
        return {name for name in names if name in generated or name.startswith(".")}

    return Path(shutil.copytree(ROOT, target, ignore=left_out))


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment, which need not be activated."""
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=cwd,
        env=os.environ | {"PATH": os.defpath},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def snakemake(cwd: Path, *arguments: str) -> str:
    """Run Snakemake, which must succeed, and return all that it prints."""
    done = run("snakemake", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


def planned(output: str) -> dict[str, int]:
    """Number of jobs of each rule, from the table at the top of a plan."""
    table = output.partition("Job stats:\n")[2].partition("\n\n")[0]
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def configuration(name: str = "config.yaml", **changes: object) -> dict:
    """A configuration as Snakemake merges it into the default one, and some changes on top."""

    def update(old: dict, new: dict) -> dict:
        for key, value in new.items():
            both = isinstance(value, dict) and isinstance(old.get(key), dict)
            old[key] = update(old[key], value) if both else value
        return old

    default, own = (read_yaml(ROOT / "config" / file) for file in ("config.yaml", name))
    return update(update(default, own), changes)


def write_yaml(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path
