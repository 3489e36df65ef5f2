"""Text, JSON and YAML.

Read strictly: UTF-8, each key once, finite numbers, or one clear line. Written whole or not at all.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import yaml

from datasets.files import replacing
from harness.errors import UserError


def read_text(path: Path) -> str:
    """Read a UTF-8 text.

    Raises
    ------
    UserError
        If the file is missing, a folder, or no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}: expected UTF-8 text, found byte {byte:#04x} at position {error.start}"
        ) from None


def parse_json(text: str, where: object) -> Any:
    """Parse JSON; keys that come twice, NaN and infinities are refused.

    Raises
    ------
    UserError
        If the text is no such JSON; `where` begins the message.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_number, parse_float=_number
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON: {error}") from None


def parse_yaml(text: str, where: object) -> Any:
    """Parse YAML; keys that come twice, NaN and infinities are refused.

    Raises
    ------
    UserError
        If the text is no such YAML; `where` begins the message.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        # beside YAMLError: dates, numbers and tags whose text is none
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def digest(content: Any) -> str:
    """Return the SHA-256 of a JSON-able object in canonical form."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; NaN and infinities become null."""
    write_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    """Return JSON-able content with null for NaN and infinities."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected each key once, found {again!r} again")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected finite numbers, found {text[:20]}")
    return number


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # a merge (<<) may be overridden; what is written beside it may not come twice
        written = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in written]
        for k, key in enumerate(keys):
            if key in keys[:k]:
                line = written[k].start_mark.line + 1
                raise ValueError(f"expected each key once, found {key!r} again, line {line}")
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = super().construct_yaml_float(node)
        if not math.isfinite(number):
            raise ValueError(f"expected finite numbers, found {node.value}")
        return number


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
