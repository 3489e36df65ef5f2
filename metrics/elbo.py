"""The lowest negative evidence bound that a model with a given sigma can have."""

import math

import numpy as np
from jaxtyping import Float


def likelihood_floor(
    n_values: Float[np.ndarray, "*n"] | int, sigma: float
) -> Float[np.ndarray, "*n"] | float:
    r"""Return the lowest negative ELBO that a model with observation noise `sigma` can reach.

    .. math:: n (\log \sigma + \tfrac{1}{2} \log 2 \pi)

    nats for n values: every value is predicted exactly and the latents cost nothing. Bounds of
    models with different `sigma` have different floors and do not compare.

    Raises
    ------
    ValueError
        Unless `sigma` is positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma: expected a positive number, found {sigma:g}")
    return n_values * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
