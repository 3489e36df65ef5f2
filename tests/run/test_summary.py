"""What figures of generation need: bands, and values at early steps."""

import numpy as np

from harness.run.summary import EXAMPLES, summarise


def test_bands_hold_nine_tenths_of_the_series() -> None:
    rank = np.arange(101.0, dtype=np.float32)
    real = np.tile(rank[:, None, None], (1, 40, 2))
    fake = 2 * real[::-1]
    found = summarise(real, fake)
    for name, factor in (("real", 1), ("fake", 2)):
        for part, value in (("low", 5), ("mean", 50), ("high", 95)):
            np.testing.assert_allclose(found[f"{name}_{part}"], np.full((40, 2), factor * value))
    steps = found["steps"]
    assert steps[0] > 0 and steps[-1] == 4  # 10 % of the length
    np.testing.assert_array_equal(found["real_at_steps"], real[:, steps])
    np.testing.assert_array_equal(found["fake_at_steps"], fake[:, steps])
    np.testing.assert_array_equal(found["examples"], fake[:EXAMPLES])
