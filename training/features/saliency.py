"""Saliency, seen globally and through two croppings (paper, section 4.1), as distributions per superpixel.

The map is geodesic saliency (Wei et al., Geodesic saliency using background priors, ECCV 2012): the length of the
shortest way from a region to the border of the view, in colour differences between neighbouring regions. It needs no
training; a fitted map takes its place behind the same function `saliency`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from training.features.superpixels import region_histograms

CROPPINGS = ((1, 1), (2, 2), (3, 3))
"""Tiles (down, across) of the three views: the whole frame, and two croppings whose seams do not coincide."""
BINS = 32
SMOOTHING = 0.25
"""Deviation of the Gaussian over each map, in sides of a superpixel. The map is constant within a superpixel; without
it two neighbours of nearly equal saliency could share no bin. Of 0, 1/4, 1/2 and 1 the best on CamVid's training
frames."""


def saliency(lab: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the saliency features of each superpixel.

    Parameters
    ----------
    lab
        CIELAB pixels, float32 [H, W, 3].
    labels, count
        Superpixels, int32 [H, W], and their number K.

    Returns
    -------
    float32 [K, 3, 32]
        Distribution of the saliency over the superpixel's pixels in the global view and in both croppings; each
        sums to 1.
    """
    sigma = SMOOTHING * np.sqrt(labels.size / count)
    maps = [ndimage.gaussian_filter(saliency_map(lab, labels, *tiles), sigma) for tiles in CROPPINGS]
    return np.stack([region_histograms(view, labels, count, BINS) for view in maps], axis=1)


def saliency_map(lab: NDArray[np.float32], labels: NDArray[np.int32], down: int, across: int) -> NDArray[np.float32]:
    """Return the saliency of each pixel, float32 [H, W] in [0, 1], computed in each of down x across tiles alone."""
    result = np.empty(labels.shape, np.float32)
    for rows in np.array_split(np.arange(labels.shape[0]), down):
        for columns in np.array_split(np.arange(labels.shape[1]), across):
            tile = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            result[tile] = _geodesic(lab[tile], labels[tile])
    return result


def _geodesic(lab: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    ids, regions = np.unique(labels, return_inverse=True)
    regions = regions.reshape(labels.shape)
    count = len(ids)
    area = np.bincount(regions.ravel(), minlength=count)
    sums = [np.bincount(regions.ravel(), lab[..., channel].ravel(), minlength=count) for channel in range(3)]
    mean = np.stack(sums, axis=1) / area[:, None]
    below = np.stack([regions[:-1].ravel(), regions[1:].ravel()])
    beside = np.stack([regions[:, :-1].ravel(), regions[:, 1:].ravel()])
    pairs = np.concatenate([below, beside], axis=1)
    pairs = np.unique(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0), axis=1)
    difference = np.linalg.norm(mean[pairs[0]] - mean[pairs[1]], axis=1) + 1e-6
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    graph = sparse.csr_array((difference, (pairs[0], pairs[1])), shape=(count, count))
    distance = csgraph.dijkstra(graph, directed=False, indices=border, min_only=True)
    return (distance / max(distance.max(), 1e-6)).astype(np.float32)[regions]
