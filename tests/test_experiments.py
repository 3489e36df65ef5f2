"""The commands of docs/experiments.md, in their order, in a copy of the checkout."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.catalogue import ROOT
from tests.checkout import BIN, copy


@pytest.mark.slow
def test_the_commands_of_the_page_work(tmp_path: Path) -> None:
    checkout = copy(tmp_path / "benchmark")
    reference = checkout / "results" / "reference"
    reference.parent.mkdir()
    reference.symlink_to(ROOT / "results" / "reference")
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    outputs = []
    for kind, block in re.findall(r"^```(yaml|bash)\n((?:.*\n)*?)```", page, re.MULTILINE):
        if kind == "yaml":
            (checkout / block.split()[1]).write_text(block)  # its first line: # name
            continue
        done = subprocess.run(
            ["bash", "-ec", block],
            cwd=checkout,
            env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        outputs.append(done.stdout)
    assert "RNN-VAE" in outputs[1] and "has no row of this data set" in outputs[1]
    assert outputs[2].count(", chosen |") == 1 and "Chosen on the validation loss: " in outputs[2]
    assert "scores within their tolerance" in outputs[3]
