"""What a job's result depends on: digests of its settings, and the source files behind it.

Source files are found by reading import statements, without importing anything. The workflow
declares them as inputs of its jobs, so that a change reruns what depends on it and nothing else;
records carry a hash over them.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from harness.catalogue import ROOT
from harness.errors import UserError
from harness.texts import digest, read_text

PRESENTED = (  # what tables, figures and report read beside records: texts, styles, names of rows
    *(f"harness/present/**/*.{kind}" for kind in ("yaml", "j2", "css", "js", "mplstyle")),
    *(f"config/{name}.yaml" for name in ("models/*", "datasets/*", "budgets", "controls")),
)


@functools.cache
def source_files(module: str) -> tuple[str, ...]:
    """Return the files of a module and of all project modules that it imports, relative to ROOT.

    The ``__init__.py`` of every package on the way is among them, since Python runs it too.

    Raises
    ------
    UserError
        If there is no such module, or a file is not Python.
    """
    if _file(module) is None:
        expected = module.replace(".", "/") + ".py"
        raise UserError(f"no module {module}: expected {expected}")
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        pending.extend(_parents(name))
        pending.extend(_imports(name, path))
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found.values()))


def presented_files() -> list[str]:
    """Return the files beside the code that results are presented with, relative to ROOT."""
    return sorted(str(path.relative_to(ROOT)) for name in PRESENTED for path in ROOT.glob(name))


def code_hash(*modules: str) -> str:
    """Return the SHA-256 over the source files of some modules and of what they import."""
    files = sorted({file for module in modules for file in source_files(module)})
    return digest({f: hashlib.sha256((ROOT / f).read_bytes()).hexdigest() for f in files})


def _file(module: str) -> Path | None:
    """Return the file of a project's module or package; None where there is none."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _parents(module: str) -> Iterator[str]:
    """Yield the packages around a module."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _imports(module: str, path: Path) -> Iterator[str]:
    """Yield what a file imports: modules, and names that may be modules."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(read_text(path), filename=str(path))
    except (SyntaxError, ValueError) as error:
        # A zero byte is a ValueError. So is a parser out of memory, which misses parts of its tree.
        if isinstance(error, ValueError) and "null byte" not in str(error):
            raise MemoryError(f"cannot parse {path.relative_to(ROOT)}") from error
        raise UserError(f"{path.relative_to(ROOT)}: not Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative to this file's package, one level up for each further dot
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
