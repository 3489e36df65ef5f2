"""JSON schemas of the YAML files, for editors: workflow/schemas/."""

from typing import Any

from harness.commands import CommandFile
from harness.config import DatasetFile, ModelFile, Settings

KINDS = {"config": Settings, "model": ModelFile, "command": CommandFile, "dataset": DatasetFile}
DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by the names of their files."""
    return {name: DIALECT | kind.model_json_schema(by_alias=True) for name, kind in KINDS.items()}
