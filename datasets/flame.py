r"""The FLAME problem: a flame ball that smoulders, ignites at once and then burns steadily.

.. math:: \frac{dx}{dt} = x^2 - x^p, \qquad x(0) = x_0 \in (0, 1), \quad p \ge 3

From small :math:`x_0` the solution creeps like :math:`1/(1/x_0 - t)`, ignites near
:math:`t = 1/x_0` and relaxes to 1 at rate :math:`p - 2`. It is stiff after ignition.

Symbols
-------
x, x0   radius of the flame, of its start; in (0, 1)
t       time; a shard holds t = 0, 1, ..., 1000
p       exponent of the loss term, 3..10
T(x)    time at which the solution passes x: the implicit solution, `implicit_time`
G_p(x)  its part that depends on p:  T(x) = 1/x0 - 1/x + G_p(x) - G_p(x0)
u       -ln(1 - x), in which the approach to 1 keeps its digits

The model problem with p = 3 is Shampine's; the family in p and the grid are those of
Zhou et al. 2023 (arXiv:2212.12749), which leaves the distribution of x0, the solver and the
normalisation open. Chosen here: x0 log-uniform on (0.01, 0.2), so that ignition falls into the
first tenth of the grid; Radau with the analytic Jacobian; no normalisation.

References
----------
Wanner & Hairer 1996, "Solving Ordinary Differential Equations II", on stiff problems.
Corless et al. 1996, "On the Lambert W function", Adv. Comput. Math. 5, 329-359.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from scipy.integrate import solve_ivp
from scipy.optimize import elementwise
from scipy.special import hyp2f1, wrightomega

from datasets import base
from datasets.errors import DataError
from datasets.files import load_arrays, save_arrays
from datasets.progress import progress

TIMES = np.arange(1001.0)  # of a shard
LENGTH = 1000  # what models see: the first 1000 times, as they divide by more pool sizes
TOLERANCE = 1e-6  # of a trajectory against the exact solution
U_ONE = 28.0  # from here on x = 1 within 1e-12; much closer to 1, SciPy's 2F1 is inf


def implicit_time(
    x: Float[np.ndarray, "*shape"], x0: float, p: int
) -> Float64[np.ndarray, "*shape"]:
    r"""Return T(x), the time at which the solution from `x0` passes `x`.

    .. math:: T(x) = 1/x_0 - 1/x + G_p(x) - G_p(x_0), \qquad G_3(x) = \ln\frac{x}{1-x}, \quad
        G_p(x) = \frac{x^{p-3}}{p-3}\,
        {}_2F_1\left(1, \tfrac{p-3}{p-2}; \tfrac{2p-5}{p-2}; x^{p-2}\right)

    by separation of variables. T increases with x; it is negative below `x0`, -inf at and below 0
    and inf at and above 1.
    """
    inside = (x > 0) & (x < 1)
    x_inside = np.where(inside, x, 0.5)
    time = 1 / x0 - 1 / x_inside + _g(x_inside, p) - _g(np.float64(x0), p)
    return np.where(inside, time, np.where(x <= 0, -np.inf, np.inf))


def _g(x: np.ndarray | np.float64, p: int) -> np.ndarray | np.float64:
    if p == 3:
        return np.log(x) - np.log1p(-x)
    q = p - 2
    return x ** (p - 3) / (p - 3) * hyp2f1(1, (p - 3) / q, (2 * p - 5) / q, x**q)


def exact(x0: float, t: Float[np.ndarray, "T"], p: int) -> Float64[np.ndarray, "T"]:
    r"""Return the exact solution at times `t` >= 0 from `x0` in (0, 1).

    For p = 3 it is :math:`x = 1 / (1 + W(a e^{a-t}))` with :math:`a = 1/x_0 - 1` and Lambert's W.
    The argument overflows for x0 < 1/710, hence the Wright omega function,
    :math:`W(e^z) = \omega(z)`. For p > 3 `implicit_time` is inverted in u.
    """
    if p == 3:
        a = 1 / x0 - 1
        return 1 / (1 + wrightomega(np.log(a) + a - t))

    def time(u: np.ndarray) -> np.ndarray:
        return implicit_time(-np.expm1(-u), x0, p)

    # Below the start by a hair, so that rounding cannot push T(lowest u) above t = 0.
    bracket = np.array([-np.log1p(-x0) * (1 - 1e-9), U_ONE])
    end = time(bracket)[1]
    root = elementwise.find_root(
        lambda u, t: time(u) - t, tuple(bracket), args=(np.minimum(t, end),)
    )
    return np.where(t >= end, 1.0, -np.expm1(-root.x))


def solve(x0: float, p: int, *, rtol: float, atol: float) -> Float64[np.ndarray, "1001"]:
    """Integrate one trajectory over the grid t = 0, 1, ..., 1000 with implicit Runge-Kutta."""
    solution = solve_ivp(
        lambda t, x: x**2 - x**p,
        (TIMES[0], TIMES[-1]),
        [x0],
        method="Radau",
        t_eval=TIMES,
        jac=lambda t, x: np.array([[2 * x[0] - p * x[0] ** (p - 1)]]),
        rtol=rtol,
        atol=atol,
    )
    if not solution.success:
        raise DataError(f"FLAME p = {p}, x0 = {x0}: the solver gave up: {solution.message}")
    return solution.y[0]


def first_error(
    x: Float64[np.ndarray, "T"], t: Float64[np.ndarray, "T"], x0: float, p: int
) -> int | None:
    """Return the first index at which `x` is `TOLERANCE` or more off the exact solution.

    T increases, so |x - exact| < tolerance is the same as T(x - tolerance) < t < T(x + tolerance):
    a test of every point that needs no root.
    """
    early = implicit_time(x - TOLERANCE, x0, p)
    late = implicit_time(x + TOLERANCE, x0, p)
    wrong = np.flatnonzero(~((early < t) & (t < late)))
    return int(wrong[0]) if len(wrong) else None


def generate_shard(
    p: int,
    n: int,
    seed: int,
    x0_range: Sequence[float] = (0.01, 0.2),
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n 1001"]]:
    """Solve `n` trajectories for one `p` from log-uniform starts and check every one of them.

    The starts depend on (seed, p) alone; fewer trajectories are the first of more.

    Returns
    -------
    x0 : (n,)
        Starts.
    x : (n, 1001)
        Values at t = 0, 1, ..., 1000.

    Raises
    ------
    DataError
        If a trajectory is 1e-6 or more off the exact solution anywhere, or an option is unusable.
    """
    low, high = x0_range
    if not (0 < low < high < 1 and p >= 3 and n >= 1):
        raise DataError(
            f"FLAME: expected p >= 3, n >= 1 and 0 < x0_range < 1, found p = {p}, n = {n}, "
            f"x0_range = {list(x0_range)}"
        )
    rng = np.random.default_rng([seed, p])
    x0 = np.exp(rng.uniform(np.log(low), np.log(high), size=n))
    x = np.empty((n, len(TIMES)))
    with progress() as bar:
        for i in bar.track(range(n), description=f"FLAME p = {p}"):
            x[i] = solve(x0[i], p, rtol=rtol, atol=atol)
            k = first_error(x[i], TIMES, x0[i], p)
            if k is not None:
                raise DataError(
                    f"FLAME p = {p}, trajectory {i} (x0 = {x0[i]:.6g}): expected an error below "
                    f"{TOLERANCE}, found {abs(x[i, k] - exact(x0[i], TIMES, p)[k]):.1e} "
                    f"at t = {TIMES[k]:g}"
                )
    return x0, x


def write_shard(
    path: Path,
    p: int,
    *,
    n: PositiveInt,
    seed: NonNegativeInt,
    x0_range: Sequence[PositiveFloat],
    rtol: PositiveFloat = 1e-8,
    atol: PositiveFloat = 1e-10,
) -> None:
    """Generate one shard and write it: `x` (n, 1001) in float32, `x0`, `p` and the options."""
    x0, x = generate_shard(p, n, seed, x0_range, rtol, atol)
    options = {
        "n": n,
        "seed": seed,
        "x0": f"log-uniform on {list(x0_range)}",
        "solver": "scipy Radau, analytic Jacobian",
        "rtol": rtol,
        "atol": atol,
        "largest error": f"< {TOLERANCE}",
    }
    arrays = {
        "x": x.astype(np.float32),
        "x0": x0,
        "p": np.int64(p),
        "options": np.array(json.dumps(options)),
    }
    save_arrays(Path(path), arrays)


def load(files: Sequence[Path], *, name: str, title: str, split: Mapping[str, Any]) -> base.Dataset:
    """Pool the shards of several p; the label is p and the split is drawn within each p.

    Raises
    ------
    DataError
        If a file is no shard, two shards have the same p, or their options differ.
    """
    shards = [(path, load_arrays(path, {"x", "x0", "p", "options"})) for path in files]
    shards.sort(key=lambda item: int(item[1]["p"]))
    exponents = [int(shard["p"]) for _, shard in shards]
    if not shards or len(set(exponents)) < len(exponents):
        raise DataError(f"data set {name}: expected shards of different p, found p = {exponents}")
    options = str(shards[0][1]["options"])
    for path, shard in shards:
        if str(shard["options"]) != options:
            raise DataError(
                f"{path}: expected the options of the other shards, {options}, "
                f"found {shard['options']}"
            )
        if shard["x"].shape[1:] != TIMES.shape:
            raise DataError(f"{path}: expected {len(TIMES)} times, found {shard['x'].shape[1:]}")
    x = np.concatenate([shard["x"][:, :LENGTH, None] for _, shard in shards])
    return base.build(
        name=name,
        title=title,
        x=x,
        t=base.regular_times(len(x), LENGTH),
        mask=np.ones(x.shape, dtype=bool),
        label=np.repeat(np.array(exponents), [len(shard["x"]) for _, shard in shards]),
        split_options=split,
        normalisation="none",
        unit="radius of the burning flame",
        files=[path for path, _ in shards],
        options=json.loads(options),
    )
