"""Content that a user or an earlier run wrote, checked against a type: a mistake is one line."""

import dataclasses
import importlib
import inspect
import json
import math
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from harness.errors import UserError
from harness.texts import digest, finite, parse_json, read_text, write_json

DIGEST = "sha256"  # key of a JSON file's own digest
K = TypeVar("K")
T = TypeVar("T", bound=BaseModel)


class Frozen(BaseModel):
    """Unknown keys are refused, and nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check(kind: type[T], content: Any, where: str) -> T:
    """Validate a mapping. Types are those of JSON: the text "5" is no number.

    Raises
    ------
    UserError
        One line: where, which key, what is wrong with it.
    """
    try:
        return kind.model_validate_json(_as_json(content, where), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from None


def check_json(kind: type[K], path: Path, name: str) -> K:
    """Read and validate a JSON file; `name` says in messages what it should be.

    Where the file holds its own digest, ``sha256`` (`write_checked`), it is verified.

    Raises
    ------
    UserError
        If the file is no such thing.
    """
    content = parse_json(read_text(path), path)
    expected = content.pop(DIGEST, None) if isinstance(content, dict) else None
    try:
        found = TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: not {name}: {_first(error)}") from None
    except ValueError as error:  # half of a character, which json writes and pydantic refuses
        raise UserError(f"{path}: not {name}: {error}") from None
    if expected is not None and expected != digest(content):
        raise UserError(f"{path}: damaged: expected content of sha256 {expected}, found another")
    return found


def write_checked(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with the digest of its content, which `check_json` verifies."""
    content = finite(content)
    write_json(path, content | {DIGEST: digest(content)})


def model_config(model_class: type, fields: dict[str, Any], where: str) -> Any:
    """Build a model's frozen config dataclass from its differences; unknown fields are refused.

    So are numbers that are not above 0 where the default is: sizes, counts, rates and deviations.
    0 is taken where the default is 0 and where the dataclass says so (`harness.contract.or_zero`).

    Raises
    ------
    UserError
        One line: where, which field, what is wrong with it.
    """
    config_class = model_class.Config  # type: ignore[attr-defined]
    known = [f.name for f in dataclasses.fields(config_class)]
    for name in fields:
        if name not in known:
            raise UserError(f"{where}: unknown field {name!r}, expected one of {', '.join(known)}")
    try:
        json.dumps(fields, allow_nan=False)
        config = TypeAdapter(config_class).validate_json(_as_json(fields, where), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error)}") from None
    except ValueError:
        raise UserError(f"{where}: expected finite numbers, found {fields}") from None
    for f in dataclasses.fields(config_class):
        value = getattr(config, f.name)
        lowest, default = _lowest(value), _lowest(f.default)
        zero = default == 0 or "zero" in f.metadata
        if 0 <= default < math.inf and (lowest < 0 or (lowest == 0 and not zero)):
            expected = "0 or more" if zero else "more than 0"
            raise UserError(f"{where}: {f.name}: expected {expected}, found {value}")
    return config


def check_options(
    reference: str, options: dict[str, Any], where: str, given: Collection[str] = ()
) -> None:
    """Check options against the keyword arguments of the function that takes them.

    Parameters
    ----------
    reference : str
        The function, ``module:name``. Its annotations say what it takes.
    options : mapping
        As the file has them.
    where : str
        File and key, for messages.
    given : names
        Arguments that the caller passes by itself.

    Raises
    ------
    UserError
        One line: where, which option, what is wrong with it; or that the reference names no such
        function.
    """
    function: Callable[..., Any] = load(reference)
    if not inspect.isfunction(function):
        raise UserError(f"{reference}: expected a function, found {function!r:.80}")
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    if absent := [name for name in given if name not in parameters]:
        raise UserError(f"{reference}: expected a function that takes {absent[0]!r}, found none")
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in given
    }
    strict = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    check(create_model("Options", __config__=strict, **fields), options, where)


def load(reference: str) -> Any:
    """Import ``module:name``.

    Raises
    ------
    UserError
        If there is no such module or name, or the module cannot be imported.
    """
    module, _, name = reference.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{reference}: no module named {error.name!r}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever the module does when it is imported
        text = str(error).partition("\n")[0]
        raise UserError(
            f"{reference}: cannot be imported: {type(error).__name__}: {text}"
        ) from error
    if not hasattr(found, name):
        raise UserError(f"{reference}: module {module} has no {name!r}")
    return getattr(found, name)


def _as_json(content: Any, where: str) -> str:
    def refuse(value: Any) -> None:  # YAML knows dates, JSON does not
        raise UserError(
            f"{where}: expected text in quotes, found {value}, which YAML reads as a"
            f" {type(value).__name__}"
        )

    try:
        return json.dumps(content, default=refuse)
    except TypeError as error:  # a key
        raise UserError(f"{where}: {error}") from None


def _lowest(value: Any) -> int | float:
    """Return the lowest number in a field; infinity where there is none."""
    if isinstance(value, list | tuple):
        return min(map(_lowest, value), default=math.inf)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else math.inf


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"]) or "(top)"
    if detail["type"] == "value_error":  # one of our own, which says what was found
        message = str(detail.get("ctx", {}).get("error"))
        return f"{key}: {message}" if detail["loc"] else message
    found = "" if detail["type"] == "missing" else f", found {detail['input']!r:.80}"
    hint = ""
    if detail["type"] in ("int_type", "float_type") and isinstance(detail["input"], str):
        hint = ", which is text: numbers are written without quotes, like 10 or 1.0e-3"
    return f"{key}: {detail['msg']}{found}{hint}"
