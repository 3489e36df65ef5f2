r"""ImagenTime: diffusion of images that are short-time Fourier transforms of series.

Naiman, Berman, Pemper, Arbiv, Fadlon and Azencot, "Utilizing Image Transforms and Diffusion Models
for Generative Modeling of Short and Long Time Series", NeurIPS 2024, arXiv:2410.19538. Diffusion:
EDM (Karras, Aittala, Aila and Laine 2022, arXiv:2206.00364). Network: the U-Net of ADM (Dhariwal
and Nichol 2021, arXiv:2105.05233). Written from these papers and from published settings; the
authors' code was not read.

Image: real and imaginary part of the transform with a Hann window w of n values. Each pixel is
scaled to [-1, 1] by its own extremes over the training series,

.. math::

    z_{dkm} = \sum_{j<n} w_j\, x_{m\,hop + j - \lfloor n/2 \rfloor,\,d}\, e^{-2\pi i jk/n}, \qquad
    y = 2\, \frac{(\mathrm{Re}\, z, \mathrm{Im}\, z) - low}{high - low} - 1,

where x is reflected at its ends. An image has more numbers than its series (2.8 times as many at
L = 728), so a generated one is the transform of no series; the inverse transform projects it.

Denoiser (EDM, equation 7 and table 1) and loss (equations 2 and 8), with eps ~ N(0, I) and
ln sigma ~ N(-1.2, 1.2^2):

.. math::

    D(y; \sigma) &= c_{skip}\, y + c_{out}\, F(c_{in}\, y, \tfrac14 \ln \sigma), \qquad
    c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
    c_{out} = \frac{\sigma\, \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
    c_{in} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}, \\
    loss &= \mathrm{mean}\, (D(y + \sigma\, eps; \sigma) - y)^2 / c_{out}^2 .

Sampler (algorithm 1): dy / dsigma = (y - D(y; sigma)) / sigma from y ~ N(0, 80^2 I) by Heun's
method in 18 steps, which leave the deviations of a Gaussian 4 to 9 % too large,

.. math::

    \sigma_i = \big( 80^{1/7} + \tfrac{i}{17} (0.002^{1/7} - 80^{1/7}) \big)^7 \text{ for } i < 18,
    \qquad \sigma_{18} = 0.

Network F: level i of the U-Net works at 1 / 2^i of the image's size,

.. math::

    level_i &= leave \circ inner \circ enter, \qquad inner = up \circ level_{i+1} \circ down, \\
    block(h) &= attend(skip(h) + conv(silu((1 + a)\, norm(conv(silu(norm(h)))) + b))), \qquad
    (a, b) = linear(mlp(\ln \sigma)).

Blocks of `leave` also see the earlier h of their level, one each, the latest first. At the coarsest
level `inner` is two blocks. The first of them attends, and so do the levels of `attention`.

===========  ============  =====================================================================
symbol       shape         meaning
===========  ============  =====================================================================
x            (B, L, D)     series
z            (B, D, K, M)  transform: K = n // 2 + 1 frequencies, (L - n % 2) // hop + 1 frames
y            (B, C, K, M)  image; C = 2 D, real parts first
low, high    (C, K, M)     extremes of each pixel over the training series
sigma        (B)           noise level: standard deviation of the noise in y
D(y; sigma)  (B, C, K, M)  denoiser; sigma_d = 0.5 is the assumed deviation of a pixel
F            U-Net         what is trained; h are its features, (B, W, height, width)
===========  ============  =====================================================================

Deviations from what is published:

* n and hop have defaults for every length: n = 2 S - 1 and hop = L // S + 1, where S is the
  smallest power of two with S^2 > L. They are the published ones at L = 725, 728 and 791. Short
  series have the same transform; published is a delay embedding.
* Images are padded with zeros to sizes that all levels divide, and the result is cropped.
* The last moving average of the weights is scored, not the best on the test series.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, silu

from harness.contract import Batch, Diverged, Loss, Model, Optimisation, Shape, Task, or_zero

LOG_SIGMA = (-1.2, 1.2)  # mean and deviation of ln sigma in training
SIGMA_DATA = 0.5
SIGMA_MAX, SIGMA_MIN, RHO = 80.0, 0.002, 7.0  # of the sampler
HEAD = 64  # channels of an attention head
CONSTANT = 1e-6  # a pixel with a smaller range is constant: the imaginary part of frequency 0


@dataclass(frozen=True)
class ImagenTimeConfig:
    """Published settings of the long series: 151.7 M parameters at one channel."""

    n_fft: int | None = None  # n, samples of a window; None: by length
    hop: int | None = None  # samples from frame to frame; None: by length
    width: int = 128  # W of the finest level, a multiple of 4
    multipliers: Sequence[int] = (1, 2, 4, 4)  # of `width`, finest level first
    blocks: int = 3  # of `enter`; `leave` has one more
    attention: Sequence[int] = (0, 1, 2)  # levels with attention; 0 is the finest
    dropout: float = or_zero(0.1)
    lr: float = 1e-4
    weight_decay: float = or_zero(1e-5)
    max_norm: float = 1.0  # of the gradient
    steps: int = 18  # of the sampler
    unit_interval: bool = False  # clamp samples to [0, 1]


# -- series and images ---------------------------------------------------------------------------


class Transform(nn.Module):
    """From series to images and back."""

    window: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, shape: Shape, n_fft: int | None, hop: int | None):
        super().__init__()
        side = 2 ** math.isqrt(shape.length).bit_length()  # S
        self.n_fft = 2 * side - 1 if n_fft is None else n_fft
        self.hop = shape.length // side + 1 if hop is None else hop
        self.shape = shape
        if not 1 <= self.n_fft // 2 < shape.length:
            most = 2 * shape.length - 1
            raise ValueError(f"n_fft: expected 2 to {most} for this length, found {self.n_fft}")
        most = (self.n_fft + 1) // 2  # the window's first value is 0
        if not 1 <= self.hop <= most:
            raise ValueError(f"hop: expected 1 to {most} for this window, found {self.hop}")
        frames = (shape.length - self.n_fft % 2) // self.hop + 1
        size = (2 * shape.channels, self.n_fft // 2 + 1, frames)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.register_buffer("low", -torch.ones(size))
        self.register_buffer("high", torch.ones(size))

    def fit(self, x: Float[Tensor, "B L D"]) -> None:
        z = self.stft(x)
        self.low.copy_(z.amin(0))
        self.high.copy_(z.amax(0))

    @property
    def span(self) -> Float[Tensor, "C K M"]:
        return (self.high - self.low).clamp(min=CONSTANT)

    def to_images(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B C K M"]:
        return 2 * (self.stft(x) - self.low) / self.span - 1

    def to_series(self, y: Float[Tensor, "B C K M"]) -> Float[Tensor, "B L D"]:
        return self.istft((y + 1) / 2 * self.span + self.low)

    def stft(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B C K M"]:
        flat = x.mT.flatten(0, 1)  # (B D, L)
        z = torch.stft(flat, self.n_fft, self.hop, window=self.window, return_complex=True)
        z = z.unflatten(0, (-1, self.shape.channels))
        return torch.cat([z.real, z.imag], 1)

    def istft(self, z: Float[Tensor, "B C K M"]) -> Float[Tensor, "B L D"]:
        flat = torch.complex(*z.chunk(2, 1)).flatten(0, 1)  # (B D, K, M)
        L = self.shape.length
        x = torch.istft(flat, self.n_fft, self.hop, window=self.window, length=L)
        return x.unflatten(0, (-1, self.shape.channels)).mT


# -- the network ---------------------------------------------------------------------------------


def group_norm(width: int) -> nn.GroupNorm:
    """Normalise 32 groups of channels, or fewer, so that a group has at least four."""
    return nn.GroupNorm(math.gcd(32, width // 4), width)


@torch.no_grad()
def near_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a residual branch begin near 0, and the denoiser near c_skip y; in ADM exactly there."""
    for parameter in layer.parameters():
        parameter.mul_(1e-5)
    return layer


def dropout(h: Tensor, p: float, generator: Generator | None) -> Tensor:
    """Drop with the noise of `generator`; without one, drop nothing."""
    if generator is None:
        return h
    keep = torch.rand(h.shape, generator=generator, device=h.device) >= p
    return h * keep / (1 - p)


class Attention(nn.Module):
    """Self-attention among the pixels of an image, added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD if width % HEAD == 0 else 1
        self.norm = group_norm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = near_zero(nn.Conv2d(width, width, 1))

    def forward(self, h: Float[Tensor, "B W K M"]) -> Float[Tensor, "B W K M"]:
        qkv = self.qkv(self.norm(h)).flatten(2).unflatten(1, (3, self.heads, -1))
        # A copy: CUDA's kernels refuse the strides that .mT leaves, also where there is one pixel.
        queries, keys, values = qkv.mT.clone(memory_format=torch.contiguous_format).unbind(1)
        attended = scaled_dot_product_attention(queries, keys, values)  # (B, heads, K M, W / heads)
        return h + self.out(attended.mT.reshape(h.shape))


class Block(nn.Module):
    """A residual block with the noise level as a second input."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        d_emb: int,
        dropout: float,
        attention: bool = False,
        resample: nn.Module | None = None,
    ):
        super().__init__()
        self.dropout = dropout
        self.resample = resample or nn.Identity()
        self.norm_in = group_norm(n_in)
        self.conv_in = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.scale_shift = nn.Linear(d_emb, 2 * n_out)
        self.norm_out = group_norm(n_out)
        self.conv_out = near_zero(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.attend = Attention(n_out) if attention else nn.Identity()

    def forward(self, h: Tensor, emb: Float[Tensor, "B E"], generator: Generator | None) -> Tensor:
        r = self.conv_in(self.resample(silu(self.norm_in(h))))
        a, b = self.scale_shift(emb)[..., None, None].chunk(2, 1)
        r = silu((1 + a) * self.norm_out(r) + b)
        r = self.conv_out(dropout(r, self.dropout, generator))
        return self.attend(self.skip(self.resample(h)) + r)


class Level(nn.Module):
    """A level of the U-Net and, inside it, the coarser ones."""

    def __init__(self, config: ImagenTimeConfig, d_emb: int, n_in: int, level: int = 0):
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        block = partial(Block, d_emb=d_emb, dropout=config.dropout)
        here, attention = widths[level], level in config.attention
        skips = [n_in] + config.blocks * [here]  # widths of what `leave` sees once more
        self.enter = nn.ModuleList(block(n, here, attention=attention) for n in skips[:-1])
        if level + 1 < len(widths):
            inside = widths[level + 1]
            down = block(here, here, resample=nn.AvgPool2d(2))
            up = block(inside, inside, resample=nn.Upsample(scale_factor=2))
            inner = [down, Level(config, d_emb, here, level + 1), up]
        else:
            inside = here
            inner = [block(here, here, attention=True), block(here, here)]
        self.inner = nn.ModuleList(inner)
        inputs = [inside] + config.blocks * [here]
        self.leave = nn.ModuleList(
            block(n + skip, here, attention=attention)
            for n, skip in zip(inputs, reversed(skips), strict=True)
        )

    def forward(self, h: Tensor, emb: Float[Tensor, "B E"], generator: Generator | None) -> Tensor:
        skips = [h]
        for block in self.enter:
            h = block(h, emb, generator)
            skips.append(h)
        for part in self.inner:
            h = part(h, emb, generator)
        for block in self.leave:
            h = block(torch.cat([h, skips.pop()], 1), emb, generator)
        return h


class UNet(nn.Module):
    """F: from a scaled noisy image and ln(sigma) / 4 to an image."""

    frequencies: Tensor

    def __init__(self, config: ImagenTimeConfig, image_channels: int):
        super().__init__()
        W, E = config.width, 4 * config.width
        self.divisor = 2 ** (len(config.multipliers) - 1)
        frequencies = 10_000 ** (-torch.arange(W // 2) / (W // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(nn.Linear(W, E), nn.SiLU(), nn.Linear(E, E), nn.SiLU())
        self.first = nn.Conv2d(image_channels, W, 3, padding=1)
        self.levels = Level(config, E, W)
        last = W * config.multipliers[0]
        self.norm = group_norm(last)
        self.last = near_zero(nn.Conv2d(last, image_channels, 3, padding=1))

    def forward(
        self, y: Float[Tensor, "B C K M"], c_noise: Float[Tensor, "B"], generator: Generator | None
    ) -> Float[Tensor, "B C K M"]:
        K, M = y.shape[-2:]
        angles = c_noise[:, None] * self.frequencies  # (B, W / 2)
        emb = self.embed(torch.cat([angles.cos(), angles.sin()], 1))
        h = self.first(pad(y, (0, -M % self.divisor, 0, -K % self.divisor)))
        h = self.levels(h, emb, generator)
        return self.last(silu(self.norm(h)))[..., :K, :M]


# -- diffusion -----------------------------------------------------------------------------------


def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out and c_in at each noise level (EDM, table 1)."""
    variance = sigma.square() + SIGMA_DATA**2
    root = variance.sqrt()
    return SIGMA_DATA**2 / variance, sigma * SIGMA_DATA / root, 1 / root


def noise_levels(steps: int) -> list[float]:
    """Return the sampler's noise levels, from `SIGMA_MAX` down to 0 (EDM, equation 5)."""
    first, last = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return [(first + i / (steps - 1) * (last - first)) ** RHO for i in range(steps)] + [0.0]


def heun(denoise: Callable[[Tensor, float], Tensor], y: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Bring images from the first of falling noise levels to the last (EDM, algorithm 1)."""
    for now, after in pairwise(sigmas):
        slope = (y - denoise(y, now)) / now
        ahead = y + (after - now) * slope
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
            ahead = y + (after - now) * slope
        y = ahead
    return y


class ImagenTime(Model):
    """ImagenTime; see the module's docstring.

    Raises
    ------
    ValueError
        If a window is longer than two series, if frames leave gaps, or if another setting is out of
        its range.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"generation"})
    Config: ClassVar = ImagenTimeConfig

    def __init__(self, config: ImagenTimeConfig, shape: Shape):
        super().__init__(config, shape)
        c = config
        if c.width < 4 or c.width % 4:
            raise ValueError(f"width: expected a multiple of 4, found {c.width}")
        if not c.multipliers or any(m < 1 for m in c.multipliers):
            raise ValueError(f"multipliers: expected positive ones, found {list(c.multipliers)}")
        if not set(c.attention) <= set(range(len(c.multipliers))):
            most = len(c.multipliers) - 1
            raise ValueError(f"attention: expected levels 0 to {most}, found {list(c.attention)}")
        if c.steps < 2:
            raise ValueError(f"steps: expected 2 or more, found {c.steps}")
        if not 0 <= c.dropout < 1:
            raise ValueError(f"dropout: expected 0 to less than 1, found {c.dropout}")
        self.transform = Transform(shape, c.n_fft, c.hop)
        self.net = UNet(c, 2 * shape.channels)

    def optimisers(self) -> dict[str, Optimisation]:
        c = self.config
        adam = torch.optim.AdamW(self.parameters(), lr=c.lr, weight_decay=c.weight_decay)
        return {"main": Optimisation(adam, max_norm=c.max_norm)}

    def calibrate(self, batch: Batch) -> None:
        self.transform.fit(batch.visible)

    def denoise(
        self, y: Float[Tensor, "B C K M"], sigma: Float[Tensor, "B"], generator: Generator | None
    ) -> Float[Tensor, "B C K M"]:
        """Return D(y; sigma); F has its own precision, and dropout where there is a generator."""
        c_skip, c_out, c_in = coefficients(sigma[:, None, None, None])
        dtype = self.net.frequencies.dtype
        scaled, c_noise = (c_in * y).to(dtype), (sigma.log() / 4).to(dtype)
        return c_skip * y + c_out * self.net(scaled, c_noise, generator)

    def loss(self, batch: Batch, step: int, generator: Generator) -> Loss:
        y = self.transform.to_images(batch.visible)
        like = {"generator": generator, "device": y.device, "dtype": y.dtype}
        mean, deviation = LOG_SIGMA
        sigma = (mean + deviation * torch.randn(len(y), **like)).exp()
        noisy = y + sigma[:, None, None, None] * torch.randn(y.shape, **like)
        error = self.denoise(noisy, sigma, generator if self.training else None) - y
        _, c_out, _ = coefficients(sigma[:, None, None, None])
        return Loss((error / c_out).square().mean())

    @torch.no_grad()
    def sample(self, n: int, t: Float[Tensor, "L"], generator: Generator) -> Float[Tensor, "n L D"]:
        like = {"generator": generator, "device": t.device, "dtype": torch.float64}
        y = SIGMA_MAX * torch.randn(n, *self.transform.low.shape, **like)
        levels = noise_levels(self.config.steps)
        y = heun(lambda y, s: self.denoise(y, y.new_full((n,), s), None), y, levels)
        x = self.transform.to_series(y.to(t.dtype))
        if not x.isfinite().all():
            raise Diverged("the samples left the finite numbers")
        return x.clamp(0, 1) if self.config.unit_interval else x
