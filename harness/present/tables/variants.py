"""The tables of variants: each beside the model that it is a variant of."""

from collections.abc import Sequence

from harness.present.comparison import Comparison
from harness.present.tables import bounds, cell_costs, generation, prediction
from harness.present.tables.scores import title
from harness.present.tables.table import Document
from harness.present.tables.tidy import tidy
from harness.present.text import paragraphs
from harness.tasks import TABLE_OF

SCORES = {"table1": generation.scores, "table2": prediction.errors}


def document(compared: Sequence[Comparison], budget: str) -> Document:
    """Return scores, bounds and costs of one budget's variants."""
    tables = [SCORES[TABLE_OF[c.head["task"]]](c, title(c, compared)) for c in compared]
    tables += [
        bounds.table(c, f"Negative ELBO: {title(c, compared)}") for c in bounds.with_bound(compared)
    ]
    tables += [cell_costs.table([c]) for c in compared]
    legend = paragraphs(
        "legends.j2", "variants", tables={TABLE_OF[c.head["task"]] for c in compared}
    )
    return Document("variants", budget, "Variants of a model", tables, legend, tidy(compared))
