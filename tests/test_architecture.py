"""Who may know whom: imports point down, and only where docs/architecture.md says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.catalogue import ROOT
from harness.sources import _file as module_file

PACKAGES = ("baselines", "datasets", "harness", "ls4", "metrics")
GROUND = tuple(
    f"harness.{path.stem}"
    for path in (ROOT / "harness").glob("*.py")
    if path.stem not in ("__init__", "__main__", "cli")
)
ALLOWED = {  # the longest prefix of a module that is listed -> what it may import
    "ls4": ("ls4", "harness.contract"),
    "baselines": (
        "baselines",
        "ls4.blocks",
        "ls4.gaussian",
        "ls4.kernel",
        "ls4.layer",
        "ls4.scan",
        "harness.contract",
    ),
    "metrics": ("metrics",),
    "datasets": ("datasets",),
    "harness": (*GROUND, "datasets"),
    "harness.run": ("harness.run", *GROUND, "datasets", "metrics"),
    "harness.measure": ("harness.measure", "harness.run", *GROUND, "datasets"),
    "harness.present": (
        "harness.present",
        *GROUND,
        "datasets",
        "metrics.paired",
        "metrics.diversity",
    ),
    "harness.cli": PACKAGES,
    "harness.__main__": ("harness.cli",),
    "harness.contract": ("harness.tasks",),
    "harness.tasks": (),
    "harness.errors": (),
}
LONG = {"datasets/physionet.py", "datasets/ushcn.py"}  # two formats each, read top to bottom
MLFLOW = ("harness.present.tracking", "harness.present.store")
LIMIT = 400  # lines of a file
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, those of the project to the file that holds them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports from the root"
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if module_file(name) else str(node.module)


def allowed(name: str) -> tuple[str, ...]:
    prefixes = [p for p in ALLOWED if name == p or name.startswith(p + ".")]
    return ALLOWED[max(prefixes, key=len)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = module(path)
    for name in imported(path):
        top = name.partition(".")[0]
        if top in PACKAGES:
            known = allowed(own)
            assert any(name == a or name.startswith(a + ".") for a in known), f"{own}: {name}"
        assert top != "mlflow" or own in MLFLOW, "only tracking and its store know MLflow"
        assert top != "snakemake", "only workflow/ knows Snakemake"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LIMIT or str(path.relative_to(ROOT)) in LONG


MIRRORED = ("ls4", "baselines", "metrics", "datasets", "harness/run", "harness/measure")


@pytest.mark.parametrize("folder", MIRRORED)
def test_tests_mirror_the_folders(folder: str) -> None:
    """A test file is named after the source file that it is about."""
    sources = {path.stem for path in (ROOT / folder).glob("*.py")}
    tests = {
        p.stem.removeprefix("test_") for p in (ROOT / "tests" / Path(folder).name).glob("test_*.py")
    }
    assert tests <= sources
