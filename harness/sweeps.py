"""Sweeps: variants of a model that differ in fields of its config, listed in a grid.

``models: [{ls4: {lr: [0.001, 0.0003], width: [32, 64]}}]`` makes four models, every combination,
named after what they change: ``ls4-lr-0.001-width-32``. No model's file has a ``-`` in its name, so
a name alone tells the model and its settings.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated

from pydantic import Discriminator, Field, Tag


def _kind(value: object) -> str:
    return {str: "word", dict: "sweep"}.get(type(value), "number")


# The kind of a value is decided before it is checked, so that a mistake is told of that kind alone.
Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
Word = Annotated[str, Field(pattern=r"^([A-Za-z_]\w*|-?[\d.]+(e-?\d+)?)$")]
Value = Annotated[
    Annotated[bool | int | float, Tag("number")] | Annotated[Word, Tag("word")],
    Discriminator(_kind),
]
Fields = Annotated[
    dict[Name, Annotated[list[Value], Field(min_length=1)]],
    Field(min_length=1, description="field of the model's config -> values"),
]
Sweep = Annotated[dict[str, Fields], Field(min_length=1, max_length=1)]
Entry = Annotated[
    Annotated[str, Tag("word")] | Annotated[Sweep, Tag("sweep")], Discriminator(_kind)
]
SETTING = re.compile(r"-([A-Za-z_]\w*)-(-?[\d.]+e-\d+|-?[\w.+]+)")


def variants(entry: Entry) -> Iterator[tuple[str, str, dict[str, Value]]]:
    """Yield name, model and changes of each variant; of a plain name itself, unchanged."""
    if isinstance(entry, str):
        yield entry, entry, {}
        return
    ((model, fields),) = entry.items()
    for values in product(*fields.values()):
        changes = dict(zip(fields, values, strict=True))
        yield model + "".join(f"-{key}-{value}" for key, value in changes.items()), model, changes


def names(entries: Sequence[Entry]) -> list[str]:
    """Return the names of all models that a list of a grid asks for."""
    return [name for entry in entries for name, _, _ in variants(entry)]


def parts(name: str) -> tuple[str, dict[str, str]]:
    """Return the model of a variant and its settings as text; of another name itself and none.

    >>> parts("ls4-lr-1e-05-width-32"), parts("ls4_paper")
    (('ls4', {'lr': '1e-05', 'width': '32'}), ('ls4_paper', {}))
    """
    model, dash, rest = name.partition("-")
    return model, dict(SETTING.findall(dash + rest))
