"""What the YAML files may say: a pydantic model for each kind of file.

Unknown keys are errors everywhere. A model's own hyper-parameters are a dataclass beside the model;
`harness.checks.model_config` checks them just as strictly.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from harness.checks import Frozen
from harness.sweeps import Entry
from harness.tasks import Task

DEFAULT_ORDER = 100  # of a model among the rows
REFERENCE = r"^[\w.]+:\w+$"  # module:name
Grid = Literal["record", "union"]
Seed = Annotated[int, Field(ge=0)]


def _folder(name: str) -> str:
    # Snakemake takes braces for wildcards, and <...> for parts of its own; commands take a word
    # that begins with a dash for an option.
    if not re.fullmatch(r"[^-{}<>\x00-\x1f][^{}<>\x00-\x1f]*(?<!\s)", name):
        raise ValueError(
            "expected the name of a folder, without { } < >, a dash at its beginning or a space at"
            f" its end, found {name!r}"
        )
    return name


Folder = Annotated[str, AfterValidator(_folder)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(Frozen):
    """Settings: numbers are finite, too."""

    model_config = ConfigDict(allow_inf_nan=False)


class GridBlock(Strict):
    """A product of data sets and rows; the grid is the union of its blocks."""

    task: Task
    datasets: list[str] = Field(min_length=1, description="names in config/datasets/")
    models: list[Entry] = Field(description="names in config/models/, or sweeps")
    controls: list[str] = Field(description="untrained rows, names in config/controls.yaml")
    seeds: list[Seed] = Field(min_length=1, description="training seeds; one cell each")
    trace: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="optimiser steps at which the models' scores are followed, in generation"
    )

    @model_validator(mode="after")
    def _has_rows(self) -> "GridBlock":
        if not self.models and not self.controls:
            raise ValueError("expected models or controls, found neither")
        return self

    @model_validator(mode="after")
    def _traces_generation(self) -> "GridBlock":
        if self.trace and self.task != "generation":
            raise ValueError(f"trace: expected the task generation, found {self.task}")
        return self


class Protocol(Strict):
    """What interpolation and extrapolation hide."""

    hidden: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of a record's time points hidden in interpolation",
    )
    cut: Literal["time", "count"] = Field(
        default="time",
        description="extrapolate from the middle of the time axis, or, on the grid union, from the"
        " middle row of each batch, as released",
    )
    seed: Seed = Field(default=0, description="of the choice of hidden time points")


class Evaluation(Strict):
    """How samples and predictions are scored."""

    fits: int = Field(5, ge=1, description="evaluator fits of the robust scores")
    epochs: int = Field(
        100, ge=1, description="epochs of an evaluator fit; the paper's scores: 100"
    )
    splits: int = Field(100, ge=1, description="random splits that the tests' power is measured on")
    permutations: int = Field(
        199,
        ge=19,
        description="of labels, of a test in such a split; with fewer, no p reaches 5 %",
    )
    draws: int = Field(100, ge=1, description="draws from a predictive distribution")
    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.1, 0.3, 0.7, 0.9], description="shares of hidden points, beside the protocol's, to score"
    )
    share_draws: int = Field(10, ge=1, description="draws at these other shares")

    @field_validator("shares")
    @classmethod
    def _named_by_percent(cls, shares: list[float]) -> list[float]:
        percent = [round(100 * share, 9) for share in shares]
        if any(p != int(p) for p in percent) or len(set(percent)) < len(percent):
            raise ValueError(f"expected different shares in whole percent, found {shares}")
        return shares


class RunTimes(Strict):
    """Measurements of run time: every model at every length, on made-up data."""

    models: list[str] = Field(min_length=1, description="names in config/models/")
    lengths: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, description="time steps")
    limit: float = Field(gt=0, description="seconds of a measurement")


class Runtime(RunTimes):
    """The runtime experiment, figure 3, and the same for models of equal size."""

    models: list[str] = Field(
        description="names in config/models/; none where only `sizes` are to be measured"
    )
    sizes: dict[str, RunTimes] = Field(
        {}, description="measurements of models of one size, by its name in their files"
    )

    @model_validator(mode="after")
    def _measures_something(self) -> "Runtime":
        if not self.models and not self.sizes:
            raise ValueError("expected models, here or in sizes, found none")
        return self


class DataOverride(Strict):
    """Changes to ``config/datasets/<name>.yaml``: the keys that can shrink a data set."""

    shard_options: dict[str, Any] = Field({})
    options: dict[str, Any] = Field({})


class Settings(Strict):
    """``config/config.yaml`` and the files that change it."""

    budget: str = Field(
        pattern=r"^\w+$", description="how much training a cell gets (config/budgets.yaml)"
    )
    grid: list[GridBlock] = Field(min_length=1)
    evaluation: Evaluation
    protocol: Protocol = Protocol()
    runtime: Runtime | None = Field(None, description="what figure 3 measures; nothing without it")
    datasets: dict[str, DataOverride] = Field({}, description="changes to data sets, by name")
    results: Folder = Field("results", description="folder of everything generated")
    data: Folder = Field("data", description="folder of everything downloaded")
    mirror: str | None = Field(
        None, description="folder that holds the sources already; LS4_MIRROR in the environment too"
    )
    tracking_uri: str | None = Field(
        None,
        pattern=r"^(sqlite|https?|postgresql|mysql|mssql)(\+\w+)?://.",
        description="MLflow server or database, such as http://127.0.0.1:5000; by default an SQLite"
        " file under results",
    )
    container: str | None = Field(
        None, description="image that jobs run in with --sdm apptainer, made from Dockerfile"
    )


class Training(Strict):
    """How one budget trains a model (``training: <budget>:`` in ``config/models/<name>.yaml``)."""

    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(ge=1)
    time_limit: float | None = Field(None, gt=0, description="minutes; then status timeout")
    log_every: int = Field(10, ge=1, description="steps between rows of the history")
    checkpoint_every: float = Field(2.0, ge=0, description="minutes between checkpoints")
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after so many steps without a better validation loss, and score the"
        " weights of the best one; `steps` are then the most that are taken",
    )
    validate_every: int | None = Field(
        None, ge=1, description="steps between validation losses; by default `log_every`"
    )
    grid: Grid = Field(
        "record", description="time grid of a batch: each record's own, or the union"
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="score an exponential moving average of the weights"
    )
    ema_start: int = Field(0, ge=0, description="steps that do not enter it")
    swa_start: int | None = Field(
        None, ge=0, description="score the plain mean of the weights after this many steps instead"
    )

    @property
    def average_from(self) -> int | None:
        """Steps before those whose weights are averaged; None if the last weights are scored."""
        return self.swa_start if self.ema_decay is None else self.ema_start

    @property
    def validation_interval(self) -> int:
        """Steps between validation losses."""
        return self.validate_every or self.log_every

    @model_validator(mode="after")
    def _one_average(self) -> "Training":
        if self.ema_decay is not None and self.swa_start is not None:
            raise ValueError("expected one of ema_decay and swa_start, found both")
        return self


class TrainingChanges(Training):
    """What one data set changes of a budget's training; what is not given stays."""

    steps: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    config: dict[str, Any] = Field({}, description="fields of the model that this budget changes")


class BudgetTraining(Training):
    """A budget's training with changes by data set, or by task/data set."""

    config: dict[str, Any] = Field({}, description="fields of the model that this budget changes")
    datasets: dict[str, TrainingChanges] = Field({})


class Shown(Strict):
    """What every ``config/models/<name>.yaml`` says to those who show results."""

    label: str = Field(description="how tables and figures call it")
    group: str = Field(description="kind of model, for readers of long tables")
    order: int = Field(
        DEFAULT_ORDER, description="place among the rows; rows of one place go by name"
    )
    colour: str | None = Field(
        None, pattern=r"^#[0-9A-Fa-f]{6}$", description="in all figures; assigned without it"
    )
    extends: str | None = Field(
        None, description="model whose settings are taken over; this file says what differs"
    )


class ModelFile(Shown):
    """``config/models/<name>.yaml`` of a model in Python that the benchmark trains."""

    variant_of: str | None = Field(
        None, description="model beside which it stands, in the table of variants alone"
    )
    class_: str = Field(alias="class", pattern=REFERENCE, description="module:Class")
    config: dict[str, Any] = Field({}, description="fields that differ from the model's defaults")
    datasets: dict[str, dict[str, Any]] = Field(
        {},
        description="the same by data set, family of data sets, or task/either; later ones win:"
        " family, data set, task/family, task/data set",
    )
    tiny: dict[str, Any] = Field(
        {}, description="fields that make it small, for the contract tests"
    )
    sizes: dict[str, dict[str, Any]] = Field(
        {},
        description="fields that give it about as many parameters as the key says, for run times",
    )
    training: dict[str, BudgetTraining]


class ControlEntry(Strict):
    """An entry of ``config/controls.yaml``."""

    label: str
    tasks: list[Task] = Field(["generation"], min_length=1)
    draw: str | None = Field(
        None, pattern=REFERENCE, description="module:function (training series, n, rng) -> series"
    )


class Split(Strict):
    """How the series of a data set are divided."""

    seed: Seed
    fractions: tuple[Share, Share, Share] = Field(description="train, validation, test")

    @field_validator("fractions")
    @classmethod
    def _partition(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if fractions[0] == 0 or not math.isclose(sum(fractions), 1):
            found = ", ".join(f"{share:g}" for share in fractions)
            raise ValueError(f"expected a share for training and a sum of 1, found {found}")
        return fractions


class DatasetFile(Strict):
    """``config/datasets/<name>.yaml``."""

    title: str
    extends: str | None = Field(
        None, description="data set whose description is taken over; this file says what differs"
    )
    family: str | None = Field(
        None, description="what models' files may call it by, together with its like"
    )
    loader: str = Field(pattern=REFERENCE, description="module:function -> Dataset")
    files: list[str] = Field(
        [], description="paths in datasets/manifest.yaml, or of files of one's own"
    )
    shards: list[int] = Field([], description="parts that are generated in parallel")
    shard: str | None = Field(None, pattern=REFERENCE, description="module:function")
    shard_options: dict[str, Any] = Field({})
    options: dict[str, Any] = Field({}, description="arguments of the loader")
    split: Split
    optional: bool = Field(
        False, description="where the files cannot be had, cells are skipped instead of failing"
    )
    prediction_output: Literal["identity", "sigmoid"] = "identity"
    evaluator_series: int | None = Field(
        None,
        ge=3,
        description="how many test series, and samples, evaluators are given: the first; or all",
    )
    season: int | None = Field(None, ge=1, description="time steps of a season, if there is one")
    standardised: bool = Field(
        False, description="every real series has mean 0 and deviation 1 by its preparation"
    )
    own_scores: str | None = Field(
        None,
        pattern=REFERENCE,
        description="module:function of scores only this set has: (real, fake) -> numbers by name",
    )
    controls: dict[str, ControlEntry] = Field(
        {}, description="rows of generation that only this set has, in the unit before scaling"
    )

    descriptors: list[str] = Field(
        [], description="channels that are no time series; robust scores of predictions omit them"
    )
    transition: bool = Field(
        False, description="draw figure 1 of the paper: means and histograms of the first steps"
    )

    @property
    def scoring_references(self) -> list[str]:
        """Functions that score this data set alone: its own scores and controls."""
        own = [self.own_scores, *(control.draw for control in self.controls.values())]
        return [reference for reference in own if reference]
