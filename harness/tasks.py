"""What a model can be asked for; docs/scores.md says how each task is scored."""

from typing import Literal, get_args

Task = Literal["generation", "reconstruction", "interpolation", "extrapolation"]
TASKS: tuple[Task, ...] = get_args(Task)
HIDING: tuple[Task, ...] = ("interpolation", "extrapolation")  # some values, by the protocol

# The tables of the paper, by the tasks whose records they show.
TABLES: dict[str, tuple[Task, ...]] = {"table1": TASKS[:1], "table2": TASKS[1:]}
TABLE_OF: dict[str, str] = {task: table for table, tasks in TABLES.items() for task in tasks}
