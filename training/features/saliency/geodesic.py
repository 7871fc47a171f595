"""Geodesic saliency: how far a superpixel is from the border of the view, in colour. It needs no training.

Y. Wei et al., Geodesic saliency using background priors, ECCV 2012.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from training.features.saliency.tiles import cropped


def geodesic_map(lab: NDArray[np.float32], labels: NDArray[np.int32], down: int, across: int) -> NDArray[np.float32]:
    """Return the geodesic saliency of each pixel, computed in each of down x across tiles alone.

    Parameters
    ----------
    lab
        CIELAB pixels, float32 [H, W, 3].
    labels
        Superpixels, int32 [H, W].
    down, across
        Tiles of the view.

    Returns
    -------
    float32 [H, W]
        In [0, 1]: the length of the shortest way from the pixel's superpixel to the border of its tile, in colour
        differences between neighbours, over the longest such way in the tile.
    """
    result = np.empty(labels.shape, np.float32)
    height, width = labels.shape
    for tile in cropped(height, width, down, across).slices():
        result[tile] = _geodesic(lab[tile], labels[tile])
    return result


def _geodesic(lab: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    ids, regions = np.unique(labels, return_inverse=True)
    regions = regions.reshape(labels.shape)
    count = len(ids)
    mean = mean_colours(lab, regions, count)
    pairs = neighbours(regions)
    difference = np.linalg.norm(mean[pairs[0]] - mean[pairs[1]], axis=1) + 1e-6
    graph = sparse.csr_array((difference, (pairs[0], pairs[1])), shape=(count, count))
    distance = csgraph.dijkstra(graph, directed=False, indices=border_regions(regions), min_only=True)
    return (distance / max(distance.max(), 1e-6)).astype(np.float32)[regions]


def mean_colours(lab: NDArray[np.float32], labels: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return each region's mean colour, float64 [K, 3]."""
    area = np.bincount(labels.ravel(), minlength=count)
    sums = [np.bincount(labels.ravel(), lab[..., channel].ravel(), minlength=count) for channel in range(3)]
    return np.stack(sums, axis=1) / area[:, None]


def neighbours(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the pairs of regions that share a pixel side, [2, E], each once, the smaller number first."""
    below = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    beside = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    pairs = np.concatenate([below, beside], axis=1)
    return np.unique(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0), axis=1)


def border_regions(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the regions that touch the border, ascending."""
    return np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
