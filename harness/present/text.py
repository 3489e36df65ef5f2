"""Numbers, endings and sentences as text."""

import functools
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, trailing zeros kept.

    >>> number(0.0354), number(0.5, 2), number(1234.5), number(0.0000167), number(0.0)
    ('0.0354', '0.50', '1234', '1.67e-05', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 10**digits - 0.5:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".removesuffix(".")


def duration(seconds: float) -> str:
    """Return seconds in a unit that keeps the number short."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds, 2)} s"


def mebibytes(size: int | float) -> str:
    """Return a number of bytes in MiB."""
    return f"{size / 2**20:,.0f} MiB"


def machine_name(device: str, threads: int) -> str:
    """Return what something ran on, "CPU AMD EPYC, 2 threads"."""
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


def ending(status: str, reason: str | None) -> str:
    """Return in a few words how a cell ended that is not done, "diverged at step 12"."""
    reason = reason or ""
    step = re.search(r"\bstep (\d+)", reason)
    if step:
        return f"{status} at step {step[1]}"
    short = textwrap.shorten(reason.partition(":")[0], 30, placeholder="…")
    return f"{status}: {short}" if short else status


def shared_ending(endings: Sequence[str]) -> str:
    """Return the ending that all share, or else only the statuses."""
    different = list(dict.fromkeys(endings))
    if len(different) == 1:
        return different[0]
    return ", ".join(dict.fromkeys(re.split("[ :]", e)[0] for e in different))


def measured_on(circumstances: dict[str, Any]) -> str:
    """Say in a sentence on what something was measured, from its circumstances."""
    machine = machine_name(circumstances["device"], circumstances["threads"])
    return (
        f"Measured on {machine}, torch {circumstances['versions']['torch']},"
        f" {circumstances['date'][:10]}, commit {circumstances['commit'][:7]}."
    )


@functools.cache
def environment(html: bool = False) -> Environment:
    """Return the environment of the templates in ``templates/``."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def paragraphs(template: str, macro: str, **values: Any) -> tuple[str, ...]:
    """Return the paragraphs of a macro of a template, each on one line.

    In the template they are wrapped and separated by empty lines.
    """
    text = getattr(environment().get_template(template).module, macro)(**values)
    return tuple(" ".join(p.split()) for p in re.split(r"\n\s*\n", text) if p.strip())
