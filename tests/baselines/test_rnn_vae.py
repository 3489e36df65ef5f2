"""RNN-VAE: both loops against references written row by row from the equations."""

import pytest
import torch
from torch import Tensor, nn

from baselines.rnn_vae import RNNVAE, RNNVAEConfig
from harness.contract import Batch, Shape


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(double: object) -> RNNVAE:
    return RNNVAE(RNNVAEConfig(), Shape(9, 2))


def reference_encoder(model: RNNVAE, x: Tensor, mask: Tensor, t: Tensor) -> Tensor:
    """h of one record (L, D) after its observed rows, latest first, and its first row."""
    cell = nn.GRUCell(5, 40)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({name: getattr(model.encoder, f"{name}_l0") for name in names})
    h, later = torch.zeros(1, 40), None
    for i in reversed(range(len(t))):
        if mask[i].any() or i == 0:
            gap = t[i] * 0 if later is None else later - t[i]
            h = cell(torch.cat([x[i] * mask[i], mask[i], gap[None]])[None], h)
            later = t[i]
    return h


def test_encoder_against_reference(model: RNNVAE) -> None:
    generator = seeded()
    x = torch.randn(4, 9, 2, generator=generator)
    mask = torch.rand(4, 9, 2, generator=generator).round()
    mask[0, -3:] = 0
    mask[1, :4] = 0
    t = torch.rand(4, 9, generator=generator).sort().values
    mu, s = model.encode(Batch(x, t, mask, mask))
    for i in range(4):
        expected_mu, expected_s = model.p(reference_encoder(model, x[i], mask[i], t[i])).chunk(2, 1)
        torch.testing.assert_close(mu[i : i + 1], expected_mu)
        torch.testing.assert_close(s[i : i + 1], expected_s.abs() + 1e-6)


def test_decoder_against_reference(model: RNNVAE) -> None:
    z0 = torch.randn(3, 4, 20, generator=seeded())
    t = torch.rand(4, 6, generator=seeded(1)).sort().values
    found = model.decode(z0, t)
    assert found.shape == (3, 4, 6, 2)
    for k in range(3):
        for i in range(4):
            h = z0[k, i][None]
            inputs = torch.zeros(1, 5)
            for j in range(6):
                if j > 0:
                    inputs = torch.cat(
                        [found[k, i, j - 1], torch.ones(2), (t[i, j] - t[i, j - 1])[None]]
                    )
                h = model.decoder(inputs.reshape(1, 5), h)
                torch.testing.assert_close(found[k, i, j], model.o(h)[0])


def test_decoder_is_causal_in_time(model: RNNVAE) -> None:
    z0 = torch.randn(1, 1, 20, generator=seeded())
    t = torch.linspace(0, 1, 9)[None]
    later = t.clone()
    later[:, 5:] += 0.1
    a, b = model.decode(z0, t), model.decode(z0, later)
    torch.testing.assert_close(a[:, :, :5], b[:, :, :5], rtol=0, atol=1e-6)
    assert (a[:, :, 5:] != b[:, :, 5:]).any(-1).all()
