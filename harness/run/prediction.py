"""Score predictions of hidden or given values: reconstruction, interpolation, extrapolation.

A model or an untrained control says for each test record what the values at its targets are; the
scores compare, in the data set's normalised units. docs/scores.md explains each name.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64

from harness.config import Evaluation
from harness.contract import Batch, Diverged, Model, NegElbo, Prediction
from harness.errors import UserError
from harness.records import Score
from harness.run import interpolators
from harness.run.view import View
from metrics.coverage import covered
from metrics.crps import crps_gaussian, crps_samples
from metrics.elbo import likelihood_floor
from metrics.error import Sums, bootstrap, ls4, macro, micro, sums

Indices = Int64[np.ndarray, "B"]  # of a batch's records in the data set
Predict = Callable[[Indices, Batch, int, torch.Generator], Prediction]

AVERAGES = {"micro": micro, "macro": macro, "ls4": ls4}
BATCH = 64  # records that are predicted at once
EXAMPLES = 3  # records, and channels, kept for the figures
BAND = (0.05, 0.95)
CENTRAL = 0.8  # probability of the interval whose coverage is scored


def predictor(model: Model, device: torch.device) -> Predict:
    """Return the function that predicts by a model.

    It raises a `UserError` for predictions of another shape and negative deviations.
    """
    where = f"{type(model).__name__}: predict: expected"

    def predict(_: Indices, batch: Batch, draws: int, generator: torch.Generator) -> Prediction:
        made = model.predict(batch.to(device), draws, generator)
        mean, std = made
        if mean.shape[1:] != batch.x.shape:
            shape = ", ".join(map(str, batch.x.shape))
            raise UserError(f"{where} a mean of shape (S, {shape}), found {tuple(mean.shape)}")
        if not _broadcasts(std.shape, mean.shape):
            shape = ", ".join(map(str, mean.shape))
            raise UserError(f"{where} a std that broadcasts to ({shape}), found {tuple(std.shape)}")
        if (std < 0).any():
            raise UserError(f"{where} a std of at least 0, found {std.min().item():g}")
        return made

    return predict


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def control_predictor(view: View, name: str) -> Predict:
    """Fit a control to all that was observed of the training records, and return its function."""
    dataset, train = view.dataset, view.dataset.train
    control = interpolators.fit(name, dataset.x[train], dataset.t[train], dataset.mask[train])

    def predict(_: Indices, batch: Batch, draws: int, generator: torch.Generator) -> Prediction:
        mean, std = control.predict(
            batch.visible.numpy(), batch.t.numpy(), batch.mask.numpy().astype(bool)
        )
        mean, std = (torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (mean, std))
        return Prediction(mean[None], std)

    return predict


def stored(test: Int64[np.ndarray, "n"], made: Prediction) -> Predict:
    """Return the function that looks predictions up, whatever number of draws is asked for.

    Parameters
    ----------
    test : (n,)
        Sorted indices of the records that they are of.
    made : Prediction
        `mean` and `std` of shape (S, n, L, D); what L has beyond a batch's rows is padding.
    """

    def predict(indices: Indices, batch: Batch, _: int, generator: torch.Generator) -> Prediction:
        at = torch.from_numpy(np.searchsorted(test, indices))
        length = batch.x.shape[1]
        return Prediction(*(array[:, at, :length] for array in made))

    return predict


def test_batches(view: View, size: int) -> Iterator[Indices]:
    """Yield the test records, those of similar length together, so that there is little padding.

    On the grid ``union`` they come in their own order, as in the released codes: which records
    share a batch decides on its rows.
    """
    ordered = view.dataset.test
    if view.grid != "union":
        length = view.dataset.mask[ordered].any(-1).sum(1)
        ordered = ordered[np.argsort(length, kind="stable")]
    yield from np.split(ordered, range(size, len(ordered), size))


@torch.no_grad()
def score(
    view: View,
    predict: Predict,
    settings: Evaluation,
    size: int,
    generator: torch.Generator,
    descriptors: Sequence[str] = (),
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Return the scores of predictions for all test records, and the errors of single records.

    Parameters
    ----------
    view : View
        The data set as the task shows it.
    predict : function
        A model's or a control's.
    settings : Evaluation
        How many draws from each predictive distribution, and at which shares of hidden points.
    size : int
        Records in a batch.
    generator : torch.Generator
        On the predictor's device.
    descriptors : names of channels
        That are no time series; the robust scores leave them out.

    Returns
    -------
    scores : list of Score
    errors : dict
        ``record`` (N,) indices into the data set, ``group`` (N,) of records that are not
        independent, ``count`` (N,) scored values of the time series, ``squared``, ``crps`` (N,)
        sums of their errors: what paired comparisons of rows need.

    Raises
    ------
    Diverged
        If a prediction is not finite.
    """

    def total_errors(draws: int, hidden: float | None = None) -> dict[str, Sums]:
        found: dict[str, list[Sums]] = {}
        for indices in test_batches(view, size):
            batch = view.batch(indices, hidden)
            prediction = predict(indices, batch, draws, generator)
            for name, part in _errors(batch, prediction, generator).items():
                found.setdefault(name, []).append(part)
        return {name: Sums.concatenate(parts) for name, parts in found.items()}

    total = total_errors(settings.draws)
    scores = [
        _average(f"{quantity}_{average}", total[quantity], average)
        for quantity in ("mse", "crps")
        for average in AVERAGES
    ]
    scores += [_average(f"mse_draw_{average}", total["mse_draw"], average) for average in AVERAGES]
    scores.append(_average("crps_literal", total["crps_literal"], "ls4"))
    series = _channels(view, descriptors, are=False)
    robust = {name: total[name].of_channels(series) for name in ("mse", "crps", "covered")}
    scores += [
        _average("mse_robust", robust["mse"], "micro"),
        _average("crps_robust", robust["crps"], "micro"),
        _average(f"coverage_{round(100 * CENTRAL)}", robust["covered"], "micro"),
    ]
    if descriptors:
        apart = total["mse"].of_channels(_channels(view, descriptors, are=True))
        scores.append(_average("mse_descriptors", apart, "micro"))
    if view.task == "reconstruction":
        scores.append(_average("mse_first_row_given", total["mse_first_row_given"], "ls4"))
    if view.task == "interpolation":
        for share in settings.shares:
            name = f"mse_micro_hidden_{round(100 * share)}"
            at_share = total_errors(settings.share_draws, share)
            scores.append(_average(name, at_share["mse"], "micro"))
    records = np.concatenate(list(test_batches(view, size)))
    errors = {
        "record": records,
        "group": view.dataset.groups[records],
        "count": robust["mse"].count.sum(1),
        "squared": robust["mse"].total.sum(1),
        "crps": robust["crps"].total.sum(1),
    }
    return scores, errors


def validation_error(view: View, predict: Predict, size: int, generator: torch.Generator) -> Score:
    """Return the mean squared error on the validation records: it chooses between controls."""
    indices = view.dataset.validation
    found = []
    for some in np.split(indices, range(size, len(indices), size)):
        batch = view.batch(some)
        prediction = predict(some, batch, 1, generator)
        error = (prediction.mean.mean(0).double().cpu().numpy() - batch.x.numpy()) ** 2
        found.append(sums(error, batch.target.numpy().astype(bool)))
    return _average("mse_validation", Sums.concatenate(found), "micro")


def _channels(view: View, descriptors: Sequence[str], are: bool) -> Int64[np.ndarray, "_"]:
    """Return the channels that are descriptors, or those that are not."""
    names = view.dataset.meta.get("channels") or []
    known = np.zeros(view.dataset.x.shape[2], dtype=bool)
    for name in descriptors:
        if name not in names:
            raise UserError(
                f"data set {view.dataset.name}: descriptors: expected channels among"
                f" {', '.join(names)}, found {name}"
            )
        known[names.index(name)] = True
    return np.flatnonzero(known == are)


def _errors(batch: Batch, prediction: Prediction, generator: torch.Generator) -> dict[str, Sums]:
    """Errors of a batch, summed over time, by the quantity that they are of."""
    x, target = batch.x.numpy(), batch.target.numpy().astype(bool)
    mean = prediction.mean
    at = torch.from_numpy(target).to(mean.device)
    means = mean[:, at]  # (S, n): what follows needs the targets alone
    std = prediction.std.expand(mean.shape)[:, at]
    if not (means.isfinite().all() and std.isfinite().all()):
        raise Diverged("prediction: not finite")
    noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
    samples = (means + std * noise).cpu().numpy()
    mu, sd, truth = means.double().cpu().numpy(), std.double().cpu().numpy(), x[target]
    gaussian = crps_gaussian(truth, mu[0], sd[0])
    entries = {
        "mse": (mu.mean(0) - truth) ** 2,
        "mse_draw": (mu[0] - truth) ** 2,
        # one Gaussian needs no samples
        "crps": gaussian if len(mu) == 1 else crps_samples(truth, samples),
        "crps_literal": gaussian,
        "covered": covered(truth, mu, sd, samples, CENTRAL).astype(np.float64),
    }
    # As if a record's first row were known: the code of Rubanova et al. (2019) copies it.
    first = target & (np.cumsum(target.any(-1), axis=1) == 1)[..., None]
    entries["mse_first_row_given"] = np.where(first[target], 0.0, entries["mse_draw"])

    def in_place(values: np.ndarray) -> np.ndarray:
        out = np.zeros(x.shape)
        out[target] = values
        return out

    return {name: sums(in_place(values), target) for name, values in entries.items()}


def _average(name: str, total: Sums, average: str) -> Score:
    value = AVERAGES[average](total)
    spread = bootstrap(AVERAGES[average], total, seed=0)
    return Score(name=name, value=value, spread=spread, n=int((total.count.sum(1) > 0).sum()))


@torch.no_grad()
def evidence(
    view: View, model: Model, size: int, device: torch.device, generator: torch.Generator
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """Return the negative ELBO of the test records in nats, and its parts; none without a bound.

    The floor is the likelihood of a model that predicts every target exactly with the fixed
    deviation ``config.sigma``; models whose settings have no `sigma` have none.

    Returns
    -------
    scores : list of Score
    bounds : dict
        ``neg_elbo`` (N,) of each record, in the order of the errors that `score` returns.
    """
    if type(model).neg_elbo is Model.neg_elbo:
        return [], {}
    parts, counts = [], []
    for indices in test_batches(view, size):
        batch = view.batch(indices)
        parts.append(
            NegElbo(*(a.double().cpu() for a in model.neg_elbo(batch.to(device), generator)))
        )
        counts.append(batch.target.sum((1, 2)).double())
    kl, nll = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    n_values = torch.cat(counts).numpy()
    sigma = getattr(model.config, "sigma", None)

    def mean(name: str, values: Float[np.ndarray, "n"]) -> Score:
        spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        return Score(name=name, value=float(values.mean()), spread=spread, n=len(values))

    per_value = float((kl + nll).sum() / n_values.sum())
    scores = [
        mean("neg_elbo", kl + nll),
        Score(name="neg_elbo_per_value", value=per_value, n=int(n_values.sum())),
        mean("neg_elbo_kl", kl),
        mean("neg_elbo_nll", nll),
    ]
    if sigma is not None:
        floor = np.asarray(likelihood_floor(n_values, sigma))
        scores += [mean("neg_elbo_floor", floor), Score(name="neg_elbo_sigma", value=sigma)]
    return scores, {"neg_elbo": kl + nll}


@torch.no_grad()
def examples(
    view: View, predict: Predict, draws: int, generator: torch.Generator
) -> dict[str, np.ndarray]:
    """Predict a few long test records, in their most observed channels, for the figures.

    Returns
    -------
    dict
        ``records`` (k,) indices into the data set, ``channels`` (c,); ``t`` (k, L); ``shown``,
        ``target`` (k, L, c) which values the model saw and which are scored; ``mean``, ``low``,
        ``high`` (k, L, c) of the predictive distribution, the ends of its 5-95 % band. The observed
        values are not among them: most sources may not be passed on.
    """
    dataset = view.dataset
    length = dataset.mask[dataset.test].any(-1).sum(1)
    records = dataset.test[length >= np.median(length)][:EXAMPLES]
    observed = dataset.mask[dataset.train].sum((0, 1))
    channels = np.sort(np.argsort(-observed, kind="stable")[:EXAMPLES])
    batch = view.batch(records)
    prediction = predict(records, batch, draws, generator)
    mean = prediction.mean[..., channels].cpu()
    std = prediction.std.cpu().expand(prediction.mean.shape)[..., channels]
    if len(mean) == 1:
        half = 1.645 * std[0]
        low, high = mean[0] - half, mean[0] + half
    else:
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        low, high = np.quantile((mean + std * noise).numpy(), BAND, axis=0)
    return {
        "records": records,
        "channels": channels,
        "t": batch.t.numpy(),
        "shown": batch.mask[..., channels].numpy().astype(bool),
        "target": batch.target[..., channels].numpy().astype(bool),
        "mean": mean.mean(0).numpy(),
        "low": np.asarray(low),
        "high": np.asarray(high),
    }
