"""Samples and predictions that were made elsewhere, by a command or a user: read and checked.

They are samples, (n, L, D) for n test series, or predictions for the n test records in their order:
``mean``, (n, L, D) or, for S draws of it, (S, n, L, D), and ``std``, which broadcasts to it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from datasets.base import Dataset
from datasets.errors import DataError
from datasets.files import load_arrays, sha256
from harness.catalogue import ROOT
from harness.cells import CommandSpec
from harness.contract import Prediction
from harness.errors import UserError
from harness.records import Status, circumstances
from harness.run.command import ANSWER, ENDED
from harness.run.generation import Samples
from harness.run.outcome import Outcome
from harness.run.own_samples import read_samples
from harness.run.view import View, check_complete, view
from harness.texts import digest

Answer = Samples | Prediction
OUT_OF_TIME = (124, 137)  # exit statuses of coreutils' timeout: ended, and killed
LINE = 300  # characters of the log's last line that become the reason


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


def read_command(
    spec: CommandSpec, dataset: Dataset, directory: Path, device: torch.device
) -> tuple[Outcome, Answer | None]:
    """Read how a command ended, and its samples or predictions if it ended well."""
    status, seconds, *log = (directory / ENDED).read_text("utf-8", errors="replace").splitlines()
    last = next((line.strip() for line in reversed(log) if line.strip()), "an empty log")[:LINE]
    ended: Status = "done"
    reason, answer = None, None
    limit = spec.time_limit
    if limit is not None and int(status) in OUT_OF_TIME and int(seconds) >= math.floor(60 * limit):
        ended, reason = "timeout", f"stopped after {limit:g} min: {last}"
    elif status != "0":
        ended, reason = "failed", f"exit status {status}: {last}"
    elif not (directory / ANSWER).stat().st_size:
        ended, reason = "failed", f"the command wrote no {ANSWER}: {last}"
    else:
        try:
            answer = read_answer(directory / ANSWER, view(spec, dataset))
        except (UserError, DataError) as error:
            ended, reason = "failed", str(error)
    environment = [spec.conda] if spec.conda else []
    outcome = Outcome(
        status=ended,
        reason=reason,
        ended=None,
        steps=0,
        best_step=None,
        best_validation_loss=None,
        last_validation_loss=None,
        seconds=float(seconds),
        peak_memory_bytes=None,
        parameters=0,
        config_hash=spec.digest,
        code_hash=digest({file: sha256(ROOT / file) for file in [*spec.files, *environment]}),
        circumstances=circumstances(device),
    )
    return outcome, answer
