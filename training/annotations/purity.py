"""How plain a region of a frame is, judged by its colour, its shape and what it touches: no ground truth says it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import find_boundaries

from training.features.embedding import EmbeddedRegions
from training.features.lab import rgb_to_lab
from training.features.superpixels import pixel_membership
from training.settings.method import EmbeddingSettings

UNEVEN = 10.0
"""Deviation of a region's colour, in CIELAB, at which its evenness has fallen to 1/e."""


def region_purity(frame: EmbeddedRegions, image: NDArray[np.uint8], settings: EmbeddingSettings) -> NDArray[np.float64]:
    """Return how plain each region of a frame is, float64 [K] in [0, 1].

    The geometric mean of two shares. Its evenness is exp(-deviation of its colour / `UNEVEN`). The other is how far its
    description is its own: the network sees half a cell beyond a pixel, so that the rim of that width counts by the
    mean cosine of the region to those it touches, clipped at 0, and what lies deeper counts in full.

    Parameters
    ----------
    frame
        The frame's regions.
    image
        The frame itself, uint8 [H, W, 3], RGB.
    settings
        The passes; see `cell_side`.
    """
    count = len(frame.area)
    membership = pixel_membership(frame.labels, count)
    lab = rgb_to_lab(image).reshape(-1, 3).astype(np.float64)
    variance = (membership @ np.square(lab) - np.square(membership @ lab)).sum(axis=1)
    evenness = np.exp(-np.sqrt(np.maximum(variance, 0)) / UNEVEN)
    one, other = frame.adjacent.T
    cosine = (frame.embedding[one] * frame.embedding[other]).sum(axis=1)
    ends = frame.adjacent.T.ravel()
    touching = np.bincount(ends, minlength=count)
    among = np.bincount(ends, np.concatenate([cosine, cosine]), minlength=count) / np.maximum(touching, 1)
    depth = ndimage.distance_transform_edt(~find_boundaries(frame.labels, mode="thick")) if len(one) else np.inf
    rim = membership @ np.broadcast_to(depth < cell_side(len(image), settings) / 2, frame.labels.shape).ravel()
    return np.sqrt(evenness * np.clip(1 - rim * (1 - np.clip(among, 0, 1)), 0, 1))


def cell_side(height: int, settings: EmbeddingSettings) -> float:
    """Return the side, in pixels of a frame of this height, of a cell of the network's last layers in the finest pass.

    A region of less than half a cell is described by what surrounds it.
    """
    return settings.output_stride * height / max(one.height for one in settings.passes)
