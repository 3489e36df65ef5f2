"""One cell of the runtime experiment: what is iterated, what ends it. No time is tested."""

import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

from harness import catalogue, records
from harness.catalogue import ROOT
from harness.checks import load
from harness.errors import UserError
from harness.measure import lengths
from harness.measure.lengths import Failure, Iteration, Job, Ready
from harness.measure.timing import made_up, set_up, training_step
from harness.measurements import BATCHES, Measurement, find_run_times
from tests.checkout import run
from tests.present.lengths import measurement

CPU = torch.device("cpu")
TRAINING = Job("rnn_vae", 8, "training", "generation", 16)
READY = Ready(parameters=7, circumstances={}, base_memory=100)


def messages(*seconds: float) -> list[Iteration]:
    return [Iteration(value, peak_memory=1000 + i) for i, value in enumerate(seconds)]


@pytest.mark.parametrize("length", [8, 16])
@pytest.mark.parametrize(("model", "kinds"), [
    ("rnn_vae", {"training": "generation", "reconstruction": "reconstruction",
                 "generation": "generation"}),
    ("cru", {"training": "reconstruction", "reconstruction": "reconstruction"}),
])  # fmt: skip
def test_as_many_iterations_as_asked_for(monkeypatch, model: str, kinds: dict, length: int) -> None:
    monkeypatch.setattr(
        lengths, "ITERATIONS", {"training": 4, "reconstruction": 3, "generation": 3}
    )
    monkeypatch.setattr(lengths, "WARM_UP", {"training": 2, "reconstruction": 1, "generation": 1})
    assert lengths._tasks(load(catalogue.model(model).class_).tasks) == kinds
    for kind, task in kinds.items():
        ready, *iterations = lengths.iterate(Job(model, length, kind, task, 4), 1e6, CPU)
        assert isinstance(ready, Ready) and ready.parameters > 0 and ready.base_memory > 0
        assert len(iterations) == (6 if kind == "training" else 4)
        assert all(isinstance(i, Iteration) and i.seconds > 0 for i in iterations)


@pytest.mark.parametrize("kind", ["generation", "reconstruction"])
def test_nothing_is_kept_for_gradients_that_nobody_asks_for(monkeypatch, kind: str) -> None:
    made: list[torch.Tensor] = []

    def timed(function, where: torch.device) -> float:
        found = function()
        made.append(found if kind == "generation" else found.mean)
        return 1.0

    monkeypatch.setattr(lengths, "timed", timed)
    model = {"generation": "timegan", "reconstruction": "rnn_vae"}[kind]
    list(lengths.iterate(Job(model, 8, kind, kind, 2), 1e6, CPU))
    assert made and not any(tensor.requires_grad for tensor in made)


def test_a_measured_step_moves_all_parts_of_a_gan() -> None:
    data = made_up(2, 8, channels=1)
    model = set_up("timegan", data, "generation", CPU)
    before = {name: value.clone() for name, value in model.named_parameters()}
    training_step(model, data, "generation", 2, CPU)()
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert {name.split(".")[0] for name in moved} == {name.split(".")[0] for name in before}


@pytest.mark.parametrize(
    ("seconds", "most", "warm_up"),
    [
        ([], 10, 0),
        ([1.0], 10, 0),  # it must serve
        ([1.0, 1.0], 10, 1),
        ([4.0, 5.0, 4.0, 4.0], 10, 2),  # a tenth of the limit is reached by the third
        ([1.0] * 5, 2, 2),
        ([30.0, 30.0], 10, 1),  # the first one never counts where another does
    ],
)
def test_warm_up_is_one_iteration_or_a_tenth_of_the_limit(seconds, most: int, warm_up: int) -> None:
    assert lengths.split_warm_up(seconds, most, 100.0) == (warm_up, seconds[warm_up:])


def test_iterations_that_fit_are_scaled_and_none_is_a_timeout() -> None:
    few = lengths.summarise(
        TRAINING, 100.0, READY, messages(1.0, 20.0, 40.0, 30.0), None, late=True
    )
    assert (few.status, few.warm_up, few.iterations, few.seconds) == ("done", 1, 3, 30)
    assert few.wanted == 100 and few.reason == "3 of 100 iterations in 100 s"
    assert (few.base_memory_bytes, few.peak_memory_bytes) == (100, 1003)
    none = lengths.summarise(TRAINING, 100.0, READY, [], None, late=True)
    assert (none.status, none.reason) == ("timeout", "no iteration in 100 s")
    assert none.seconds is none.peak_memory_bytes is None
    unbuilt = lengths.summarise(TRAINING, 100.0, None, [], None, late=True)
    assert (unbuilt.status, unbuilt.reason) == ("timeout", "no model in 600 s")


def test_a_measurement_that_breaks_off_has_no_time() -> None:
    lost = Failure("diverged", "gradient norm nan")
    found = lengths.summarise(TRAINING, 100.0, READY, messages(1.0, 2.0), lost, late=False)
    assert (found.status, found.reason, found.seconds) == ("diverged", "gradient norm nan", None)


@pytest.mark.parametrize(
    ("suffices", "status", "batch"),
    [(16, "done", 16), (4, "done", 4), (1, "done", 1), (0, "oom", 1)],
)
def test_smaller_batches_where_memory_does_not_suffice(
    monkeypatch, suffices: int, status: str, batch: int
) -> None:
    def attempt(job: Job, limit: float, begun: list[Ready]) -> Measurement:
        if job.batch > suffices:
            return measurement(
                job.kind, None, batch=job.batch, status="oom", reason=f"{job.batch} too many"
            )
        begun.append(Ready(7, lengths._circumstances_here(), 100))
        return measurement(job.kind, 1.0, batch=job.batch)

    monkeypatch.setattr(lengths, "attempt", attempt)
    record = lengths.measure_length("rnn_vae", 8, 60.0)
    assert record.status == status and len(record.measurements) == 3
    for found in record.measurements:
        assert (found.status, found.batch) == (status, batch)
        tried = [b for b in BATCHES if b > suffices]
        expected = "; ".join(f"batch {b}: {b} too many" for b in tried)
        assert (found.reason or "") == expected
    assert record.parameters == (7 if suffices else None)


def test_a_process_is_ended_at_the_limit() -> None:
    begun: list[Ready] = []
    found = lengths.attempt(TRAINING, 1e-9, begun)
    assert (found.status, found.iterations, found.seconds) == ("timeout", 0, None)
    assert len(begun) == 1 and found.base_memory_bytes == begun[0].base_memory


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux tells")
def test_memory_that_is_not_there_is_refused() -> None:
    program = """
from harness.run import memory
import torch
memory.FREE = 0.01
free = memory.limit_memory()
try:
    with memory.raising_out_of_memory():
        torch.empty(free // 4)  # single precision
except memory.OutOfMemory as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "can't allocate memory" in done.stdout, done.stderr


def test_mistakes_are_told_in_one_line(monkeypatch) -> None:
    with pytest.raises(UserError, match="unknown model 'nothing': expected one of"):
        lengths.measure_length("nothing", 8)

    def refuse(*_: object) -> None:
        raise UserError("config/models/ls4.yaml, data set sines: a length that pooling divides")

    sent = []
    connection = create_autospec(Connection, instance=True)
    connection.send.side_effect = sent.append
    monkeypatch.setattr(lengths, "limit_memory", lambda: None)  # else that of the tests
    monkeypatch.setattr(lengths, "set_up", refuse)
    lengths._measure(TRAINING, 60.0, connection)
    (failure,) = sent
    assert failure.status == "mistake" and "pooling" in failure.reason


@pytest.mark.slow
def test_a_cell_through_the_command_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two would wait for each other on a busy machine
    path = tmp_path / "runtime" / "rnn_vae" / "8.json"
    arguments = ["--model", "rnn_vae", "--length", "8", "--out", str(path)]
    done = run("python", "-m", "harness", "runtime", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    (record,) = find_run_times(tmp_path)
    assert (record.model, record.length, record.channels) == ("rnn_vae", 8, 1)
    assert record.status == "done" and record.parameters == 12091
    for found in record.measurements:
        assert (found.status, found.batch, found.iterations) == ("done", 16, found.wanted)
        assert found.reason is None
        assert found.base_memory_bytes and found.peak_memory_bytes
        assert found.peak_memory_bytes >= found.base_memory_bytes
    records.write(record, tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_text() == path.read_text()


def test_another_file_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "runtime" / "ls4" / "8.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match="not a record of run times: model: Field required"):
        find_run_times(tmp_path)


SIZED = [
    (name, size) for name in catalogue.available("models") for size in catalogue.model(name).sizes
]


@pytest.mark.parametrize(("name", "size"), SIZED)
def test_a_size_is_about_as_large_as_its_name_says(name: str, size: str) -> None:
    count = float(size.replace("k", "e3").replace("M", "e6"))
    tasks = load(catalogue.model(name).class_).tasks
    task = "generation" if "generation" in tasks else "reconstruction"
    model = set_up(name, made_up(4, 320, channels=1), task, CPU, size)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(count, rel=0.15)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"rnn_vae.yaml: sizes: expected '7T', found 100k"):
        lengths.measure_length("rnn_vae", 8, size="7T")
