"""The confusion matrix for people: a figure of row shares in percent, and a CSV file of the counts with their names."""

import csv
import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from serving.files import whole_file
from training.evaluation.figures import save_png
from training.evaluation.metrics import ConfusionMatrix

NOTHING = "unlabelled"
"""Name of the column of pixels that were predicted as no class (255)."""
_LEAST_WRITTEN = 0.0005
"""A smaller share would be written as 0.0, and is left empty."""
_DARK = 0.5
"""Shares from here on are written in white."""


def confusion_figure(confusion: ConfusionMatrix) -> NDArray[np.uint8]:
    """Draw the matrix: a row for each true class, which adds up to 100 %, a column for each predicted one.

    The column of unlabelled pixels is drawn only where there are any; the row of a class that is never true is empty.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [height, width, 3], RGB.
    """
    names = confusion.taxonomy.names
    columns = [*names, NOTHING] if confusion.counts[:, -1].any() else list(names)
    totals = confusion.counts.sum(axis=1, keepdims=True)
    shares = (confusion.counts / np.maximum(totals, 1))[:, : len(columns)]
    figure = Figure(figsize=(2.4 + 0.56 * len(columns), 2.0 + 0.42 * len(names)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true, each row 100 %")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(shares >= _LEAST_WRITTEN):
        share = shares[row, column]
        ink = "white" if share >= _DARK else "#333333"
        axes.text(column, row, f"{100 * share:.1f}", ha="center", va="center", fontsize=8, color=ink)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def confusion_csv(confusion: ConfusionMatrix) -> str:
    """Return the counts as CSV: a line for each true class, its name first, then the pixels predicted as each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true \\ predicted", *confusion.taxonomy.names, NOTHING])
    for name, counts in zip(confusion.taxonomy.names, confusion.counts.tolist(), strict=True):
        writer.writerow([name, *counts])
    return text.getvalue()


def write_confusion(confusion: ConfusionMatrix, folder: Path) -> NDArray[np.uint8]:
    """Write `confusion.csv` and `confusion.png`; return the figure, uint8 [height, width, 3]."""
    with whole_file(folder / "confusion.csv") as temporary:
        temporary.write_text(confusion_csv(confusion), "utf-8")
    figure = confusion_figure(confusion)
    save_png(figure, folder / "confusion.png")
    return figure
