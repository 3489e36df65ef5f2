r"""Controls that predict: rows of reconstruction, interpolation and extrapolation without training.

Each learns a few numbers a channel from all that was observed of the training records, then says
from what a test record shows what its values are at every grid point, channel by channel.

========  =============================================================  ====================
name      mean                                                           standard deviation
========  =============================================================  ====================
mean      the training mean                                              that of the training
locf      the last value shown; the training mean before the first       0
linear    linear in time between values shown, constant beyond them      0
gp        posterior mean of a Gaussian process                           posterior, with noise
========  =============================================================  ====================

Where a record shows nothing of a channel, locf and linear return the training mean, gp its prior.
A standard deviation of 0 is a point forecast, whose CRPS is the absolute error. In reconstruction,
where the values to predict are shown, locf and linear make no error at all: that is what the task
asks for.

The Gaussian process, one for each channel d, independent from record to record:

.. math::

    x(t) = m + c + f(t) + \epsilon, \qquad
    c \sim N(0, a^2), \quad \epsilon \sim N(0, \sigma^2), \quad
    \mathrm{cov}(f(t), f(s)) = b^2 (1 + r) e^{-r}, \quad r = \sqrt{3} \, |t - s| / \ell

(Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equations 2.23-2.24 and
4.17), its parameters by maximum likelihood (equation 2.30) over some training records. A channel
that hardly any record shows twice is left to the training mean and deviation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import minimize
from torch import Tensor

Values = Float[np.ndarray, "B L D"]  # 0 where `mask` is False
Times = Float[np.ndarray, "B L"]  # in [0, 1], non-decreasing, padded at the end
Mask = Bool[np.ndarray, "B L D"]

RECORDS = 200  # of which a channel's likelihood is computed
VALUES = 64  # of each of them, at most
REPEATED = 10  # records that must show a channel twice or more
# Of m and the logarithms of a, b, sigma and ell; all but ell in units of the channel's deviation.
START = [0.0, *np.log([0.5, 0.5, 0.5, 0.1])]
BOUNDS = [(-5, 5), *[tuple(np.log(ends)) for ends in [(1e-3, 5)] * 3 + [(1e-3, 10)]]]
CHUNK = 2**22  # covariances of grid points and shown values at once: 32 MiB


class Forecast(NamedTuple):
    """A Gaussian for the value at every grid point; a point forecast where `std` is 0."""

    mean: Float64[np.ndarray, "B L D"]
    std: Float64[np.ndarray, "B L D"]


@dataclass(frozen=True)
class ChannelMean:
    """Training mean and deviation, 0 in a channel never observed; the others fall back on it."""

    mean: Float64[np.ndarray, "D"]
    std: Float64[np.ndarray, "D"]

    @classmethod
    def fit(cls, x: Values, t: Times, mask: Mask):
        observed = [x[..., d][mask[..., d]].astype(np.float64) for d in range(x.shape[2])]
        return cls(
            np.array([v.mean() if v.size else 0.0 for v in observed]),
            np.array([v.std() if v.size else 0.0 for v in observed]),
        )

    def predict(self, x: Values, t: Times, mask: Mask) -> Forecast:
        """Predict some records at every grid point, given what `mask` shows."""
        return Forecast(np.tile(self.mean, (*t.shape, 1)), np.tile(self.std, (*t.shape, 1)))


class LastValue(ChannelMean):
    """Last observation carried forward."""

    def predict(self, x: Values, t: Times, mask: Mask) -> Forecast:
        last = _last_shown(mask)
        mean = np.where(last < 0, self.mean, _at(x, last))
        return Forecast(mean, np.zeros_like(mean))


class Linear(ChannelMean):
    """Linear interpolation in time. Between values shown at one and the same time, the former."""

    def predict(self, x: Values, t: Times, mask: Mask) -> Forecast:
        last = _last_shown(mask)
        following = x.shape[1] - 1 - _last_shown(mask[:, ::-1])[:, ::-1]
        never = last[:, -1:] < 0
        # Before the first value both neighbours are the first, after the last both are the last.
        last, following = (
            np.where(last < 0, following, last),
            np.where(following >= x.shape[1], last, following),
        )
        before, after = _at(x, last), _at(x, following)
        t = t[..., None].astype(np.float64)
        start, gap = _at(t, last), _at(t, following) - _at(t, last)
        share = np.divide(t - start, gap, out=np.zeros_like(gap), where=gap > 0)
        mean = np.where(never, self.mean, before + share * (after - before))
        return Forecast(mean, np.zeros_like(mean))


class Kernel(NamedTuple):
    """Parameters of the Gaussian process of a channel, 0-d tensors in the module's symbols."""

    m: Tensor
    a: Tensor
    b: Tensor
    sigma: Tensor
    ell: Tensor

    def covariance(
        self, t: Float64[Tensor, "B N"], s: Float64[Tensor, "B M"]
    ) -> Float64[Tensor, "B N M"]:
        """Return cov(x(t), x(s)) without the noise."""
        r = (t[:, :, None] - s[:, None, :]).abs() * (math.sqrt(3) / self.ell)
        return self.a**2 + self.b**2 * (1 + r) * torch.exp(-r)


@dataclass(frozen=True)
class GaussianProcess(ChannelMean):
    """A Gaussian process for each channel that can have one, the training mean for the others."""

    kernels: Mapping[int, Kernel]

    @classmethod
    def fit(cls, x: Values, t: Times, mask: Mask):
        """Fit the channels in turn; the records and values that are used are a function of these.

        A channel's values are thinned at random, not cut short, to keep both near and far pairs.
        """
        prior = ChannelMean.fit(x, t, mask)
        kernels = {}
        for d in range(x.shape[2]):
            rng = np.random.default_rng(d)
            shown = mask[..., d]
            if np.count_nonzero(shown.sum(1) > 1) < REPEATED:
                continue
            records = rng.permutation(np.flatnonzero(shown.any(1)))[:RECORDS]
            given = _gather(x[records, :, d], t[records], _thin(shown[records], VALUES, rng))
            values = given.y[given.seen]
            if values.max() > values.min():
                kernels[d] = _maximum_likelihood(given)
        return cls(prior.mean, prior.std, kernels)

    def predict(self, x: Values, t: Times, mask: Mask) -> Forecast:
        forecast = super().predict(x, t, mask)
        for d, kernel in self.kernels.items():
            number = mask[..., d].sum(1)
            # Records that show about as much go together, so that little is padded.
            order = number.argsort(kind="stable")
            size = max(CHUNK // (t.shape[1] * max(number.max(), 1)), 1)
            for b in np.split(order, range(size, len(order), size)):
                given = _gather(x[b, :, d], t[b], mask[b, :, d])
                forecast.mean[b, :, d], forecast.std[b, :, d] = _posterior(kernel, given, t[b])
        return forecast


INTERPOLATORS: dict[str, type[ChannelMean]] = {
    "mean": ChannelMean,
    "locf": LastValue,
    "linear": Linear,
    "gp": GaussianProcess,
}


def fit(name: str, x: Values, t: Times, mask: Mask) -> ChannelMean:
    """Fit a control.

    Parameters
    ----------
    name : str
        Of `INTERPOLATORS`.
    x, t, mask : (N, L, D), (N, L), (N, L, D)
        Training records: values, times in [0, 1], and True where a value may be learnt from. What
        `x` is elsewhere does not matter.
    """
    return INTERPOLATORS[name].fit(x, t, mask)


def _last_shown(mask: Mask) -> Int[np.ndarray, "B L D"]:
    """Return the last row up to each row in which a channel is shown, -1 before the first."""
    rows = np.arange(mask.shape[1])[:, None]
    return np.maximum.accumulate(np.where(mask, rows, -1), axis=1)


def _at(values: np.ndarray, rows: Int[np.ndarray, "B L D"]) -> Float[np.ndarray, "B L D"]:
    """Return values of (B, L, D) or (B, L, 1) at other rows; rows off the grid get any value."""
    return np.take_along_axis(values, rows.clip(0, values.shape[1] - 1), axis=1)


class _Given(NamedTuple):
    """Values shown of one channel, padded at the end."""

    t: Float64[Tensor, "B N"]
    y: Float64[Tensor, "B N"]
    seen: Bool[Tensor, "B N"]


def _thin(
    shown: Bool[np.ndarray, "B L"], most: int, rng: np.random.Generator
) -> Bool[np.ndarray, "B L"]:
    """Keep at most `most` shown values of each record, at random."""
    rank = np.where(shown, rng.random(shown.shape), 2).argsort(1).argsort(1)
    return shown & (rank < most)


def _gather(
    y: Float[np.ndarray, "B L"], t: Float[np.ndarray, "B L"], shown: Bool[np.ndarray, "B L"]
) -> _Given:
    """Bring the shown values of each record together."""
    order = np.argsort(~shown, axis=1, kind="stable")[:, : shown.sum(1).max()]
    t, y, seen = (np.take_along_axis(a, order, 1) for a in (t, y, shown))
    return _Given(
        torch.from_numpy(t.astype(np.float64)),
        torch.from_numpy(y.astype(np.float64)),
        torch.from_numpy(seen),
    )


def _whiten(
    kernel: Kernel, given: _Given
) -> tuple[Float64[Tensor, "B N N"], Float64[Tensor, "B N 1"]]:
    """Return the Cholesky factor C of the covariance of what is given, and C^-1 (y - m).

    Padding is independent of the rest, has variance 1 and lies on its mean: it changes nothing.
    """
    seen = given.seen
    covariance = kernel.covariance(given.t, given.t) * (seen[:, :, None] & seen[:, None, :])
    noise = torch.where(seen, kernel.sigma**2, 1.0)
    factor = torch.linalg.cholesky(covariance + torch.diag_embed(noise))
    residual = ((given.y - kernel.m) * seen)[..., None]
    return factor, torch.linalg.solve_triangular(factor, residual, upper=False)


def _maximum_likelihood(given: _Given) -> Kernel:
    """Fit a kernel, in units of the mean and deviation of the values that are given."""
    values = given.y[given.seen]
    centre, scale = values.mean(), values.std(correction=0)
    given = given._replace(y=(given.y - centre) / scale)

    @torch.enable_grad()
    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.tensor(theta, requires_grad=True)
        factor, white = _whiten(_kernel(parameters), given)
        log_determinant = factor.diagonal(dim1=1, dim2=2).log().sum()
        loss = (0.5 * white.square().sum() + log_determinant) / len(values)
        (gradient,) = torch.autograd.grad(loss, parameters)
        return loss.item(), gradient.numpy()

    theta = minimize(objective, START, jac=True, bounds=BOUNDS, tol=1e-6).x
    fitted = _kernel(torch.from_numpy(theta))
    m, a, b, sigma = (scale * parameter for parameter in fitted[:4])
    return Kernel(centre + m, a, b, sigma, fitted.ell)


def _kernel(parameters: Float64[Tensor, "5"]) -> Kernel:
    """Read m and the logarithms of the others."""
    return Kernel(parameters[0], *parameters[1:].exp())


def _posterior(
    kernel: Kernel, given: _Given, t: Float[np.ndarray, "B L"]
) -> tuple[Float64[np.ndarray, "B L"], Float64[np.ndarray, "B L"]]:
    """Return mean and deviation of observations at `t` (Rasmussen and Williams, 2.25-2.26)."""
    factor, white = _whiten(kernel, given)
    grid = torch.from_numpy(t.astype(np.float64))
    cross = kernel.covariance(given.t, grid) * given.seen[..., None]
    half = torch.linalg.solve_triangular(factor, cross, upper=False)
    mean = kernel.m + (half * white).sum(1)
    explained = half.square().sum(1)
    variance = (kernel.a**2 + kernel.b**2 - explained).clamp(min=0) + kernel.sigma**2
    return mean.numpy(), variance.sqrt().numpy()
