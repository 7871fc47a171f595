"""Similarity of superpixels: eq (1) between distributions, eq (3) within the context of a frame."""

import numpy as np
from numpy.typing import NDArray

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
    views = [histogram_intersection(features.saliency[:, view], features.saliency[:, view]) for view in range(3)]
    return edges * views[0] * np.maximum(views[1], views[2])
