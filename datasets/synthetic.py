"""Sinusoids, for contract tests and smoke runs: no download and no solver."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from datasets import base


def load(
    files: Sequence[Path] = (),
    *,
    name: str,
    title: str,
    n: PositiveInt,
    length: PositiveInt,
    channels: PositiveInt,
    seed: NonNegativeInt,
    observed: Annotated[float, Field(gt=0, le=1)] = 1.0,
    split: Mapping[str, Any],
) -> base.Dataset:
    """Draw `n` series sin(2 pi (f t + phase)) with f ~ U(1, 4) cycles and phase ~ U(0, 1).

    Frequency and phase are drawn anew for each series and channel; `files` is empty. With a share
    `observed` below 1 the times are irregular, too: sorted uniform draws, at each of which every
    channel is observed with that probability; times without any are left out.
    """
    rng = np.random.default_rng(seed)
    t = base.regular_times(n, length)
    if observed < 1:
        t = np.sort(rng.uniform(size=(n, length)).astype(np.float32), axis=1)
    frequency = rng.uniform(1, 4, size=(n, 1, channels))
    phase = rng.uniform(0, 1, size=(n, 1, channels))
    x = np.sin(2 * np.pi * (frequency * t[:, :, None] + phase)).astype(np.float32)
    mask = rng.uniform(size=x.shape) < observed
    if observed < 1:
        t, x, mask = base.compact(t, x, mask)
    return base.build(
        name=name,
        title=title,
        x=x,
        t=t,
        mask=mask,
        split_options=split,
        normalisation="none",
        unit="amplitude",
        files=files,
        options={
            "n": n,
            "length": length,
            "channels": channels,
            "seed": seed,
            "observed": observed,
        },
    )
