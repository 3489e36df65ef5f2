"""Models that are commands: what their YAML files may say, and how a command is filled in."""

import re
import shlex
from collections.abc import Mapping

from pydantic import Field, field_validator, model_validator

from harness.config import Shown
from harness.tasks import Task

PLACEHOLDERS = ("data", "out", "n", "seed", "task")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class CommandFile(Shown):
    """``config/models/<name>.yaml`` of a model in any language: a command that trains and samples.

    The placeholders of `command` are `PLACEHOLDERS` in braces; other braces stand for themselves.
    """

    command: str = Field(description="program and arguments; placeholders {data}, {out}, ...")
    tasks: list[Task] = Field(min_length=1, description="what the command can be asked for")
    files: list[str] = Field([], description="what it consists of; a change runs it again")
    conda: str | None = Field(
        None, pattern=r"\.ya?ml$", description="environment file that the command runs in"
    )
    container: str | None = Field(None, description="image that the command runs in")
    time_limit: float | None = Field(None, gt=0, description="minutes; then status timeout")

    @field_validator("command")
    @classmethod
    def _placeholders_are_known(cls, command: str) -> str:
        found = {name for word in shlex.split(command) for name in _PLACEHOLDER.findall(word)}
        if unknown := sorted(found - {*PLACEHOLDERS}):
            known = ", ".join(PLACEHOLDERS)
            raise ValueError(f"unknown placeholder {unknown[0]!r}, expected one of {known}")
        if "out" not in found:
            raise ValueError("expected the placeholder {out}, the file to write")
        return command

    @model_validator(mode="after")
    def _one_environment(self) -> "CommandFile":
        if self.conda and self.container:
            raise ValueError("expected one of conda and container, found both")
        return self


def fill(command: str, values: Mapping[str, str]) -> list[str]:
    """Split a command into words, and put values in the place of its placeholders."""
    return [_PLACEHOLDER.sub(lambda name: values[name[1]], word) for word in shlex.split(command)]
