"""What the documentation promises: links lead somewhere, the example of a model is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.catalogue import ROOT, available
from harness.present import pages
from tests.checkout import copy, run

PAGES = sorted(path for folder in (".", "docs", "config") for path in (ROOT / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert [file for file in files if not (page.parent / file).exists()] == []


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
