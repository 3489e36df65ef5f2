"""Arrays that no score accepts."""

import numpy as np
import pytest

from metrics.arrays import check_series


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 4)), r"x: .*shape \(series, length, channels\), found \(3, 4\)"),
        (np.zeros((0, 4, 1)), r"x: expected a non-empty array .* found \(0, 4, 1\)"),
        (np.zeros((3, 4, 1), dtype=int), "x: expected floating-point values, found int64"),
        (np.array([[[0.0]], [[np.nan]]]), "x: .* found 1 .*, the first at series 1, step 0, chan"),
        (np.array([[[0.0], [-np.inf]]]), "x: .* found 1 .*, the first at series 0, step 1, chan"),
    ],
)
def test_unusable_arrays(values, message):
    with pytest.raises(ValueError, match=message) as error:
        check_series(x=values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(5, 4, 2), (5, 3, 1)])
def test_a_pair_must_agree_in_length_and_channels(shape):
    with pytest.raises(
        ValueError, match="fake: expected length 4 and channels 1 as in real, found"
    ):
        check_series(real=np.zeros((2, 4, 1)), fake=np.zeros(shape))
    check_series(real=np.zeros((2, 4, 1)), fake=np.zeros((7, 4, 1)))
