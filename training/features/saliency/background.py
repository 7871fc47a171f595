"""Robust background detection, the unsupervised map beside which a fitted forest is reported.

W. Zhu et al., Saliency optimization from robust background detection, CVPR 2014. A superpixel is background where much
of what is like it lies on the border of the frame; contrast counts against the background alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from skimage.filters import threshold_otsu

from training.features.saliency.geodesic import border_regions, mean_colours, neighbours
from training.features.superpixels import centroids

COLOUR_SIGMA = 10.0
"""Scale of colour differences, of neighbours and along a way, in CIELAB."""
PLACE_SIGMA = 0.25
"""Scale of distances, in sides of the frame."""
CONNECTIVITY_SIGMA = 1.0
"""Scale of boundary connectivity."""
LEAST_SMOOTHNESS = 0.1
"""Weight of the difference between neighbours of whatever colour."""


def robust_background_map(lab: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the saliency of each pixel, float32 [H, W] in [0, 1].

    Parameters
    ----------
    lab
        CIELAB pixels, float32 [H, W, 3].
    labels, count
        Superpixels, int32 [H, W], and their number K.
    """
    colour = mean_colours(lab, labels, count)
    place = centroids(labels, count) / labels.shape
    difference = np.linalg.norm(colour[:, None] - colour, axis=2)
    away = ((place[:, None] - place) ** 2).sum(axis=2)
    border = border_regions(labels)
    touching = _touching(labels, border, count)
    background = _background(difference, touching, border)
    contrast = (difference * np.exp(-away / (2 * PLACE_SIGMA**2))) @ background
    foreground = (contrast - contrast.min()) / max(np.ptp(contrast), 1e-6)
    foreground[foreground < threshold_otsu(foreground)] = 0
    near = ((touching @ touching) > 0) | touching
    weight = np.where(near, np.exp(-(difference**2) / (2 * COLOUR_SIGMA**2)) + LEAST_SMOOTHNESS, 0)
    np.fill_diagonal(weight, 0)
    system = np.diag(weight.sum(axis=1) + background + foreground + 1e-9) - weight
    return np.clip(np.linalg.solve(system, foreground), 0, 1).astype(np.float32)[labels]


def _touching(labels: NDArray[np.int32], border: NDArray[np.integer], count: int) -> NDArray[np.bool_]:
    """Return which superpixels are neighbours, bool [K, K]; all on the border count as each other's."""
    touching = np.zeros((count, count), bool)
    first, second = neighbours(labels)
    touching[first, second] = touching[second, first] = True
    touching[np.ix_(border, border)] = True
    np.fill_diagonal(touching, False)
    return touching


def _background(
    difference: NDArray[np.float64], touching: NDArray[np.bool_], border: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return how surely each superpixel is background, [K] in [0, 1], from its boundary connectivity."""
    noise = np.where(touching, difference, np.inf).min(axis=1)
    clipped = np.maximum(difference - noise[np.isfinite(noise)].mean(), 0) + 1e-9
    way = csgraph.dijkstra(sparse.csr_array(np.where(touching, clipped, 0)), directed=False)
    alike = np.exp(-(way**2) / (2 * COLOUR_SIGMA**2))
    connectivity = alike[:, border].sum(axis=1) / np.sqrt(alike.sum(axis=1))
    return 1 - np.exp(-(connectivity**2) / (2 * CONNECTIVITY_SIGMA**2))
