"""Checkpoints: all that a training needs to go on as if it had never stopped.

A checkpoint is written whole or not at all. It begins with the sha256 of what follows. Its key is a
digest of code, settings and data. A damaged checkpoint is not used, nor one with another key.
"""

import hashlib
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from datasets.files import replacing


def read(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds; None if it is damaged."""
    content = path.read_bytes()
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        return None
    return torch.load(io.BytesIO(content[size:]), map_location="cpu", weights_only=True)


class Checkpoint:
    """The checkpoint file of one training.

    Parameters
    ----------
    path : Path
        Alone in its folder, which `remove` deletes.
    key : str
        What a checkpoint must agree with to be continued.
    """

    def __init__(self, path: Path, key: str):
        self.path = path
        self.key = key

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, whole or not at all."""
        with replacing(self.path) as part:
            buffer = io.BytesIO()
            torch.save({"key": self.key, **state}, buffer)
            content = buffer.getbuffer()
            with part.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last; None where there is none that fits."""
        if not self.path.exists():
            return None
        state = read(self.path)
        if state is None:
            print(f"{self.path}: damaged; not used, starting afresh", file=sys.stderr)
            return None
        if state.pop("key") != self.key:
            print(
                f"{self.path}: made with another configuration, code or data; not used,"
                " starting afresh",
                file=sys.stderr,
            )
            return None
        print(f"{self.path}: going on from step {state['step']}", file=sys.stderr)
        return state

    def remove(self) -> None:
        """Delete the checkpoint's folder."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
