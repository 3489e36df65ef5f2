"""What the documentation promises: links lead somewhere, the example of a model is one."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.catalogue import ROOT, available
from harness.checks import check
from harness.commands import CommandFile
from harness.present import pages
from tests.checkout import BIN, copy, run

PAGES = sorted(path for folder in (".", "docs", "config") for path in (ROOT / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_pages_show_the_reference_records(tmp_path: Path) -> None:
    committed = [ROOT / "README.md", ROOT / "docs" / "results.md"]
    copies = [tmp_path / page.relative_to(ROOT) for page in committed]
    for page, copied in zip(committed, copies, strict=True):
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(page, copied)
    (tmp_path / "results").symlink_to(ROOT / "results")
    pages.update([tmp_path / "results" / "reference"], *copies)
    for page, copied in zip(committed, copies, strict=True):
        assert copied.read_text() == page.read_text(), f"{page.name}: run make tables"


@pytest.mark.slow
def test_example_of_a_model_passes_the_contract_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = copy(tmp_path / "benchmark")
    page = (ROOT / "docs" / "add_a_model.md").read_text(encoding="utf-8")
    # a heading that ends with a path, and the code block below it
    files = dict(re.findall(r"^## .*`(\S+)`\n\n```\w+\n((?:.*\n)*?)```", page, re.MULTILINE))
    assert files.keys() == {"baselines/mine.py", "config/models/mine.yaml"}
    for file, content in files.items():
        (checkout / file).write_text(content)
    monkeypatch.setenv("MODEL", "mine")
    done = run("python", "-m", "pytest", "-q", "tests/test_contract.py", cwd=checkout)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_your_own_data_lead_to_a_table(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    page = (ROOT / "docs" / "your_data.md").read_text(encoding="utf-8")
    # the files below headings that end with a path, and the commands, in the order of the page
    blocks = re.findall(r"(?:^#+ .*`(\S+)`\n\n)?```(\w+)\n((?:.*\n)*?)```", page, re.MULTILINE)
    outputs = []
    for file, kind, content in blocks:
        if kind == "yaml":
            (checkout / file).write_text(content)
        else:
            command = f"PATH={BIN}:$PATH\n{content}"
            done = run("/bin/bash", "-e", "-c", command, cwd=checkout)
            assert done.returncode == 0, done.stdout
            outputs.append(done.stdout)
    _, tides, table, _, load = outputs
    assert "30 series of at most 20 steps, 2 channels" in tides
    assert "reconstruction, interpolation, extrapolation (" in tides
    assert "Tides" in table
    assert re.search(r"^\| RNN +\| .*\d.*\|$", table, re.MULTILINE)
    assert "drawn from 20 groups of series" in load and "tasks             generation" in load


@pytest.mark.parametrize("name", ["", "ls"])  # the beginning of a name is no name
def test_check_model_wants_a_model(name: str) -> None:
    done = subprocess.run(
        ["make", "--old-file=.venv/ready", "check-model", f"MODEL={name}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"error: unknown model '{name}': expected MODEL=name")
    assert line.endswith(" ".join(available("models")))


def test_example_of_an_environment_is_a_command() -> None:
    page = (ROOT / "docs" / "your_own.md").read_text(encoding="utf-8")
    (file,) = [b for b in re.findall(r"^```yaml\n((?:.*\n)*?)```", page, re.M) if "conda:" in b]
    assert check(CommandFile, yaml.safe_load(file), "page").conda == "mine_environment.yaml"


@pytest.mark.slow
def test_example_of_a_command_and_of_added_rows(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    page = (ROOT / "docs" / "your_own.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"^### `(\S+)`\n\n```\w+\n((?:.*\n)*?)```", page, re.MULTILINE))
    assert files.keys() == {"mine.py", "config/models/mine.yaml", "mine.yaml"}
    for file, content in files.items():
        (checkout / file).write_text(content)
    blocks = re.findall(r"^```bash\n((?:.*\n)*?)```", page, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-e", "-c", "".join(blocks)],
        cwd=checkout,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.defpath}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout

    cell = checkout / "results" / "smoke" / "generation" / "sines" / "mine" / "0"
    record = json.loads((cell / "record.json").read_text())
    assert record["status"] == "done" and record["settings"]["files"] == ["mine.py"]
    assert "mine" in (checkout / "results" / "smoke" / "tables" / "table1_smoke.csv").read_text()
    for name, table in {"elsewhere": "table1_full", "zero": "table2_full"}.items():
        assert name in (checkout / "results" / "own" / "tables" / f"{table}.csv").read_text()
    with sqlite3.connect(checkout / "results" / "mlflow" / "mlflow.db") as database:
        tracked = database.execute("select value from params where key = 'command'").fetchall()
    assert tracked == [("python mine.py {data} {seed} {n} {out}",)]
    assert (checkout / "scores.csv").read_text().startswith("row,name,value,spread,n\ns0.npz")
