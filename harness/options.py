"""Options of a function, as YAML files give them, checked against its signature."""

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

from pydantic import ConfigDict, create_model

from harness.config import check, load


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
        One line: where, which option, what is wrong with it.
    """
    function: Callable[..., Any] = load(reference)
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in given
    }
    strict = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    check(create_model("Options", __config__=strict, **fields), options, where)
