"""Arrays as text that a page can carry: little-endian values, deflated, in base64.

A browser takes them apart with `atob`, `DecompressionStream("deflate")` and a typed array. No array travels as a
picture: browsers that guard against fingerprinting answer a canvas's pixels with noise, which would scramble ids.
"""

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
"""Steps of a quantised value; a value in [0, 1] is off by at most 1/510."""


def pack(array: NDArray) -> str:
    """Return an array's values in C order as text.

    Parameters
    ----------
    array
        uint8, uint16, uint32 or float32, of any shape; the shape does not travel.
    """
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def quantise(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as uint8 of the same shape, rounded to 255 steps."""
    return np.round(np.clip(values, 0, 1) * LEVELS).astype(np.uint8)


def quantise_columns(values: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return non-negative values [K, S], each column over its own maximum, as uint8, and the maxima, float32 [S].

    Small columns keep as many steps as large ones.
    """
    most = values.max(axis=0).astype(np.float32)
    return quantise(values / np.where(most > 0, most, 1)), most


def upper_triangle(matrix: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the upper triangle with the diagonal of a symmetric matrix [K, K] in [0, 1], row by row.

    The roots are quantised, so that small similarities, of which there are many, keep their order: what is read back is
    off by at most 1/255, and by at most 1/500 below 1/4.

    Returns
    -------
    uint8 [K (K + 1) / 2]
        (i, j) with i <= j stands at i K - i (i - 1) / 2 + j - i, as 255 times its root.
    """
    return quantise(np.sqrt(matrix[np.triu_indices(len(matrix))]))
