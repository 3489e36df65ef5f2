"""What a model that the benchmark does not run itself may see of a data set: ``given.npz``.

======== ============ ==================================================================
array    shape        meaning
======== ============ ==================================================================
x        (N, L, D)    normalised values; 0 where neither `mask` nor, in the training and
                      validation parts, `target` is True
t        (N, L)       times in [0, 1], non-decreasing; padding repeats the last one
mask     (N, L, D)    True where the model may see the value
target   (N, L, D)    True where the value is to be predicted; not in generation
split    (N,)         0 training, 1 validation, 2 test
======== ============ ==================================================================

Generation leaves the test part out; the other tasks give of a test record what `mask` shows.
"""

import numpy as np

from harness.run.view import View, check_complete

TRAIN, VALIDATION, TEST = range(3)  # in `split`


def given(view: View) -> dict[str, np.ndarray]:
    """Return the arrays of this file's table.

    Raises
    ------
    UserError
        If complete series are wanted of a data set that has gaps.
    """
    dataset = view.dataset
    split = np.full(len(dataset.x), TRAIN, dtype=np.int8)
    split[dataset.validation], split[dataset.test] = VALIDATION, TEST
    if view.task == "generation":
        check_complete(dataset)
        rest = np.flatnonzero(split != TEST)
        shown = {"x": dataset.x[rest], "t": dataset.t[rest], "mask": dataset.mask[rest]}
        return shown | {"split": split[rest]}
    batch = view.batch(np.arange(len(dataset.x)))
    padding = ((0, 0), (0, dataset.x.shape[1] - batch.x.shape[1]), (0, 0))
    mask, target = (np.pad(a.numpy().astype(bool), padding) for a in (batch.mask, batch.target))
    known = mask | (target & (split != TEST)[:, None, None])
    x = np.where(known, dataset.x, np.float32(0))
    return {"x": x, "t": dataset.t, "mask": mask, "target": target, "split": split}
