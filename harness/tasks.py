"""What a model can be asked for, and the untrained rows beside it; see docs/scores.md."""

from typing import Literal, get_args

Task = Literal["generation", "reconstruction", "interpolation", "extrapolation"]
TASKS: tuple[Task, ...] = get_args(Task)

Control = Literal[
    "noise_floor", "memoriser", "gaussian", "white_noise", "persistence",
    "mean", "locf", "linear", "gp",
]  # fmt: skip
CONTROLS: dict[Task, tuple[Control, ...]] = {
    "generation": ("noise_floor", "memoriser", "gaussian", "white_noise", "persistence"),
    **dict.fromkeys(TASKS[1:], ("mean", "locf", "linear", "gp")),
}
