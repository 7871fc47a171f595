"""Imaging features (paper, section 4.1): colour and texture, each a distribution per superpixel."""

import numpy as np
from numpy.typing import NDArray
from skimage.feature import local_binary_pattern

from training.features.superpixels import region_histograms

BINS = 32
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
    scaled = [
        lab[..., 0] / 100,
        (np.clip(lab[..., 1], -CHROMA_RANGE, CHROMA_RANGE) + CHROMA_RANGE) / (2 * CHROMA_RANGE),
        (np.clip(lab[..., 2], -CHROMA_RANGE, CHROMA_RANGE) + CHROMA_RANGE) / (2 * CHROMA_RANGE),
    ]
    histograms = [region_histograms(np.clip(channel, 0, 1), labels, count, BINS) for channel in scaled]
    return np.concatenate(histograms, axis=1) / np.float32(3)


def texture(lab: NDArray[np.float32], labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the texture feature T of each superpixel.

    The texture map is the rotation-invariant uniform local binary pattern of the lightness with 30 neighbours at
    radius 3: it has exactly 32 values, one per bin.

    Returns
    -------
    float32 [K, 32]
        Each row sums to 1.

    References
    ----------
    T. Ojala et al., Multiresolution gray-scale and rotation invariant texture classification, TPAMI 2002.
    """
    lightness = np.clip(lab[..., 0] * 2.55, 0, 255).astype(np.uint8)
    patterns = local_binary_pattern(lightness, P=BINS - 2, R=3, method="uniform")
    return region_histograms((patterns + 0.5) / BINS, labels, count, BINS)
