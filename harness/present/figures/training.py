"""Training and validation losses of all seeds against the step."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

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
    """Return the histories of all models under each other, as `training_curves` takes them.

    Models that log a single step, since they are fitted in closed form, have no curve.
    """
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
                    "best_step": cell.best_step,
                    "step": history["step"],
                    "loss": losses.bfill(axis=1).iloc[:, 0],
                    "validation_loss": history.get("validation_loss", np.nan),
                }
            )
        )
    if not found:
        return pd.DataFrame()
    lines = pd.concat(found, ignore_index=True)
    return lines[lines.groupby("model")["step"].transform("nunique") > 1]


def training_curves(lines: pd.DataFrame, title: str) -> Figure:
    """Plot training and validation loss against the step, a panel for each model.

    Parameters
    ----------
    lines : DataFrame
        Columns model, seed, ending (missing where all went well), best_step (missing where it was
        not chosen by a loss), step, loss, validation_loss.
    title : str
    """
    rows = [(str(model), own) for model, own in lines.groupby("model", sort=False)]
    figure, axes = panels(len(rows), 1.45, "optimiser step")
    for ax, (model, own) in zip(axes.flat, rows, strict=False):
        for _, one in own.groupby("seed"):
            for loss, line in {"loss": "-", "validation_loss": "--"}.items():
                known = one.dropna(subset=loss)  # a GAN has no validation loss
                ax.plot(known["step"], known[loss], line, color=colour(model), alpha=0.8,
                        linewidth=0.8)  # fmt: skip
        for best in own["best_step"].dropna().unique():
            ax.axvline(best, color=DATA, linestyle=":", linewidth=0.6)
        ends = own.groupby("seed").tail(1).dropna(subset="ending")
        ax.plot(ends["step"], ends["loss"], "x", color=DATA)
        scale_losses(ax, own[["loss", "validation_loss"]].to_numpy(dtype=float))
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.set_title(catalogue.label(model))
    keys = {
        "training": Line2D([], [], color=DATA),
        "validation": Line2D([], [], color=DATA, linestyle="--"),
    }
    if lines["best_step"].notna().any():
        keys["the step that is scored"] = Line2D([], [], color=DATA, linestyle=":", linewidth=0.6)
    if lines["ending"].notna().any():
        keys["not done"] = Line2D([], [], color=DATA, marker="x", linestyle="")
    figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=4)
    figure.supylabel("loss")
    figure.suptitle(title)
    return figure
