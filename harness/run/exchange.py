"""What passes between the benchmark and models that it does not run itself: arrays out, arrays in.

A command (`harness.run.command`) and a user who brings samples or predictions get ``given.npz``:

======== ============ ==================================================================
array    shape        meaning
======== ============ ==================================================================
x        (N, L, D)    normalised values; 0 where neither `mask` nor, in the training and
                      validation parts, `target` is 1
t        (N, L)       times in [0, 1], non-decreasing; padding repeats the last one
mask     (N, L, D)    1 where the model may see the value
target   (N, L, D)    1 where the value is to be predicted; not in generation
split    (N,)         0 training, 1 validation, 2 test
======== ============ ==================================================================

Generation leaves the test part out; the other tasks give of a test record what `mask` shows. Back
come samples, (n, L, D) for n test series, or predictions for the n test records in their order:
``mean``, (n, L, D) or, for S draws of it, (S, n, L, D), and ``std``, which broadcasts to it.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from datasets.files import load_arrays
from harness.contract import Prediction
from harness.errors import UserError
from harness.run.generation import Samples
from harness.run.own_samples import read_samples
from harness.run.view import View, check_complete

TRAIN, VALIDATION, TEST = range(3)  # in `split`
Answer = Samples | Prediction


def given(view: View) -> dict[str, np.ndarray]:
    """Return the arrays of this file's table.

    Raises
    ------
    UserError
        If complete series are wanted of a data set that has gaps.
    """
    dataset = view.dataset
    split = np.full(len(dataset.x), TRAIN, dtype=np.int8)
    split[dataset.validation], split[dataset.test] = VALIDATION, TEST
    if view.task == "generation":
        check_complete(dataset)
        rest = np.flatnonzero(split != TEST)
        shown = {"x": dataset.x[rest], "t": dataset.t[rest], "mask": dataset.mask[rest]}
        return shown | {"split": split[rest]}
    batch = view.batch(np.arange(len(dataset.x)))
    padding = ((0, 0), (0, dataset.x.shape[1] - batch.x.shape[1]), (0, 0))
    mask, target = (np.pad(a.numpy().astype(bool), padding) for a in (batch.mask, batch.target))
    known = mask | (target & (split != TEST)[:, None, None])
    x = np.where(known, dataset.x, np.float32(0))
    return {"x": x, "t": dataset.t, "mask": mask, "target": target, "split": split}


def read_answer(path: Path, view: View) -> Answer:
    """Read the samples or predictions that a task asks for.

    Raises
    ------
    UserError, DataError
        If the file cannot be read, or its arrays have other shapes or are not finite.
    """
    if view.task != "generation":
        return read_predictions(path, view)
    check_complete(view.dataset)
    n, L, D = view.dataset.x[view.dataset.test].shape
    samples = read_samples(path, (n, L, D))
    if len(samples) != n:
        raise UserError(f"{path}: expected {n} samples, one a test series, found {len(samples)}")
    return samples


def read_predictions(path: Path, view: View) -> Prediction:
    """Read predictions from an .npz; see the top of this file.

    Raises
    ------
    UserError, DataError
        If the file cannot be read, or its arrays have other shapes or values than they should.
    """
    arrays = load_arrays(path, {"mean", "std"})
    mean, std = (_real(path, name, arrays[name]) for name in ("mean", "std"))
    dataset = view.dataset
    shape = dataset.x[dataset.test].shape
    if mean.shape[-3:] != shape or mean.ndim not in (3, 4) or not mean.size:
        expected = ", ".join(map(str, shape))
        raise UserError(
            f"{path}: mean: expected shape ({expected}) or (S, {expected}), found {mean.shape}"
        )
    mean = mean if mean.ndim == 4 else mean[None]
    try:
        std = np.broadcast_to(std, mean.shape)
    except ValueError:
        raise UserError(
            f"{path}: std: expected the shape of mean or one that broadcasts to it, found"
            f" {std.shape}"
        ) from None
    target = view.batch(dataset.test).target.numpy().astype(bool)
    for i, wanted in enumerate(target):
        rows = len(wanted)  # beyond them is padding
        means, deviations = mean[:, i, :rows][:, wanted], std[:, i, :rows][:, wanted]
        if not (np.isfinite(means).all() and np.isfinite(deviations).all()):
            raise UserError(f"{path}: expected finite values, found NaN or infinity in record {i}")
        if not (deviations >= 0).all():
            raise UserError(f"{path}: std: expected at least 0, found less in record {i}")
    return Prediction(torch.from_numpy(mean), torch.from_numpy(np.array(std)))


def _real(path: Path, name: str, array: np.ndarray) -> Float[np.ndarray, "..."]:
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise UserError(f"{path}: {name}: expected real numbers, found {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
