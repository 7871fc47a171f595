"""Imaging features (paper, section 4.1): colour and texture, each a distribution per superpixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.features.superpixels import region_histograms

BINS = 32
NEIGHBOURS, RADIUS, SUBPIXELS = BINS - 2, 3, 16
"""The circle of the local binary patterns: its points, its radius in pixels, and the parts of a pixel it is kept to."""
STRIP = 64
"""Rows whose patterns are found at a time: as many as stay in the cache."""
CHROMA_RANGE = 20.0
"""CIELAB's a and b beyond this are clipped: of 64, 32 and 20 the one that served CamVid's training frames best."""


def colour(lab: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the colour feature C of each superpixel.

    Parameters
    ----------
    lab
        CIELAB pixels, float32 [H, W, 3]: L in [0, 100], a and b about [-128, 127].
    labels, count
        Superpixels, int32 [H, W], and their number K.

    Returns
    -------
    float32 [K, 96]
        Three 32-bin histograms, of L, a and b scaled to [0, 1]; each row sums to 1.
    """
    planes = zip(cv2.split(lab), ((0, 100), (-CHROMA_RANGE, CHROMA_RANGE), (-CHROMA_RANGE, CHROMA_RANGE)), strict=True)
    scaled = [np.clip((plane - low) / (high - low), 0, 1) for plane, (low, high) in planes]
    histograms = [region_histograms(channel, labels, count, BINS) for channel in scaled]
    return np.concatenate(histograms, axis=1) / np.float32(3)


def texture(lab: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the texture feature T of each superpixel.

    The texture map is the rotation-invariant uniform local binary pattern of the lightness with 30 neighbours at
    radius 3: it has exactly 32 values, one per bin.

    Returns
    -------
    float32 [K, 32]
        Each row sums to 1.
    """
    lightness = np.clip(lab[..., 0] * 2.55, 0, 255).astype(np.uint8)
    return region_histograms((uniform_patterns(lightness) + np.float32(0.5)) / BINS, labels, count, BINS)


def uniform_patterns(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the rotation-invariant uniform local binary pattern of each pixel.

    Around a pixel stand 30 neighbours on a circle of radius 3, read by bilinear interpolation; each is at least as
    light as the pixel, or darker. Where the circle has at most one light and one dark arc the pattern is the number of
    light neighbours, elsewhere it is 31. Neighbours' positions are rounded to 1/16 pixel, so that integers hold every
    value exactly and a plane has all its neighbours as light as itself; the border pixels continue beyond the frame.

    Parameters
    ----------
    image
        uint8 [H, W].

    Returns
    -------
    uint8 [H, W]
        0 to 31.

    References
    ----------
    T. Ojala et al., Multiresolution gray-scale and rotation invariant texture classification, TPAMI 2002.
    """
    height, width = image.shape
    reach = RADIUS + 1
    padded = np.pad(image, reach, mode="edge").astype(np.uint16)
    patterns = np.empty(image.shape, np.uint8)
    for top in range(0, height, STRIP):
        strip = padded[top : min(top + STRIP, height) + 2 * reach]
        rows = len(strip) - 2 * reach
        level = strip[reach : reach + rows, reach : reach + width] * np.uint16(SUBPIXELS**2)
        beside = {column: _between(strip.T, reach * SUBPIXELS + column, width).T for _, column in _CIRCLE}
        light = [
            (_between(beside[column], reach * SUBPIXELS + row, rows) >= level).view(np.uint8) for row, column in _CIRCLE
        ]
        ones, changes = np.zeros((2, rows, width), np.uint8)
        for before, here in zip([light[-1], *light], light, strict=False):
            ones += here
            changes += here ^ before
        patterns[top : top + rows] = np.where(changes <= 2, ones, NEIGHBOURS + 1)
    return patterns


_ANGLES = 2 * np.pi * np.arange(NEIGHBOURS) / NEIGHBOURS
_CIRCLE = [(round(-RADIUS * SUBPIXELS * np.sin(angle)), round(RADIUS * SUBPIXELS * np.cos(angle))) for angle in _ANGLES]
"""Row and column of each neighbour, in parts of a pixel."""


def _between(lines: NDArray[np.uint16], position: int, length: int) -> NDArray[np.uint16]:
    """Return `length` lines from `position`, in parts of a line, each between its two neighbours; times SUBPIXELS."""
    line, part = divmod(position, SUBPIXELS)
    between = lines[line : line + length] * np.uint16(SUBPIXELS - part)
    if part:
        between += lines[line + 1 : line + 1 + length] * np.uint16(part)
    return between
