"""The edge map and E(i, j), the similarity of two superpixels on it (paper, section 4.1)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.features.superpixels import centroids

STEPS_PER_DIAGONAL = 150
"""Resolution of the way between two superpixels, in steps per diagonal of the frame."""


def edge_map(lab: NDArray[np.float32], sigma: float = 1.0) -> NDArray[np.float32]:
    """Return the edge strength of each pixel, float32 [H, W] in [0, 1].

    The gradient's length in CIELAB at scale `sigma` pixels, over its 99th percentile in the frame and clipped: a
    strong edge is one that is strong for this frame, whatever the light.
    """
    squared = sum(
        ndimage.gaussian_gradient_magnitude(lab[..., channel], sigma, mode="nearest") ** 2 for channel in range(3)
    )
    strength = np.sqrt(squared)
    return np.clip(strength / max(np.percentile(strength, 99), 1e-6), 0, 1).astype(np.float32)


def edge_similarity(edges: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return E(i, j): 1 minus the strongest edge on the straight way between the centroids of two superpixels.

    Parameters
    ----------
    edges
        Edge strength, float32 [H, W] in [0, 1].
    labels, count
        Superpixels, int32 [H, W], and their number K.

    Returns
    -------
    float32 [K, K]
        In [0, 1], symmetric, 1 on the diagonal. The way is walked in steps of 1/150 of the frame's diagonal, and each
        step sees the strongest edge within half a step, so that no edge is missed.

    References
    ----------
    T. Leung and J. Malik, Contour continuity in region based image segmentation, ECCV 1998 (intervening contour).
    """
    step = max(1, round(float(np.hypot(*edges.shape)) / STEPS_PER_DIAGONAL))
    padded = np.pad(edges, [(0, -size % step) for size in edges.shape], mode="edge")
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).max(axis=(1, 3))
    points = ((centroids(labels, count) + 0.5) / step).astype(np.float32)
    first, second = np.triu_indices(count, 1)
    steps = np.ceil(np.abs(points[first] - points[second]).max(axis=1)).astype(np.int64)
    strongest = np.zeros(first.size, np.float32)
    bound = 1
    while True:
        here = np.flatnonzero((steps <= bound) & (steps > bound // 2 if bound > 1 else True))
        start, way = points[first[here]], points[second[here]] - points[first[here]]
        strongest_here = np.zeros(here.size, np.float32)
        for fraction in np.linspace(0, 1, bound + 1, dtype=np.float32):
            row, column = (start + fraction * way).astype(np.intp).T
            np.maximum(strongest_here, blocks[row, column], out=strongest_here)
        strongest[here] = strongest_here
        if bound >= steps.max(initial=0):
            break
        bound *= 2
    similarity = np.ones((count, count), np.float32)
    similarity[first, second] = similarity[second, first] = 1 - strongest
    return similarity
