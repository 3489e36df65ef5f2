"""The contract, over every model in config/models/: `make check-model MODEL=name` runs one.

Tiny data, the model's `tiny` sizes. Each assertion says what a model that fails it has to mend.
"""

import dataclasses
import os

import pytest
import torch
from safetensors.torch import load, save

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import catalogue, sources
from harness.catalogue import ROOT
from harness.checks import load as load_class
from harness.checks import model_config
from harness.config import ModelFile
from harness.contract import FINAL_STEP, Batch, Model, Task
from harness.errors import UserError
from harness.run.build import build, calibrate
from harness.run.train import descend
from harness.run.view import View, batch_indices
from tests import specs

LENGTH = 20
NAMES = [os.environ["MODEL"]] if os.environ.get("MODEL") else catalogue.trained()
try:
    FILES: dict[str, ModelFile] = {name: catalogue.model(name) for name in NAMES}
    CLASSES: dict[str, type[Model]] = {
        name: load_class(file.class_)
        for name, file in FILES.items()
        if not file.variant_of or len(FILES) == 1  # variants are tested with what they vary
    }
except UserError as mistake:
    raise pytest.Collector.CollectError(f"error: {mistake}") from None  # shown without traceback

every_file = pytest.mark.parametrize("name", FILES)
every_model = pytest.mark.parametrize("name", CLASSES)
every_task = pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, c in CLASSES.items() for task in sorted(c.tasks)]
)
every_prediction = pytest.mark.parametrize(
    ("name", "task"),
    [(n, task) for n, c in CLASSES.items() for task in sorted(c.tasks - {"generation"})],
)
generators = pytest.mark.parametrize(
    "name", [n for n, c in CLASSES.items() if "generation" in c.tasks]
)


def data(task: Task = "generation", channels: int = 1, seed: int = 0) -> Dataset:
    """Complete sines for generation, else at irregular times with every other value missing."""
    return sines(
        [], name="sines", title="Sines", n=24, length=LENGTH, channels=channels, seed=seed,
        observed=1.0 if task == "generation" else 0.5,
        split={"seed": 0, "fractions": [0.7, 0.1, 0.2]},
    )  # fmt: skip


def built(
    name: str, task: Task | None = None, channels: int = 1, seed: int = 0, data_seed: int = 0
) -> Model:
    task = task or min(CLASSES[name].tasks)
    config = FILES[name].config | FILES[name].tiny
    spec = specs.cell(FILES[name].class_, config, task=task, seed=seed)
    dataset = data(task, channels, data_seed)
    model = build(spec, dataset, torch.device("cpu"))
    calibrate(model, dataset, task)
    return model


def batch_of(task: Task, n: int, channels: int = 1) -> Batch:
    dataset = data(task, channels)
    return View(dataset, task).batch(dataset.train[:n])


def disturbed(model: Model) -> Model:
    """Move all weights a little: layers that begin at zero would hide what they do."""
    generator = seeded(5)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(batch: Batch, indices: list[int]) -> Batch:
    return Batch(*(a[indices] for a in (batch.x, batch.t, batch.mask, batch.target)))


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace normal noise by zeros, so that predictions are functions of the batch alone."""
    monkeypatch.setattr(
        torch, "randn", lambda *size, generator=None, **like: torch.zeros(*size, **like)
    )


@every_file
def test_file_and_configuration(name: str) -> None:
    file = FILES[name]
    model_class = load_class(file.class_)
    assert issubclass(model_class, Model), "derive the class from harness.contract.Model"
    assert model_class.tasks, "declare the tasks"
    assert dataclasses.is_dataclass(model_class.Config), "Config must be a dataclass"
    assert model_class.Config.__dataclass_params__.frozen, "Config must be frozen"
    budgets = [t for b in file.training.values() for t in (b, *b.datasets.values())]
    for changes in (file.tiny, *file.datasets.values(), *(budget.config for budget in budgets)):
        model_config(model_class, {**file.config, **changes}, name)
    with pytest.raises(UserError, match="unknown field 'wdith', expected one of"):
        model_config(model_class, {"wdith": 3}, name)
    assert {"smoke", "full", "paper"} <= file.training.keys(), "give all three budgets"


@every_model
def test_knows_no_data_set(name: str) -> None:
    for path in sources.source_files(FILES[name].class_.partition(":")[0]):
        text = (ROOT / path).read_text()
        for dataset in ("fred_md", "nn5_daily", "solar_weekly", "temperature_rain", "flame"):
            assert dataset not in text, f"{path} names the data set {dataset}"


@every_task
@pytest.mark.parametrize("channels", [1, 3])
def test_training_step(name: str, task: Task, channels: int) -> None:
    model = built(name, task, channels)
    optimisers = model.optimisers()
    for loss in model.training_step(batch_of(task, 6, channels), 0, seeded()):
        assert loss.value.shape == (), "a loss is a scalar"
        assert loss.value.isfinite(), "the first loss must be finite"
        assert all(v.shape == () for v in loss.logs.values()), "logs are scalars"
        if optimisers:
            assert loss.optimiser in optimisers, "name an optimiser that optimisers() builds"
            loss.value.backward()
    owned = [p for o in optimisers.values() for g in o.optimiser.param_groups for p in g["params"]]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters() if p.requires_grad}, (
        "the optimisers must cover the parameters exactly"
    )
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients), "the first gradient must be finite"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="of a GPU")
@every_task
def test_on_a_gpu(name: str, task: Task) -> None:
    cuda = torch.device("cuda")
    model, batch = built(name, task).to(cuda), batch_of(task, 6).to(cuda)
    generator = torch.Generator(cuda).manual_seed(0)
    optimisers = model.optimisers()
    for loss in model.training_step(batch, 0, generator):
        if optimisers:
            descend(loss, optimisers[loss.optimiser])
    model.eval()
    with torch.no_grad():
        out = (
            model.sample(3, batch.t[0], generator)
            if task == "generation"
            else model.predict(batch, 2, generator).mean
        )
    assert out.device.type == "cuda", "make tensors on the device of the weights or of the batch"
    assert out.isfinite().all(), "samples and predictions must be finite"


@every_task
def test_same_seed_same_weights(name: str, task: Task) -> None:
    if not built(name, task).optimisers():
        pytest.skip("nothing to train")

    def after_three_steps(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)  # the global stream must not matter
        dataset = data(task)
        model, generator = built(name, task, seed=seed), seeded(seed)
        before = torch.get_rng_state()
        optimisers = model.optimisers()
        for step in range(3):
            batch = View(dataset, task).batch(batch_indices(dataset.train, 6, step, seed))
            for loss in model.training_step(batch, step, generator):
                optimisers[loss.optimiser].optimiser.zero_grad()
                loss.value.backward()
                optimisers[loss.optimiser].optimiser.step()
        assert torch.equal(before, torch.get_rng_state()), "draw from the generator, not globally"
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(after_three_steps(0, 1), after_three_steps(0, 2)), (
        "not reproducible: weights after three steps differ between two runs of one seed"
    )
    assert not torch.equal(after_three_steps(0, 1), after_three_steps(1, 1)), (
        "the seed is ignored: weights after three steps are the same for two seeds"
    )


@every_task
def test_learns(name: str, task: Task) -> None:
    model, generator = built(name, task), seeded()
    if type(model).loss is Model.loss or not model.optimisers():
        pytest.skip("no single loss, or nothing to train")
    batch = batch_of(task, 16)
    # the mean alone is quickly learnt
    batch = dataclasses.replace(
        batch, x=(1 + 0.3 * batch.x) * (batch.mask + batch.target).clamp(max=1)
    )
    optimisers = model.optimisers()

    def value() -> float:
        with torch.no_grad():
            return model.loss(batch, 0, seeded(9)).value.item()

    first = value()
    for _ in range(30):
        for loss in model.training_step(batch, 0, generator):
            optimisers[loss.optimiser].optimiser.zero_grad()
            loss.value.backward()
            optimisers[loss.optimiser].optimiser.step()
    assert value() < first - 0.1 * abs(first), "30 steps must lower the loss on 16 sines"


@every_task
@pytest.mark.usefixtures("no_noise")
def test_values_outside_mask_and_target_do_not_matter_to_the_loss(name: str, task: Task) -> None:
    model, batch = built(name, task, 2), batch_of(task, 5, 2)
    if type(model).loss is Model.loss:
        pytest.skip("no single loss")
    none = dataclasses.replace(batch, mask=batch.mask.clone(), target=batch.target.clone())
    none.mask[1, :, 0] = none.target[1, :, 0] = 0  # a channel of which nothing is known
    outside = 1 - (none.mask + none.target).clamp(max=1)
    changed = dataclasses.replace(none, x=none.x + 7 * outside)
    with torch.no_grad():
        losses = [model.loss(b, 0, seeded()).value for b in (none, changed)]
    assert torch.equal(*losses), "the loss looks at values outside mask and target"


@every_prediction
@pytest.mark.usefixtures("no_noise")
def test_hidden_values_do_not_matter(name: str, task: Task) -> None:
    model, batch = built(name, task, 2).eval(), batch_of(task, 5, 2)
    changed = dataclasses.replace(batch, x=batch.x + 7 * (1 - batch.mask))
    with torch.no_grad():
        a, b = (model.predict(b, 2, seeded()) for b in (batch, changed))
    assert torch.equal(a.mean, b.mean), "a prediction looks at hidden values"
    assert torch.equal(a.std, b.std), "a deviation looks at hidden values"


@generators
@pytest.mark.parametrize("channels", [1, 3])
def test_sample(name: str, channels: int) -> None:
    model = disturbed(built(name, channels=channels)).eval()
    t = torch.linspace(0, 1, LENGTH)
    with torch.no_grad():
        x = model.sample(5, t, seeded())
        assert x.shape == (5, LENGTH, channels), "a sample is (n, L, D)"
        assert x.dtype == torch.float32, "samples are float32"
        assert x.isfinite().all(), "samples must be finite"
        torch.manual_seed(77)  # the global stream must not matter
        assert torch.equal(x, model.sample(5, t, seeded())), "sampling is not reproducible"
        assert not torch.equal(x, model.sample(5, t, seeded(1))), (
            "sampling ignores its generator: two seeds give the same samples"
        )
        assert (x[0] - x[1]).abs().max() > 0, "all samples are the same"


@generators
def test_state_round_trip(name: str) -> None:
    model = disturbed(built(name)).eval()
    other = built(name, seed=1, data_seed=1).eval()
    t = torch.linspace(0, 1, LENGTH)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    with torch.no_grad():
        x = model.sample(3, t, seeded())
        assert not torch.equal(x, other.sample(3, t, seeded())), (
            "samples ignore the weights: they are the same after all weights were changed"
        )
        other.load_state_dict(load(save(state)))
        assert torch.equal(x, other.sample(3, t, seeded())), "there is state outside state_dict"


@every_prediction
@pytest.mark.usefixtures("no_noise")
def test_prediction_does_not_depend_on_its_batch(name: str, task: Task) -> None:
    model, batch = built(name, task, 2).eval(), batch_of(task, 5, 2)
    others = [3, 1, 4, 0, 2]
    with torch.no_grad():
        together = model.predict(batch, 2, seeded())
        s, *shape = together.mean.shape
        assert s in (1, 2) and tuple(shape) == batch.x.shape, "mean is (S, B, L, D), S = 1 or draws"
        std = together.std.expand(together.mean.shape)
        assert (std > 0).all(), "a deviation is positive"
        permuted = model.predict(select(batch, others), 2, seeded())
        assert torch.allclose(permuted.mean, together.mean[:, others], atol=1e-5), (
            "a prediction depends on the record's place in the batch"
        )
        assert torch.allclose(permuted.std.expand_as(std), std[:, others], atol=1e-5), (
            "a deviation depends on the record's place in the batch"
        )
        for i in range(5):
            length = int((batch.mask + batch.target)[i].any(-1).nonzero().max()) + 1
            record = Batch(*(a[[i], :length] for a in (batch.x, batch.t, batch.mask, batch.target)))
            alone = model.predict(record, 2, seeded())
            assert torch.allclose(alone.mean[:, 0], together.mean[:, i, :length], atol=1e-5), (
                "a record's prediction depends on its neighbours or its padding"
            )


@every_task
def test_evidence_bound(name: str, task: Task) -> None:
    model, batch = built(name, task, 2).eval(), batch_of(task, 5, 2)
    if type(model).neg_elbo is Model.neg_elbo:
        pytest.skip("no evidence bound")
    with torch.no_grad():
        bound = model.neg_elbo(batch, seeded())
        assert bound.kl.shape == bound.nll.shape == (5,), "one number a record"
        assert bound.kl.isfinite().all(), "the KL must be finite"
        assert (bound.kl >= -1e-4).all(), "the KL cannot be negative"
        hidden = dataclasses.replace(batch, target=torch.zeros_like(batch.mask))
        assert not model.neg_elbo(hidden, seeded()).nll.any(), (
            "without a target there is no likelihood"
        )


def test_every_model_file_has_a_name_that_paths_can_carry() -> None:
    for kind in ("models", "datasets"):
        for name in catalogue.available(kind):
            catalogue.check_name(kind, name)


@every_task
@pytest.mark.usefixtures("no_noise")
def test_the_final_objective_comes_after_the_warm_up(name: str, task: Task) -> None:
    model, batch = built(name, task, 2).eval(), batch_of(task, 5, 2)
    if type(model).loss is Model.loss:
        pytest.skip("no single loss")
    assert model.warm_up >= 0, "`warm_up` is a number of steps"

    def value(step: int) -> float:
        with torch.no_grad():
            return model.loss(batch, step, seeded()).value.item()

    final = value(FINAL_STEP)
    assert value(2 * FINAL_STEP) == final, "at FINAL_STEP the loss must have its final form"
    assert abs(value(model.warm_up) - final) <= 0.06 * abs(final) + 0.1, (
        "`warm_up` must say how many steps the loss takes to its final form"
    )
