"""Who may know whom: imports point down, and only where the architecture says."""

import ast

import pytest

from harness.grid import PACKAGES, ROOT

ALLOWED = {  # package -> project modules it may import
    "ls4": ("ls4", "harness.contract"),
    "baselines": ("baselines", "ls4.ssm", "ls4.blocks", "harness.contract"),
    "metrics": ("metrics", "ls4.ssm"),
    "datasets": ("datasets",),
    "harness": PACKAGES,
}
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).glob("*.py"))


def imported(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_imports(path) -> None:
    package = path.parent.name
    for name in imported(path):
        top = name.split(".")[0]
        if top in PACKAGES:
            assert any(name == a or name.startswith(a + ".") for a in ALLOWED[package]), (
                f"{package}/{path.name} imports {name}"
            )
        assert top != "mlflow" or path.name == "tracking.py", (
            "mlflow belongs to harness/tracking.py"
        )
        assert top != "snakemake", "only workflow/ knows Snakemake"


def test_contract_is_a_leaf() -> None:
    project = {n for n in imported(ROOT / "harness" / "contract.py") if n.split(".")[0] in PACKAGES}
    assert {name for name in project if not name.startswith("harness.tasks")} == set()
    assert not any(n.split(".")[0] in PACKAGES for n in imported(ROOT / "harness" / "tasks.py"))


def test_models_are_readable_files() -> None:
    for path in [*(ROOT / "baselines").glob("*.py"), ROOT / "ls4" / "model.py"]:
        assert len(path.read_text().splitlines()) <= 400, f"{path.name} is too long for one model"
