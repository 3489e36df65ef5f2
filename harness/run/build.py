"""From a cell's description to its model: new, shown the training series, or trained."""

from pathlib import Path

import torch

from datasets.base import Dataset
from harness.cells import CellSpec
from harness.contract import Model, Shape, Task
from harness.errors import UserError
from harness.grid import resolve
from harness.run.memory import OutOfMemory, raising_out_of_memory
from harness.run.outcome import make_again, read_weights
from harness.run.streams import seed_of
from harness.run.view import View


def build(spec: CellSpec, dataset: Dataset, device: torch.device) -> Model:
    """Build the model of a cell.

    Initial weights come from torch's global stream on the CPU, seeded inside a fork: nothing leaks
    out.

    Raises
    ------
    UserError
        If the class or its configuration is wrong, or does not suit the data.
    """
    model_class, config = resolve(spec)
    shape = Shape(*dataset.x.shape[1:])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(spec, "weights"))
        try:
            with raising_out_of_memory():
                model = model_class(config, shape)
        except OutOfMemory:
            raise
        # such as a length that pooling does not divide, or a negative size
        except (ValueError, RuntimeError, ArithmeticError) as error:
            text = str(error).partition("\n")[0]
            raise UserError(f"{spec.where}, data set {dataset.name}: {text}") from None
    return model.to(device)


def calibrate(model: Model, dataset: Dataset, task: Task) -> None:
    """Show a new model the training series."""
    if type(model).calibrate is not Model.calibrate:
        device = next(iter(model.state_dict().values())).device
        with torch.no_grad():
            model.calibrate(View(dataset, task).batch(dataset.train).to(device))


def load_trained(spec: CellSpec, dataset: Dataset, weights: Path, device: torch.device) -> Model:
    """Build a model and load its trained weights.

    Raises
    ------
    UserError
        If the weights are absent, damaged, or of a model with other parameters.
    """
    model, state = build(spec, dataset, device), read_weights(weights)
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise UserError(
            f"{weights}: expected the parameters of {spec.class_}, found others;"
            f" {make_again(weights)}"
        ) from None
    return model.eval()
