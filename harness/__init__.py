"""The benchmark; from Python, ``from harness import load_cell`` (docs/python.md)."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import `load_cell` when it is asked for: it needs torch, which planning does without."""
    if name == "load_cell":
        return importlib.import_module("harness.run.trained").load_cell
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
