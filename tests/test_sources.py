"""The source files behind a job, and digests."""

from pathlib import Path

import pytest

from harness import sources
from harness.errors import UserError
from harness.sources import source_files
from harness.texts import digest


def test_source_files_follow_imports() -> None:
    files = source_files("ls4.released")
    assert {"ls4/latent.py", "ls4/blocks.py", "ls4/kernel.py", "harness/contract.py"} <= set(files)
    assert "baselines/rnn_vae.py" not in source_files("baselines.latent_ode")
    evaluation = source_files("harness.run.evaluate")
    assert {"metrics/marginal.py", "harness/run/generation.py"} <= set(evaluation)
    assert "harness/run/train.py" not in evaluation, "a change of the trainer must score nothing"
    assert not any(f.startswith(("ls4/", "baselines/")) for f in evaluation)


def test_packages_and_relative_imports_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    source_files.cache_clear()
    texts = {
        "a/__init__.py": "from .b import x",
        "a/b.py": "x = 1",
        "a/c/__init__.py": "",
        "a/c/d.py": "from . import e\nfrom ..f import y\nimport a.g.h",
        "a/c/e.py": "",
        "a/f.py": "",
        "a/g/__init__.py": "",
        "a/g/h.py": "",
        "a/unused.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = source_files("a.c.d")
    source_files.cache_clear()
    assert set(found) == texts.keys() - {"a/unused.py"}


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"no module baselines\.ls5: expected baselines/ls5\.py"):
        source_files("baselines.ls5")


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
