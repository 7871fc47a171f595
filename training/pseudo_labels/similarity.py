"""Similarity of superpixels: eq (1) between distributions, eq (3) within the context of a frame."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.features.regions import RegionFeatures


def histogram_intersection(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Sim(Xi, Xj) of eq (1), the sum over dimensions of min(xi, xj).

    Parameters
    ----------
    first
        Distributions, float32 [N, D], each row non-negative with sum 1.
    second
        Distributions, float32 [M, D].

    Returns
    -------
    float32 [N, M]
        In [0, 1]; 1 for equal distributions.
    """
    return np.stack([np.minimum(first, row).sum(axis=1) for row in second], axis=1)


def imaging_features(features: RegionFeatures) -> NDArray[np.float32]:
    """Return [colour, texture] / 2 of each superpixel, float32 [K, 128], each row with sum 1 (paper, section 4.2)."""
    return np.concatenate([features.colour / 2, features.texture / 2], axis=1)


def context_similarity(features: RegionFeatures, edge_scale: float | None = None) -> NDArray[np.float32]:
    """Return Simc(i, j) of eq (3): E . Sim_global . max(Sim_local1, Sim_local2).

    Parameters
    ----------
    features
        The superpixels of one frame.
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
    views = [histogram_intersection(features.saliency[:, view], features.saliency[:, view]) for view in range(3)]
    return edges * views[0] * np.maximum(views[1], views[2])


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
