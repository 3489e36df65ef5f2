"""Training and validation losses of all seeds against the step."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from harness import catalogue
from harness.present import files
from harness.present.comparison import Comparison
from harness.present.figures.style import DATA, Drawn, caption, colour, panels, scale_losses


def figures(c: Comparison, stem: str, what: str) -> Iterator[Drawn]:
    """Draw the training curves of one comparison, where there are histories."""
    lines = curves(c)
    if not lines.empty:
        task = "" if c.head["task"] == "generation" else f"_{c.head['task']}"
        yield Drawn(
            f"training{task}_{stem}", training_curves(lines, what), caption("training", what=what)
        )


def curves(c: Comparison) -> pd.DataFrame:
    """Return the histories of all models under each other, as `training_curves` takes them."""
    found = []
    for cell in c.cells[~c.cells["control"]].itertuples():
        history = files.history(cell.folder)
        if history.empty:
            continue
        # the first loss of each row, whatever a model with several optimisers calls it
        losses = history[[n for n in history.columns if n.rpartition("/")[2] == "loss"]]
        found.append(
            pd.DataFrame(
                {
                    "model": cell.model,
                    "seed": cell.seed,
                    "ending": cell.ending,
                    "step": history["step"],
                    "loss": losses.bfill(axis=1).iloc[:, 0],
                    "validation_loss": history.get("validation_loss", np.nan),
                }
            )
        )
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def training_curves(lines: pd.DataFrame, title: str) -> Figure:
    """Plot training and validation loss against the step, a panel for each model.

    Parameters
    ----------
    lines : DataFrame
        Columns model, seed, ending (missing where all went well), step, loss, validation_loss.
    title : str
    """
    rows = [(str(model), own) for model, own in lines.groupby("model", sort=False)]
    figure, axes = panels(len(rows), 2.3, 2.0, (0.4, 0.4))
    for ax, (model, own) in zip(axes.flat, rows, strict=False):
        drawn = [("loss", "-")]
        if own["validation_loss"].notna().any():  # a GAN has none
            drawn.append(("validation_loss", "--"))
        for loss, line in drawn:
            sns.lineplot(own, x="step", y=loss, units="seed", estimator=None, linestyle=line,
                         color=colour(model), alpha=0.8, ax=ax)  # fmt: skip
        ends = own.groupby("seed").tail(1).dropna(subset="ending")
        ax.plot(ends["step"], ends["loss"], "x", color=DATA)
        scale_losses(ax, own[["loss", "validation_loss"]].to_numpy(dtype=float))
        ax.set(title=catalogue.label(model), xlabel="optimiser step", ylabel="")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")
    figure.suptitle(title)
    return figure
