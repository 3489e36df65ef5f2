"""What the documentation promises: links lead somewhere, the example of a model is one."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness import comparison, records, runtime, scaling, tables
from harness.grid import ROOT, available
from tests.test_workflow import copy, run

PAGES = sorted(path for folder in (".", "docs", "config") for path in (ROOT / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert [file for file in files if not (page.parent / file).exists()] == []


@pytest.mark.parametrize("table", comparison.TABLES)
def test_readme_shows_the_reference_records(table: str) -> None:
    section = tables.readme_section(records.find(ROOT / "results" / "reference"), table)
    assert section and section in (ROOT / "README.md").read_text(encoding="utf-8"), (
        "run make tables"
    )


def test_readme_shows_the_reference_run_times() -> None:
    found = runtime.find(ROOT / "results" / "reference")
    section = scaling.readme_section(scaling.documents(found)) or "No reference records yet: "
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- figure3:begin -->\n{section}" in text, "run make tables"


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
