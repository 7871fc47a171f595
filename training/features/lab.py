"""CIELAB, the colour space that superpixels, colour, texture and edges share: computed once per frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

_ENCODED = np.arange(256) / 255
_LINEAR = np.where(_ENCODED > 0.04045, ((_ENCODED + 0.055) / 1.055) ** 2.4, _ENCODED / 12.92).astype(np.float32)
"""The light of each of sRGB's 256 values (IEC 61966-2-1). OpenCV's own table of it is interpolated, and wrong by up to
0.4 in CIELAB."""


def rgb_to_lab(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert sRGB pixels, uint8 [H, W, 3], to CIELAB under D65.

    Returns
    -------
    float32 [H, W, 3]
        L in [0, 100], a and b about [-128, 127]; within 0.04 of the definition for every colour, 0.003 on average.
    """
    lab: NDArray[np.float32] = np.asarray(cv2.cvtColor(cv2.LUT(frame, _LINEAR), cv2.COLOR_LRGB2Lab), np.float32)
    return lab
