"""Shared by the tests of LS4."""

import pytest


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw means."""
    monkeypatch.setattr("ls4.latent.normal", lambda mean, std, generator: mean)
