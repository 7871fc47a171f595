"""The picture by which thresholds are judged: each class's scores over a data set, before and after refinement."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.taxonomy import Taxonomy

BINS = 60
PAIRS_ACROSS = 2
"""Classes in a row, two axes each."""
_INK, _FAINT, _THRESHOLD = "#333333", "#b8b8b8", "#d1242f"


def score_histograms(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    thresholds: NDArray[np.float32],
    taxonomy: Taxonomy,
    *,
    unit: str = "score",
) -> NDArray[np.uint8]:
    """Draw, class by class, the scores of a data set's superpixels before and after refinement, with the threshold.

    The superpixels are those where the class may stand. The heights are logarithmic: an object's superpixels are few.
    Above each histogram stands the share that reaches the threshold.

    Parameters
    ----------
    before, after
        Scores of N superpixels, float32 [N, C], finite, in one unit.
    allowed
        Whether a class may stand in a superpixel's band, bool [N, C].
    thresholds
        Per class, float32 [C].
    taxonomy
        Names and colours of the C classes.
    unit
        What a score is, written below.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [height, width, 3], RGB.
    """
    rows = -(-len(taxonomy.classes) // PAIRS_ACROSS)
    height = 0.7 + 1.15 * rows
    figure = Figure(figsize=(12, height), dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    columns = figure.add_gridspec(
        1, PAIRS_ACROSS, left=0.015, right=0.985, top=1 - 0.4 / height, bottom=0.65 / height, wspace=0.06
    )
    pairs = [
        columns[0, number].subgridspec(rows, 2, wspace=0.08, hspace=1.0).subplots(squeeze=False)
        for number in range(PAIRS_ACROSS)
    ]
    for axes in np.ravel(pairs):
        axes.set_axis_off()
    for class_id, info in enumerate(taxonomy.classes):
        pair = pairs[class_id // rows][class_id % rows]
        seen = allowed[:, class_id]
        sides = (before[seen, class_id], after[seen, class_id])
        everything = np.concatenate([*sides, thresholds[class_id : class_id + 1]])
        edges = np.linspace(everything.min(), everything.max() + 1e-6, BINS + 1)
        captions = (f"{info.name}, before refinement", "after refinement")
        for axes, scores, caption in zip(pair, sides, captions, strict=True):
            _histogram(axes, scores, edges, float(thresholds[class_id]), f"#{bytes(info.colour).hex()}")
            axes.set_title(caption, fontsize=9, color=_INK, loc="left", pad=5)
    note = f"{unit}; superpixels on a logarithmic scale; dashed: the threshold; %: the share that reaches it"
    figure.text(0.015, 0.14 / height, note, fontsize=8, color=_INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _histogram(
    axes: Axes, scores: NDArray[np.float32], edges: NDArray[np.float64], threshold: float, colour: str
) -> None:
    axes.set_axis_on()
    axes.stairs(np.log1p(np.histogram(scores, edges)[0]), edges, fill=True, color=colour)
    axes.set_ylim(bottom=0)
    axes.axvline(threshold, color=_THRESHOLD, linestyle="--", linewidth=1)
    share = (scores >= threshold).mean() if len(scores) else 0.0
    axes.text(1, 1.05, f"{share:.1%}", transform=axes.transAxes, ha="right", fontsize=8, color=_INK)
    axes.tick_params(axis="x", labelsize=7, colors=_INK, length=2)
    axes.tick_params(axis="y", which="both", left=False, labelleft=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
