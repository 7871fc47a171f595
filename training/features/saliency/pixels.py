"""What DRFI sees of a pixel, computed once per frame: three colour spaces, filter responses, local binary patterns.

All later steps look at sums of these over regions alone, so nothing here is done again for a tile or for a level.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS = ("red", "green", "blue", "lightness", "a", "b", "hue", "saturation", "value")
"""The colour channels, each scaled to [0, 1]: RGB, CIELAB, HSV."""
ORIENTATIONS = 6
"""Of the edge and bar filters, every 30 degrees."""
FILTERS = (
    *(f"edge {180 * turn // ORIENTATIONS}" for turn in range(ORIENTATIONS)),
    *(f"bar {180 * turn // ORIENTATIONS}" for turn in range(ORIENTATIONS)),
    "gaussian",
    "blob",
    "large blob",
)
"""The 15 filters, a subset of Leung and Malik's bank: oriented first and second derivatives, a Gaussian, two Laplacians
of Gaussians."""
CHANNELS = (*COLOURS, *(f"response {name}" for name in FILTERS), "pattern")
"""What `PixelFeatures.values` holds, in order."""
HISTOGRAMS = {"RGB": 256, "CIELAB": 256, "HSV": 256, "strongest filter": len(FILTERS) - 1, "pattern": 256}
"""What `PixelFeatures.bins` holds, in order, with the number of bins. The Gaussian, which answers to any light, does
not compete for the strongest filter: it would nearly always win."""

SUPPORT = 19
"""Side of a filter, pixels."""
SCALE = float(np.sqrt(2))
"""Deviation of the smallest Gaussian, pixels; oriented filters are three times as long, the large blob as large."""


@dataclass(frozen=True)
class PixelFeatures:
    """The pixels of one frame."""

    values: NDArray[np.float32]
    """[25, H, W], by `CHANNELS`, each about in [0, 1]."""
    bins: NDArray[np.int32]
    """Bin of each pixel in each histogram, [5, H, W], by `HISTOGRAMS`."""


def pixel_features(frame: NDArray[np.uint8]) -> PixelFeatures:
    """Describe the pixels of a frame, uint8 [H, W, 3], RGB.

    Colour histograms have 8 x 8 x 4 bins, fine in the first two channels of RGB and in lightness and a of CIELAB and in
    hue and saturation of HSV.
    """
    rgb = frame.astype(np.float32) / 255
    lab = (cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB) + np.array([0, 128, 128], np.float32)) / np.array(
        [100, 255, 255], np.float32
    )
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) / np.array([360, 1, 1], np.float32)
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)
    responses = np.stack([np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel)) for kernel in filter_bank()])
    patterns = local_binary_patterns(grey)
    spaces = [np.moveaxis(space, 2, 0).astype(np.float32) for space in (rgb, lab, hsv)]
    values = np.concatenate([*spaces, responses, patterns[None] / np.float32(255)])
    strongest = np.delete(responses, FILTERS.index("gaussian"), axis=0).argmax(axis=0)
    bins = [*(_joint_bins(space) for space in spaces), strongest, patterns]
    return PixelFeatures(values, np.stack(bins).astype(np.int32))


@lru_cache(maxsize=1)
def filter_bank() -> NDArray[np.float32]:
    """Return the 15 filters, float32 [15, 19, 19], by `FILTERS`.

    All but the Gaussian have mean 0; all have absolute sum 1, so that responses to an image in [0, 1] lie in [-1, 1].

    References
    ----------
    T. Leung and J. Malik, Representing and recognizing the visual appearance of materials using three-dimensional
    textons, IJCV 2001; the subset of D. Hoiem et al., Recovering surface layout from an image, IJCV 2007.
    """
    reach = SUPPORT // 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    filters = []
    for order in (1, 2):
        for turn in range(ORIENTATIONS):
            angle = np.pi * turn / ORIENTATIONS
            along = columns * np.cos(angle) + rows * np.sin(angle)
            across = rows * np.cos(angle) - columns * np.sin(angle)
            envelope = np.exp(-(along**2 / 9 + across**2) / (2 * SCALE**2))
            filters.append(envelope * (across if order == 1 else 1 - (across / SCALE) ** 2))
    squared = rows**2 + columns**2
    gaussian = np.exp(-squared / (2 * SCALE**2))
    for scale in (SCALE, 3 * SCALE):
        filters.append(np.exp(-squared / (2 * scale**2)) * (1 - squared / (2 * scale**2)))
    filters = [kernel - kernel.mean() for kernel in filters]
    filters.insert(2 * ORIENTATIONS, gaussian)
    return np.stack([kernel / np.abs(kernel).sum() for kernel in filters]).astype(np.float32)


def local_binary_patterns(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return which of its 8 neighbours are at least as bright as each pixel, uint8 [H, W], one bit each.

    Bits go clockwise from the top left neighbour; beyond the border the border's own pixels stand.
    """
    height, width = grey.shape
    padded = np.pad(grey, 1, mode="edge")
    patterns = np.zeros(grey.shape, np.uint8)
    for bit, (down, right) in enumerate([(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]):
        patterns |= (padded[down : down + height, right : right + width] >= grey).astype(np.uint8) << bit
    return patterns


def _joint_bins(space: NDArray[np.float32]) -> NDArray[np.int32]:
    first, second, third = (
        np.minimum((channel * count).astype(np.int32), count - 1)
        for channel, count in zip(space, (8, 8, 4), strict=True)
    )
    return (first * 8 + second) * 4 + third
