"""What mTAND and GraFITi share: the first frequencies of time, and other gaps in every step.

Both attend from the time that is asked for to the times of what is seen. A learnt sinusoid whose
frequency begins below 1 rad, as in the released codes, is almost linear over the whole time range:
an attention that looks near has to be found first. So the frequencies begin at many scales.

The benchmark's interpolation hides a fixed half of a record's time points. A model of 10^5 weights
learns a few hundred such halves by heart; what it is to learn is to fill any gap. So every training
step hides other time points.
"""

import math

import torch
from torch import Tensor

from harness.contract import Batch

SLOWEST = 0.1  # cycles over the time range: as good as linear
SHARES = (0.1, 0.9)  # of a record's known time points, least and most that are hidden


@torch.no_grad()
def begin_at_many_scales(weight: Tensor, bias: Tensor, fastest: float) -> None:
    """Set w and b of sin(w t + b), in place, to frequencies evenly spaced on a logarithmic scale.

    Phases alternate between sine and cosine.

    Parameters
    ----------
    weight, bias : (M,)
        Angular frequencies and phases.
    fastest : float
        Highest frequency, in cycles over the time range [0, 1].
    """
    m = len(weight)
    cycles = torch.logspace(math.log10(SLOWEST), math.log10(fastest), m)
    weight.copy_(2 * math.pi * cycles)
    bias.copy_(math.pi / 2 * (torch.arange(m) % 2))


def hide_anew(batch: Batch, generator: torch.Generator) -> Batch:
    """Hide other time points of the records that are to be filled in.

    Known is what `mask` or `target` marks; no other value is looked at. A share of a record's known
    rows, drawn from U(0.1, 0.9), becomes its target and the others are shown; at least one each. A
    record without a hidden target before its last visible row is not filled in, and stays as it is:
    a forecast, or values that are shown and fitted.
    """
    known = torch.maximum(batch.mask, batch.target)
    rows = known.amax(-1) > 0  # (B, L)
    gaps = batch.target * (1 - batch.mask) * (1 - batch.beyond)[..., None]
    filled_in = (gaps.amax((1, 2)) > 0)[:, None, None]

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, device=batch.t.device)

    low, high = SHARES
    n_rows = rows.sum(1)
    n_hidden = ((low + (high - low) * uniform(len(rows))) * n_rows).round()
    n_hidden = torch.minimum(n_hidden.clamp(min=1), n_rows - 1)
    rank = torch.where(rows, uniform(*rows.shape), 2).argsort(1).argsort(1)  # random; padding last
    hidden = (rank < n_hidden[:, None])[..., None].to(known.dtype)
    return Batch(
        x=batch.x,
        t=batch.t,
        mask=torch.where(filled_in, known * (1 - hidden), batch.mask),
        target=torch.where(filled_in, known * hidden, batch.target),
    )
