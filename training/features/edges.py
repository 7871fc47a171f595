"""The edge map and E(i, j), the similarity of two superpixels on it (paper, section 4.1)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.features.superpixels import centroids

FAINTEST = 0.5
"""The least gradient of an edge of strength 1, CIELAB per pixel: below it nobody sees an edge, and the rounding of
8 bits makes some."""
STEPS_PER_DIAGONAL = 150
"""Resolution of the way between two superpixels, in steps per diagonal of the frame."""
_WAYS = 16384
"""Ways that are walked together: as many as stay in the cache."""
_LOOK = 16
"""Steps after which ways that have met an edge of strength 1 are left."""
_FRACTION = 16
"""Bits behind the point of a position."""


def edge_map(lab: NDArray[np.float32], sigma: float = 1.0) -> NDArray[np.float32]:
    """Return the edge strength of each pixel, float32 [H, W] in [0, 1].

    The gradient's length in CIELAB at scale `sigma` pixels, over its 99th percentile in the frame and clipped: a
    strong edge is one that is strong for this frame, whatever the light, but no fainter than `FAINTEST`.
    """
    offsets = np.arange(-round(4 * sigma), round(4 * sigma) + 1)
    gaussian = np.exp(-((offsets / sigma) ** 2) / 2)
    gaussian /= gaussian.sum()
    slope = gaussian * offsets / sigma**2
    squared = np.zeros(lab.shape[:2], np.float32)
    for plane in cv2.split(lab):
        for across, down in ((slope, gaussian), (gaussian, slope)):
            derivative = cv2.sepFilter2D(plane, -1, across, down, borderType=cv2.BORDER_REPLICATE)
            squared += np.square(derivative, out=derivative)
    strength = np.sqrt(squared)
    return np.minimum(strength / np.float32(max(np.percentile(strength, 99), FAINTEST)), 1)


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
        In [0, 1], symmetric, 1 on the diagonal. The way is walked in steps of at most 1/150 of the frame's diagonal
        along its longer side, and each step sees the strongest edge within half a step, so that no edge is missed.
        A way is the same from both ends, and does not depend on the superpixels' numbers.

    Notes
    -----
    Time grows with the number of pairs times the way in steps, and so not with the frame's size. Ways of about equal
    length are walked together, and one that has met an edge of strength 1 has no farther to go.

    References
    ----------
    T. Leung and J. Malik, Contour continuity in region based image segmentation, ECCV 1998 (intervening contour).
    """
    step = max(1, round(float(np.hypot(*edges.shape)) / STEPS_PER_DIAGONAL))
    blocks = _block_maxima(edges, step)
    points = (centroids(labels, count) + 0.5) / step
    order = np.lexsort((points[:, 1], points[:, 0]))
    row, column = places = (points[order].T * (1 << _FRACTION)).astype(np.int32)
    start, end = np.triu_indices(count, 1)
    steps = (np.maximum(row[end] - row[start], np.abs(column[end] - column[start])) >> _FRACTION).astype(np.int16) + 1
    by_steps = np.argsort(steps, kind="stable")
    strongest = np.empty(len(steps), np.float32)
    for first in range(0, len(steps), _WAYS):
        ways = by_steps[first : first + _WAYS]
        starts, ends = places.take(start[ways], axis=1), places.take(end[ways], axis=1)
        strongest[ways] = _strongest(blocks, starts, ends, int(steps[ways[-1]]))
    similarity = np.ones((count, count), np.float32)
    one, other = order[start], order[end]
    similarity[one, other] = similarity[other, one] = 1 - strongest
    return similarity


def _block_maxima(edges: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    padded = np.pad(edges, [(0, -size % side) for size in edges.shape], mode="edge")
    rows = padded.reshape(padded.shape[0] // side, side, padded.shape[1]).max(axis=1)
    return rows.reshape(len(rows), -1, side).max(axis=2)


def _strongest(
    blocks: NDArray[np.float32], start: NDArray[np.int32], end: NDArray[np.int32], steps: int
) -> NDArray[np.float32]:
    """Return the maximum over the blocks at both ends of `steps` equal steps, for ways [2, n] from start to end."""
    place, step = start, (end - start) // steps
    strongest = np.zeros(start.shape[1], np.float32)
    going, seen = np.arange(start.shape[1]), strongest.copy()
    for number in range(steps + 1):
        block = place[0] >> _FRACTION
        block *= blocks.shape[1]
        block += place[1] >> _FRACTION
        np.maximum(seen, blocks.take(block), out=seen)
        place += step
        if number % _LOOK == _LOOK - 1 or number == steps:
            strongest[going] = seen
            on = np.flatnonzero(seen < 1)
            going, seen = going[on], seen[on]
            place, step = place.take(on, axis=1), step.take(on, axis=1)
    return strongest
