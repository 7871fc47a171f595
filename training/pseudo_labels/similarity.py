"""Similarity of superpixels: eq (1) between distributions, eq (3) within the context of a frame."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.features.regions import RegionFeatures

_Float = TypeVar("_Float", np.float32, np.float64)
_ROWS = 128
"""Rows of a large similarity matrix that are computed together: as many as stay in the cache."""


def histogram_intersection(first: NDArray[_Float], second: NDArray[_Float]) -> NDArray[_Float]:
    """Return Sim(Xi, Xj) of eq (1), the sum over dimensions of min(xi, xj).

    Parameters
    ----------
    first
        Distributions, [N, D], each row non-negative with sum 1.
    second
        Distributions, [M, D].

    Returns
    -------
    [N, M], of the type of both
        In [0, 1]; 1 for equal distributions.

    Notes
    -----
    It goes through the dimensions one at a time, over all pairs at once, unless `second` has fewer rows than they are.
    Where `second` is `first` itself, one half of the pairs is mirrored.
    """
    if len(second) < first.shape[1]:
        return np.stack([np.minimum(first, row).sum(axis=1) for row in second], axis=1)
    similarity = np.empty((len(first), len(second)), first.dtype)
    transposed = np.ascontiguousarray(second.T)
    for top in range(0, len(first), _ROWS):
        rows, left = slice(top, top + _ROWS), (top if second is first else 0)
        block = np.zeros_like(similarity[rows, left:])
        least = np.empty_like(block)
        for values, others in zip(first[rows].T, transposed[:, left:], strict=True):
            np.minimum(values[:, None], others, out=least)
            block += least
        similarity[rows, left:] = block
        if second is first:
            similarity[left:, rows] = block.T
    return similarity


def imaging_features(features: RegionFeatures) -> NDArray[np.float32]:
    """Return [colour, texture] / 2 of each superpixel, float32 [K, 128], each row with sum 1 (paper, section 4.2)."""
    return np.concatenate([features.colour / 2, features.texture / 2], axis=1)


def context_similarity(features: RegionFeatures, edge_scale: float | None = None) -> NDArray[np.float32]:
    """Return Simc(i, j) of eq (3): E . Sim_global . max(Sim_local1, Sim_local2); E alone without saliency.

    Parameters
    ----------
    features
        The superpixels of one frame. Without saliency, [K, 0, 32], both similarities in it count as 1.
    edge_scale
        None takes E as it is. A number replaces it by exp(-(1 - E) / edge_scale), which falls faster with the
        strength of the edge.

    Returns
    -------
    float32 [K, K]
        In [0, 1], symmetric, 1 on the diagonal.
    """
    edges = features.edge_similarity
    if edge_scale is not None:
        edges = np.exp((edges - 1) / np.float32(edge_scale))
    if features.saliency.shape[1] == 0:
        return edges
    overall, *local = (histogram_intersection(view, view) for view in features.saliency.transpose(1, 0, 2))
    return edges * overall * np.maximum(*local)


def adjacent_context(
    adjacent: NDArray[np.int32], contour: NDArray[np.float32], count: int, edge_scale: float | None
) -> sparse.csr_array:
    """Return the context of the superpixels that touch: E of eq (3) over their common border, all other pairs 0.

    Parameters
    ----------
    adjacent
        Pairs of superpixels that touch, int32 [A, 2].
    contour
        Edge strength between them, float32 [A] in [0, 1]; E is 1 minus it.
    count
        Superpixels K.
    edge_scale
        As for `context_similarity`.

    Returns
    -------
    float32 [K, K]
        In [0, 1], symmetric, 1 on the diagonal, sparse.
    """
    weights = 1 - contour if edge_scale is None else np.exp(-contour / np.float32(edge_scale))
    touching = sparse.csr_array((weights, (adjacent[:, 0], adjacent[:, 1])), shape=(count, count))
    return (touching + touching.T + sparse.eye_array(count, dtype=np.float32)).tocsr()
