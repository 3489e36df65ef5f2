"""The contract, over every model in config/models/: `make check-model MODEL=name` runs one.

Tiny data, the model's `tiny` sizes. Each assertion says what a model that fails it has to mend.
"""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from datasets.base import Dataset
from datasets.synthetic import load as sines
from harness import grid
from harness.batches import batch_indices, make_batch
from harness.config import ModelFile, check, model_config
from harness.config import load as load_class
from harness.contract import Batch, Model
from harness.errors import UserError
from harness.trainer import build

LENGTH = 20
NAMES = [os.environ["MODEL"]] if os.environ.get("MODEL") else grid.available("models")
try:
    FILES = {name: grid.describe("models", name) for name in NAMES}
    CLASSES: dict[str, type[Model]] = {n: load_class(file["class"]) for n, file in FILES.items()}
except UserError as mistake:
    raise pytest.Collector.CollectError(f"error: {mistake}") from None  # shown without traceback

every_model = pytest.mark.parametrize("name", FILES)


def able(task: str) -> pytest.MarkDecorator:
    """All models that declare a task."""
    return pytest.mark.parametrize("name", [n for n, c in CLASSES.items() if task in c.tasks])


def data(channels: int = 1) -> Dataset:
    return sines(
        [], name="sines", title="Sines", n=24, length=LENGTH, channels=channels, seed=0,
        split={"seed": 0, "fractions": [0.7, 0.1, 0.2]},
    )  # fmt: skip


def built(name: str, channels: int = 1, seed: int = 0) -> Model:
    spec = {
        "class": FILES[name]["class"],
        "config": FILES[name]["tiny"],
        "model": name,
        "seed": seed,
    }
    return build(spec, data(channels), torch.device("cpu"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gappy(batch: Batch) -> Batch:
    """The batch with about half of its values hidden, one record seeing nothing of channel 0."""
    mask = (torch.rand(batch.x.shape, generator=seeded(5)) < 0.5).float()
    mask[0, :, 0] = 0
    return dataclasses.replace(batch, mask=mask, target=mask)


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace normal noise by zeros, so that predictions are functions of the batch alone."""
    monkeypatch.setattr(
        torch, "randn", lambda *size, generator=None, **like: torch.zeros(*size, **like)
    )


@every_model
def test_file_and_configuration(name: str) -> None:
    where = f"config/models/{name}.yaml"
    file = check(ModelFile, FILES[name], where)
    grid.check_dataset_names(FILES[name], where)
    model_class = CLASSES[name]
    assert issubclass(model_class, Model), "derive the class from harness.contract.Model"
    assert model_class.tasks, "declare the tasks"
    assert dataclasses.is_dataclass(model_class.Config), "Config must be a dataclass"
    assert model_class.Config.__dataclass_params__.frozen, "Config must be frozen"
    for changes in (file.config, file.tiny, *file.datasets.values()):
        model_config(model_class, {**file.config, **changes}, name)
    with pytest.raises(UserError, match="unknown field 'wdith', expected one of"):
        model_config(model_class, {"wdith": 3}, name)
    assert {"smoke", "cpu", "paper"} <= file.training.keys(), "give all three budgets"


@every_model
def test_knows_no_data_set(name: str) -> None:
    for path in grid.source_files(FILES[name]["class"].split(":")[0]):
        text = (grid.ROOT / path).read_text()
        for dataset in ("fred_md", "nn5_daily", "solar_weekly", "temperature_rain", "flame"):
            assert dataset not in text, f"{path} names the data set {dataset}"


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_training_step(name: str, channels: int) -> None:
    model = built(name, channels)
    dataset = data(channels)
    optimisers = model.optimisers()
    batch = make_batch(dataset, dataset.train[:6])
    for loss in model.training_step(batch, 0, seeded()):
        assert loss.value.shape == (), "a loss is a scalar"
        assert loss.value.isfinite(), "the first loss must be finite"
        assert loss.optimiser in optimisers, "name an optimiser that optimisers() builds"
        assert all(v.shape == () for v in loss.logs.values()), "logs are scalars"
        loss.value.backward()
    owned = [p for o in optimisers.values() for g in o.optimiser.param_groups for p in g["params"]]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters() if p.requires_grad}, (
        "the optimisers must cover the parameters exactly"
    )


@every_model
def test_same_seed_same_weights(name: str) -> None:
    def after_three_steps(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)  # the global stream must not matter
        model, generator, dataset = built(name, seed=seed), seeded(seed), data()
        before = torch.get_rng_state()
        optimisers = model.optimisers()
        for step in range(3):
            batch = make_batch(dataset, batch_indices(dataset.train, 6, step, seed))
            for loss in model.training_step(batch, step, generator):
                optimisers[loss.optimiser].optimiser.zero_grad()
                loss.value.backward()
                optimisers[loss.optimiser].optimiser.step()
        assert torch.equal(before, torch.get_rng_state()), "draw from the generator, not globally"
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(after_three_steps(0, 1), after_three_steps(0, 2)), "not reproducible"
    assert not torch.equal(after_three_steps(0, 1), after_three_steps(1, 1)), "the seed is ignored"


@every_model
def test_learns(name: str) -> None:
    model, dataset, generator = built(name), data(), seeded()
    if type(model).loss is Model.loss:
        pytest.skip("no single loss")
    batch = make_batch(dataset, dataset.train)
    batch = dataclasses.replace(batch, x=1 + 0.3 * batch.x)  # the mean alone is quickly learnt
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


@every_model
@pytest.mark.usefixtures("no_noise")
def test_hidden_values_do_not_matter(name: str) -> None:
    model, dataset = built(name, 2), data(2)
    if type(model).loss is Model.loss:
        pytest.skip("no single loss")
    batch = gappy(make_batch(dataset, dataset.train[:5]))
    changed = dataclasses.replace(batch, x=batch.x + 7 * (1 - batch.mask))
    with torch.no_grad():
        losses = [model.loss(b, 0, seeded()).value for b in (batch, changed)]
        assert torch.equal(*losses), "the loss looks at values outside mask and target"
        if "reconstruction" in model.tasks:
            a, b = (model.predict(b, 1, seeded()) for b in (batch, changed))
            assert torch.equal(a, b), "a prediction looks at hidden values"


@able("generation")
@pytest.mark.parametrize("channels", [1, 3])
def test_sample(name: str, channels: int) -> None:
    model = built(name, channels).eval()
    t = torch.linspace(0, 1, LENGTH)
    with torch.no_grad():
        x = model.sample(5, t, seeded())
        assert x.shape == (5, LENGTH, channels) and x.dtype == torch.float32
        assert x.isfinite().all()
        torch.manual_seed(77)  # the global stream must not matter
        assert torch.equal(x, model.sample(5, t, seeded())), "sampling is not reproducible"
        assert not torch.equal(x, model.sample(5, t, seeded(1))), "sampling ignores its generator"
        assert (x[0] - x[1]).abs().max() > 0, "all samples are the same"


@able("generation")
def test_state_round_trip(name: str) -> None:
    model, other = built(name).eval(), built(name, seed=1).eval()
    t = torch.linspace(0, 1, LENGTH)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    with torch.no_grad():
        x = model.sample(3, t, seeded())
        assert not torch.equal(x, other.sample(3, t, seeded()))
        other.load_state_dict(load(save(state)))
        assert torch.equal(x, other.sample(3, t, seeded())), "there is state outside state_dict"


@able("reconstruction")
@pytest.mark.usefixtures("no_noise")
def test_prediction_does_not_depend_on_its_batch(name: str) -> None:
    model, dataset = built(name, 2).eval(), data(2)
    batch = gappy(make_batch(dataset, dataset.train[:5]))

    def select(indices: list[int]) -> Batch:
        return Batch(*(a[indices] for a in (batch.x, batch.t, batch.mask, batch.target)))

    with torch.no_grad():
        together = model.predict(batch, 2, seeded())
        assert together.shape == (2, 5, LENGTH, 2)
        permuted = model.predict(select([3, 1, 4, 0, 2]), 2, seeded())
        assert torch.allclose(permuted, together[:, [3, 1, 4, 0, 2]], atol=1e-5)
        alone = model.predict(select([2]), 2, seeded())
        assert torch.allclose(alone[:, 0], together[:, 2], atol=1e-5)


@every_model
def test_evidence_bound(name: str) -> None:
    model, dataset = built(name, 2).eval(), data(2)
    if type(model).neg_elbo is Model.neg_elbo:
        pytest.skip("no evidence bound")
    batch = gappy(make_batch(dataset, dataset.train[:5]))
    with torch.no_grad():
        bound = model.neg_elbo(batch, seeded())
        assert bound.kl.shape == bound.nll.shape == (5,), "one number a record"
        assert bound.kl.isfinite().all() and (bound.kl >= -1e-4).all(), "KL cannot be negative"
        hidden = dataclasses.replace(batch, target=torch.zeros_like(batch.mask))
        assert not model.neg_elbo(hidden, seeded()).nll.any(), (
            "without a target there is no likelihood"
        )


def test_every_model_file_has_a_name_that_paths_can_carry() -> None:
    for kind in ("models", "datasets"):
        for name in grid.available(kind):
            assert name == Path(name).name and name.replace("_", "a").isalnum()
