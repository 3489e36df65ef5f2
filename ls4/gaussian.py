"""Diagonal Gaussians: a draw, the density, and the divergence between two."""

import math

import torch
from torch import Tensor


def normal(mean: Tensor, std: Tensor | float, generator: torch.Generator) -> Tensor:
    """Draw from N(mean, std^2)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + std * noise


def log_density(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Return log N(x; mean, sigma^2), element by element."""
    return -0.5 * ((x - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def kl_divergence(m_q: Tensor, l_q: Tensor, m_p: Tensor, l_p: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians, element by element, from means and log deviations."""
    d = l_q - l_p
    return 0.5 * (torch.exp(2 * d) + ((m_q - m_p) * torch.exp(-l_p)) ** 2 - 1) - d
