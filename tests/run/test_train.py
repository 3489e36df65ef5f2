"""The trainer: kill and resume, failures as results, learning-rate schedules, moving average."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import records
from harness.catalogue import ROOT
from harness.cells import CellSpec
from harness.contract import Batch, Diverged, Loss, Model, Optimisation
from harness.errors import UserError
from harness.run import train as training
from harness.run.build import load_trained
from harness.run.checkpoints import read
from harness.run.evaluate import evaluate_model
from harness.run.generation import ScoringSetup
from harness.run.memory import OutOfMemory, raising_out_of_memory
from harness.run.outcome import read_outcome
from harness.run.train import Run, train
from harness.run.view import batch_indices, steps_per_epoch
from ls4.released import LS4
from tests import specs

CPU = torch.device("cpu")


def data(seed: int = 0, split: int = 0) -> Dataset:
    return sines([], name="sines", title="Sines", n=24, length=20, channels=1, seed=seed,
                 split=specs.SPLIT | {"seed": split})  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return data()


def rnn_vae(**training: Any) -> CellSpec:
    """A model whose schedule moves with every step."""
    small = {"latents": 4, "rec_dims": 8, "units": 8}
    return spec_of("baselines.rnn_vae:RNNVAE", small, **training)


def spec_of(
    model_class: str = specs.LS4, config: dict[str, Any] | None = None, **training: Any
) -> CellSpec:
    config = specs.SMALL_LS4 | {"lr_patience": 1} if config is None else config
    settings = {"steps": 40, "batch_size": 6, "log_every": 7, "ema_decay": 0.9, "ema_start": 5}
    return specs.cell(model_class, config, **(settings | training))


def command(spec: CellSpec, data: Path, out: Path) -> list[str]:
    cell = specs.write(spec, out)
    return [sys.executable, "-m", "harness", "train", str(cell), "--data", str(data)]


@pytest.mark.slow
@pytest.mark.parametrize("make", [spec_of, rnn_vae])
def test_killed_and_started_again_ends_the_same(
    make, dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    spec = make(checkpoint_every=0)  # a checkpoint after every step
    dataset.save(tmp_path / "data.npz")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        command(spec, tmp_path / "data.npz", whole), cwd=ROOT, env=environment, check=True
    )

    checkpoint = killed / "ckpt" / "checkpoint.pt"
    for at_least in (5, 17):  # kill it twice
        job = subprocess.Popen(
            command(spec, tmp_path / "data.npz", killed), cwd=ROOT, env=environment
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and job.poll() is None:
            if checkpoint.exists():
                state = read(checkpoint)
                if state and state["step"] >= at_least:
                    break
            time.sleep(0.005)
        assert job.poll() is None, "it ended before it could be killed"
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert not (killed / "train.json").exists()
    capfd.readouterr()
    subprocess.run(
        command(spec, tmp_path / "data.npz", killed), cwd=ROOT, env=environment, check=True
    )
    went_on = re.search(r"going on from step (\d+)", capfd.readouterr().err)
    assert went_on and int(went_on[1]) >= 17, "it did not resume"

    assert (whole / "weights.safetensors").read_bytes() == (
        killed / "weights.safetensors"
    ).read_bytes()
    assert (whole / "history.jsonl").read_text() == (killed / "history.jsonl").read_text()
    records = [_record(spec, dataset, folder) for folder in (whole, killed)]
    assert records[0] == records[1]
    assert not checkpoint.exists()


def _record(spec: CellSpec, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """The record of a trained cell without times and memory."""
    setup = ScoringSetup(dataset, specs.scoring())
    weights = folder / "weights.safetensors"
    record = evaluate_model(spec, setup, read_outcome(folder, spec), weights, CPU).record
    measured = {"train_seconds", "sample_seconds", "score_seconds", "peak_memory_bytes", "date"}
    return record.model_dump(exclude=measured)


def test_a_checkpoint_of_other_code_or_configuration_is_not_used(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    specs.interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(checkpoint_every=0), dataset, tmp_path, CPU)
    monkeypatch.undo()
    assert (tmp_path / "ckpt" / "checkpoint.pt").exists()
    other = spec_of(steps=3)
    fresh = train(other, dataset, tmp_path / "fresh", CPU)
    train(other, dataset, tmp_path, CPU)
    assert "not used, starting afresh" in capsys.readouterr().err
    a, b = (load_file(d / "weights.safetensors") for d in (tmp_path, tmp_path / "fresh"))
    assert fresh.status == "done" and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": 1}])
def test_a_checkpoint_of_other_data_is_not_used(
    other: dict[str, int], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    spec = rnn_vae(steps=3, checkpoint_every=0)
    specs.interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(spec, dataset, tmp_path, CPU)
    monkeypatch.undo()
    train(spec, data(**other), tmp_path, CPU)
    assert "not used, starting afresh" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_used(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    spec = rnn_vae(steps=4, checkpoint_every=0)
    train(spec, dataset, tmp_path / "whole", CPU)
    specs.interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(spec, dataset, tmp_path, CPU)
    monkeypatch.undo()
    checkpoint = tmp_path / "ckpt" / "checkpoint.pt"
    content = checkpoint.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # in a tensor
    for damaged in (b"", content[:-1000], flipped):
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_bytes(damaged)
        assert train(spec, dataset, tmp_path, CPU).status == "done"
        assert f"{checkpoint}: damaged; not used, starting afresh" in capsys.readouterr().err
        for name in ("weights.safetensors", "history.jsonl"):
            assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.safetensors", "damaged: not weights; make it again from its grid: snakemake"),
        ("train.json", "not JSON: "),
        ("history.jsonl", "damaged: expected the file of sha256"),
    ],
)
def test_what_a_training_left_is_refused_where_its_end_is_missing(
    name: str, message: str, dataset: Dataset, tmp_path: Path
) -> None:
    spec = rnn_vae(steps=1)
    train(spec, dataset, tmp_path, CPU)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError) as caught:
        read_outcome(tmp_path, spec)
        load_trained(spec, dataset, tmp_path / "weights.safetensors", CPU)
    assert str(caught.value).startswith(f"{path}: {message}") and "\n" not in str(caught.value)


def test_a_training_of_another_cell_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    spec, path = rnn_vae(steps=1), tmp_path / "weights.safetensors"
    train(spec, dataset, tmp_path, CPU)
    with pytest.raises(UserError, match=r"train\.json: expected a training of the cell .* again"):
        read_outcome(tmp_path, rnn_vae(steps=2))
    other = spec.model_copy(update={"config": spec.config | {"units": 16}})
    with pytest.raises(UserError) as caught:
        load_trained(other, dataset, path, CPU)
    assert str(caught.value).startswith(
        f"{path}: expected the parameters of baselines.rnn_vae:RNNVAE, found others; make it again"
    )
    save_file(load_file(path), path)  # as before weights had digests
    with pytest.raises(UserError, match="expected weights with a digest, found those of an earl"):
        load_trained(spec, dataset, path, CPU)


def test_a_history_that_is_lost_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    spec = rnn_vae(steps=1)
    train(spec, dataset, tmp_path, CPU)
    (tmp_path / "history.jsonl").unlink()
    with pytest.raises(UserError, match=r"history\.jsonl: expected the file .*, found none$"):
        read_outcome(tmp_path, spec)


class Breaking(Model):
    """A model of one number that goes wrong on demand at step 4."""

    tasks = frozenset({"generation"})

    @dataclass(frozen=True)
    class Config:
        how: str = "nan"

    def __init__(self, config: Any, shape: Any):
        super().__init__(config, shape)
        self.w = torch.nn.Parameter(torch.zeros(()))

    def optimisers(self) -> dict[str, Optimisation]:
        return {"main": Optimisation(torch.optim.SGD(self.parameters(), 0.1))}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        if step == 4:
            if self.config.how == "solver":
                raise Diverged("the solver needs more than 1000 steps")
            if self.config.how == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB\nmore")
            if self.config.how == "memory of the machine":
                raise MemoryError
            if self.config.how == "memory of the CPU's allocator":
                torch.empty(2**60)
            if self.config.how == "bug":
                raise RuntimeError("a bug")
            return Loss(self.w * float("nan"))
        return Loss((self.w - 1) ** 2)


@pytest.mark.parametrize(
    "how, status, reason",
    [
        ("nan", "diverged", "step 4: loss nan"),
        ("solver", "diverged", "step 4: the solver needs more than 1000 steps"),
        ("memory", "oom", "step 4: CUDA out of memory. Tried to allocate 2 TiB"),
        ("memory of the machine", "oom", "step 4: MemoryError"),
        ("memory of the CPU's allocator", "oom", "can't allocate memory"),
    ],
)
def test_failures_are_results(dataset, tmp_path: Path, how: str, status: str, reason: str) -> None:
    spec = spec_of(f"{__name__}:Breaking", {"how": how}, ema_decay=None)
    outcome = train(spec, dataset, tmp_path, CPU)
    assert (outcome.status, outcome.steps) == (status, 4)
    assert outcome.reason and reason in outcome.reason
    for name in ("weights.safetensors", "history.jsonl", "train.json"):
        assert (tmp_path / name).exists()
    assert json.loads((tmp_path / "train.json").read_text())["status"] == status


@pytest.mark.parametrize(
    "message",
    ["std::bad_alloc", "MKL FFT error: Intel oneMKL DFTI ERROR: Inconsistent configuration"],
)
def test_libraries_that_lack_memory_say_it_in_other_words(message: str) -> None:
    with pytest.raises(OutOfMemory), raising_out_of_memory():
        raise RuntimeError(message)


def test_a_bug_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    spec = spec_of(f"{__name__}:Breaking", {"how": "bug"})
    with pytest.raises(RuntimeError, match="a bug"):
        train(spec, dataset, tmp_path, CPU)
    assert not (tmp_path / "train.json").exists()


def test_a_configuration_that_does_not_suit_the_data_gets_one_line(dataset, tmp_path) -> None:
    spec = spec_of(config=specs.SMALL_LS4 | {"pool": [7]})
    with pytest.raises(UserError, match=r"ls4\.yaml, data set sines: .* divisible by 7, found 20"):
        train(spec, dataset, tmp_path, CPU)
    assert not list(tmp_path.glob("*.json"))


def test_time_limit(dataset: Dataset, tmp_path: Path) -> None:
    outcome = train(spec_of(steps=10**6, time_limit=0.02), dataset, tmp_path, CPU)
    assert outcome.status == "timeout" and 0 < outcome.steps < 10**6
    assert outcome.reason == f"stopped after 0.02 min at step {outcome.steps}"


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_history(dataset: Dataset, tmp_path: Path) -> None:
    train(spec_of(), dataset, tmp_path, CPU)
    rows = history(tmp_path)
    assert [row["step"] for row in rows] == [7, 14, 21, 28, 35, 40]
    assert all({"loss", "kl", "nll", "lr", "validation_loss"} <= row.keys() for row in rows)
    assert all(abs(row["loss"] - row["kl"] - row["nll"]) < 1e-4 for row in rows)


def test_a_schedule_by_step_moves_with_every_step(dataset: Dataset, tmp_path: Path) -> None:
    train(rnn_vae(steps=4, log_every=1), dataset, tmp_path, CPU)
    expected = [0.01 * 0.999**k for k in (1, 2, 3, 4)]
    assert [row["lr"] for row in history(tmp_path)] == pytest.approx(expected)


class Stuck(LS4):
    """A loss that cannot improve."""

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        return Loss(0 * self.z_start.sum() + 1)


def test_a_plateau_is_counted_in_epochs(dataset: Dataset, tmp_path: Path) -> None:
    """16 series in batches of 6 are 3 steps an epoch; after the first, patience 1 allows one."""
    spec = spec_of(f"{__name__}:Stuck", steps=15, log_every=3)
    train(spec, dataset, tmp_path, CPU)
    assert [row["lr"] for row in history(tmp_path)] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]


def test_moving_average_is_what_is_scored(dataset: Dataset, tmp_path: Path) -> None:
    """With decay d and a start at step s, the average is the weights at s + 1, then d, 1 - d."""
    weights = {}
    for steps in (1, 2, 3):
        train(spec_of(steps=steps, ema_decay=None), dataset, tmp_path / f"{steps}", CPU)
        weights[steps] = load_file(tmp_path / f"{steps}" / "weights.safetensors")
    train(spec_of(steps=3, ema_decay=0.9, ema_start=1), dataset, tmp_path / "ema", CPU)
    for name, average in load_file(tmp_path / "ema" / "weights.safetensors").items():
        expected = 0.9 * weights[2][name] + 0.1 * weights[3][name]
        assert torch.allclose(average, expected, atol=1e-7)
    train(spec_of(steps=3, ema_decay=0.9, ema_start=3), dataset, tmp_path / "late", CPU)
    late = load_file(tmp_path / "late" / "weights.safetensors")
    assert all(torch.equal(late[name], weights[3][name]) for name in late)
    train(spec_of(steps=3, ema_decay=None, swa_start=1), dataset, tmp_path / "swa", CPU)
    for name, average in load_file(tmp_path / "swa" / "weights.safetensors").items():
        assert torch.allclose(average, (weights[2][name] + weights[3][name]) / 2, atol=1e-7)


class Drifting(LS4):
    """A loss that cannot improve while the weights go on moving."""

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        total = self.z_start.sum()
        return Loss(total - total.detach() + 1)


def drifting(**changes: Any) -> CellSpec:
    """With patience 0 the rate halves after every epoch but the first: of 3 steps, 14 times."""
    config = specs.SMALL_LS4 | {"lr_patience": 0}
    settings = {"steps": 1000, "log_every": 100, "ema_decay": 0.99, "checkpoint_every": 0}
    return spec_of(f"{__name__}:Drifting", config, **(settings | changes))


FROZEN_AT = 3 * (1 + 14)


def test_a_training_ends_where_its_schedule_is_frozen(dataset, tmp_path: Path) -> None:
    outcome = train(drifting(), dataset, tmp_path / "average", CPU)
    assert (outcome.status, outcome.ended, outcome.steps) == ("done", "frozen", FROZEN_AT)
    assert [row["step"] for row in history(tmp_path / "average")] == [FROZEN_AT]
    assert json.loads((tmp_path / "average" / "train.json").read_text())["ended"] == "frozen"
    without_average = drifting(ema_decay=None)
    train(without_average, dataset, tmp_path / "last", CPU)
    average, last = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("average", "last")
    )
    assert last["z_start"].abs().min() > 0.005, "the weights did not move"
    assert all(torch.equal(average[name], last[name]) for name in last)
    record = _record(without_average, dataset, tmp_path / "last")
    assert (record["ended"], record["steps"]) == ("frozen", FROZEN_AT)


class Watched(Drifting):
    """The same, with a validation loss that names the weights."""

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        return super().loss(batch, step, generator) if self.training else Loss(self.z_start.sum())


@pytest.mark.parametrize("decay", [None, 0.99])
def test_the_last_validation_loss_is_that_of_the_frozen_weights(
    dataset, tmp_path: Path, decay: float | None
) -> None:
    spec = drifting(ema_decay=decay).model_copy(update={"class_": f"{__name__}:Watched"})
    outcome = train(spec, dataset, tmp_path, CPU)
    weights = load_file(tmp_path / "weights.safetensors")
    assert outcome.ended == "frozen"
    assert outcome.last_validation_loss == pytest.approx(weights["z_start"].sum().item(), rel=1e-6)


def test_a_training_names_the_code_that_it_began_with(dataset, tmp_path: Path, monkeypatch) -> None:
    def edited(run: Run) -> tuple[str, None]:
        monkeypatch.setattr(training, "training_code_hash", lambda spec: "edited")
        monkeypatch.setattr(training, "circumstances", lambda device: {"commit": "edited"})
        return "done", None

    spec = spec_of(steps=1)
    code = training.training_code_hash(spec)
    monkeypatch.setattr(Run, "steps", edited)
    outcome = train(spec, dataset, tmp_path, CPU)
    assert outcome.code_hash == code and outcome.circumstances["commit"] != "edited"


@pytest.mark.parametrize(
    ("name", "dirty"), [("mine.py", True), ("mine.yaml", True), ("samples.npz", False)]
)
def test_code_without_a_commit_is_dirty(tmp_path, monkeypatch, name: str, dirty: bool) -> None:
    monkeypatch.setattr(records, "ROOT", tmp_path)
    (tmp_path / "VERSION").write_text("0")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init"], ["add", "VERSION"], ["commit", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    assert records.circumstances(CPU)["dirty"] is False
    (tmp_path / name).touch()
    assert records.circumstances(CPU)["dirty"] is dirty


@pytest.mark.parametrize("at", [10, FROZEN_AT - 1, FROZEN_AT])
def test_a_frozen_training_resumes_to_the_same_bytes(dataset, tmp_path: Path, at: int) -> None:
    specs.assert_resumes(drifting(), dataset, tmp_path, at)


def test_a_plain_mean_of_the_weights_takes_every_step(dataset, tmp_path: Path) -> None:
    spec = drifting(ema_decay=None, swa_start=10, steps=FROZEN_AT + 5)
    outcome = train(spec, dataset, tmp_path, CPU)
    assert (outcome.ended, outcome.steps) == ("steps", FROZEN_AT + 5)


class Valley(Model):
    """One weight that grows by 0.1 a step; its validation loss is lowest at 1, after 10 steps."""

    tasks = frozenset({"generation"})

    @dataclass(frozen=True)
    class Config:
        warm_up: int = 0

    def __init__(self, config: Any, shape: Any):
        super().__init__(config, shape)
        self.w = torch.nn.Parameter(torch.zeros(()))

    @property
    def warm_up(self) -> int:
        return self.config.warm_up

    def optimisers(self) -> dict[str, Optimisation]:
        return {"main": Optimisation(torch.optim.SGD(self.parameters(), 0.1))}

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> Loss:
        return Loss(-self.w if self.training else (self.w - 1) ** 2)

    def sample(self, n: int, t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, len(t), 1, generator=generator)


def valley(warm_up: int = 0, steps: int = 100, **training: Any) -> CellSpec:
    settings = {"ema_decay": None, "ema_start": 0, "log_every": 3, "checkpoint_every": 0}
    settings |= {"patience": 5, "validate_every": 1, "steps": steps}
    return spec_of(f"{__name__}:Valley", {"warm_up": warm_up}, **(settings | training))


@pytest.mark.parametrize(
    ("spec", "ended", "steps", "best"),
    [
        (valley(), "patience", 15, 10),
        (valley(warm_up=20), "patience", 25, 10),  # patience begins after the warm-up
        (valley(steps=12), "cap", 12, 10),
        (valley(validate_every=4), "patience", 13, 8),  # after 12 and 13 steps it is no better
        (valley(validate_every=4, steps=9), "cap", 9, 9),  # the last weights are validated, too
    ],
)
def test_a_training_ends_when_it_no_longer_improves(
    dataset: Dataset, tmp_path: Path, spec: CellSpec, ended: str, steps: int, best: int
) -> None:
    outcome = train(spec, dataset, tmp_path, CPU)
    assert (outcome.status, outcome.ended, outcome.steps) == ("done", ended, steps)
    assert outcome.best_step == best
    weights, last = (load_file(tmp_path / f"{n}.safetensors")["w"] for n in ("weights", "last"))
    assert weights.item() == pytest.approx(best / 10) and last.item() == pytest.approx(steps / 10)
    assert outcome.best_validation_loss == pytest.approx((best / 10 - 1) ** 2, abs=1e-6)
    assert history(tmp_path)[-1]["step"] == steps
    record = _record(spec, dataset, tmp_path)
    assert (record["ended"], record["best_step"]) == (ended, best)


def test_averaged_weights_are_validated_and_kept(dataset: Dataset, tmp_path: Path) -> None:
    """The mean of 0.1, ..., 0.1 n is 1 at n = 19, and 1.25 at the end."""
    outcome = train(valley(swa_start=0), dataset, tmp_path, CPU)
    assert (outcome.best_step, outcome.steps) == (19, 24)
    assert outcome.best_validation_loss == pytest.approx(0, abs=1e-6)
    assert outcome.last_validation_loss == pytest.approx(0.25**2, abs=1e-6)
    weights, last = (load_file(tmp_path / f"{n}.safetensors")["w"] for n in ("weights", "last"))
    assert (weights.item(), last.item()) == (pytest.approx(1), pytest.approx(1.25))


@pytest.mark.parametrize(("every", "at"), [(1, 4), (1, 10), (1, 14), (4, 12)])
def test_a_stopped_training_resumes_to_the_same_bytes(
    dataset, tmp_path: Path, every: int, at: int
) -> None:
    specs.assert_resumes(valley(validate_every=every), dataset, tmp_path, at)
    assert (tmp_path / "killed" / "last.safetensors").exists()


def test_a_model_without_one_loss_takes_all_its_steps(dataset, tmp_path: Path) -> None:
    spec = spec_of(f"{__name__}:Phased", {}, steps=4, ema_decay=None, patience=1)
    outcome = train(spec, dataset, tmp_path, CPU)
    assert (outcome.ended, outcome.steps, outcome.best_step) == ("steps", 4, None)
    assert not (tmp_path / "last.safetensors").exists()


class Phased(Model):
    """Two networks of one number each; the second one is trained at odd steps, of a large loss."""

    tasks = frozenset({"generation"})

    @dataclass(frozen=True)
    class Config:
        pass

    def __init__(self, config: Any, shape: Any):
        super().__init__(config, shape)
        self.a, self.b = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))
        self.register_buffer("seen", torch.zeros(()))

    def calibrate(self, batch: Batch) -> None:
        assert self.seen == 0, "calibrated twice"
        self.seen += len(batch.x)

    def optimisers(self) -> dict[str, Optimisation]:
        return {
            "a": Optimisation(torch.optim.SGD([self.a], 1.0)),
            "b": Optimisation(torch.optim.SGD([self.b], 1.0), max_norm=0.5),
        }

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        yield Loss(self.a, {"step": torch.tensor(float(step))}, "a")
        if step % 2:
            steep = (self.b - self.b.detach()).abs().sqrt()  # 0, with a slope that is no number
            yield Loss(1000 * self.b if step < 5 else steep, {}, "b")


def phased(steps: int = 4) -> CellSpec:
    return spec_of(f"{__name__}:Phased", {}, steps=steps, log_every=4, ema_decay=None)


def test_losses_may_change_from_step_to_step(dataset: Dataset, tmp_path: Path) -> None:
    """Logs are averaged over the steps that have them; gradients are clipped, if asked for."""
    train(phased(), dataset, tmp_path, CPU)
    weights = load_file(tmp_path / "weights.safetensors")
    assert weights["a"] == -4 and torch.isclose(weights["b"], torch.tensor(-1.0))
    (row,) = history(tmp_path)
    assert row["a/step"] == 1.5 and row["a/loss"] == -1.5
    assert row["b/loss"] == pytest.approx(-250)  # of 0 and -500


def test_a_gradient_that_is_not_finite_is_a_divergence(dataset, tmp_path: Path) -> None:
    outcome = train(phased(steps=8), dataset, tmp_path, CPU)
    assert (outcome.status, outcome.reason) == ("diverged", "step 5: gradient norm nan")


def test_a_new_model_sees_the_training_series_once(dataset, tmp_path: Path) -> None:
    """Not again when its weights are loaded."""
    train(phased(), dataset, tmp_path, CPU)
    model = load_trained(phased(), dataset, tmp_path / "weights.safetensors", CPU)
    assert model.state_dict()["seen"] == len(dataset.train)
    assert not model.training, "it is to sample and predict"


class Noting(Model):
    """Its history has a value of each batch, and a draw of its noise."""

    tasks = frozenset({"generation"})

    @dataclass(frozen=True)
    class Config:
        pass

    def training_step(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[Loss]:
        noise = torch.rand((), generator=generator)
        yield Loss(torch.zeros(()), {"batch": batch.x[0, 0, 0], "noise": noise})

    def optimisers(self) -> dict[str, Optimisation]:
        return {}


def test_seeds_have_batches_and_noise_of_their_own(dataset: Dataset, tmp_path: Path) -> None:
    spec = spec_of(f"{__name__}:Noting", {}, steps=3, log_every=1, ema_decay=None)
    for seed in (0, 1):
        train(spec.model_copy(update={"seed": seed}), dataset, tmp_path / f"{seed}", CPU)
    rows = [row for seed in "01" for row in history(tmp_path / seed)]
    assert len({row["noise"] for row in rows}) == 6
    batches = [row["batch"] for row in rows]
    assert batches[:3] != batches[3:]


def test_each_epoch_is_a_permutation() -> None:
    train_series = np.arange(100, 117)
    n = steps_per_epoch(17, 5)
    assert n == 4
    epochs = [
        np.concatenate([batch_indices(train_series, 5, e * n + i, seed=0) for i in range(n)])
        for e in range(3)
    ]
    assert all(sorted(epoch) == list(train_series) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], [*batch_indices(train_series, 17, 0, seed=1)])
