"""The picture by which thresholds are judged: each class's scores over a data set, before and after refinement."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.pseudo_labels.scoring import Scoring

BINS = 60
BEYOND = 0.001
"""Share of a class's scores, at either end, that its histogram counts in its last bin rather than stretch to it."""
PAIRS_ACROSS = 2
"""Classes in a row, two axes each."""
_INK, _FAINT, _THRESHOLD = "#333333", "#b8b8b8", "#d1242f"


def score_histograms(scoring: Scoring) -> NDArray[np.uint8]:
    """Draw, class by class, the scores of a data set's superpixels before and after refinement, with the threshold.

    The superpixels are those where the class may stand. The heights are logarithmic: an object's superpixels are few.
    Above each histogram stands the share that reaches the threshold, where there is one.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [height, width, 3], RGB.
    """
    taxonomy = scoring.taxonomy
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
        sides, threshold = scoring.class_scores(class_id), float(scoring.thresholds[class_id])
        low, high = shown_range(sides, threshold)
        edges = np.linspace(low, high + 1e-6, BINS + 1)
        captions = (f"{info.name}, before {scoring.step}", f"after {scoring.step}")
        for axes, scores, caption in zip(pair, sides, captions, strict=True):
            _histogram(axes, scores, edges, threshold, f"#{bytes(info.colour).hex()}")
            axes.set_title(caption, fontsize=9, color=_INK, loc="left", pad=5)
    judged = np.isfinite(scoring.thresholds).all()
    decides = "dashed: the threshold; %: the share that reaches it" if judged else "the highest score is the label"
    note = f"{scoring.unit}; superpixels on a logarithmic scale; {decides}"
    figure.text(0.015, 0.14 / height, note, fontsize=8, color=_INK)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def shown_range(scores: NDArray[np.float32], threshold: float) -> tuple[float, float]:
    """Return the ends of a histogram of scores: all but the outermost `BEYOND`, and a finite threshold."""
    ends = np.quantile(scores, [BEYOND, 1 - BEYOND], method="nearest") if scores.size else np.zeros(2)
    shown = np.append(ends, [threshold] if np.isfinite(threshold) else [])
    return float(shown.min()), float(shown.max())


def _histogram(
    axes: Axes, scores: NDArray[np.float32], edges: NDArray[np.float64], threshold: float, colour: str
) -> None:
    axes.set_axis_on()
    axes.stairs(np.log1p(np.histogram(scores.clip(edges[0], edges[-1]), edges)[0]), edges, fill=True, color=colour)
    axes.set_ylim(bottom=0)
    if np.isfinite(threshold):
        axes.axvline(threshold, color=_THRESHOLD, linestyle="--", linewidth=1)
        share = (scores >= threshold).mean() if len(scores) else 0.0
        axes.text(1, 1.05, f"{share:.1%}", transform=axes.transAxes, ha="right", fontsize=8, color=_INK)
    axes.tick_params(axis="x", labelsize=7, colors=_INK, length=2)
    axes.tick_params(axis="y", which="both", left=False, labelleft=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
