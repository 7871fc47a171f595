"""Row runs of superpixels: sums over a superpixel's pixels without a visit to each pixel.

A superpixel is a few hundred pixels but a few dozen runs, its unbroken stretches of a row. A function of the row times
a function of the column sums over a run in constant time, from the running sums of the second: so do areas, centroids
and the weights of bilinear interpolation, and the sums are exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Runs:
    """Unbroken stretches of one superpixel within one row, in reading order; they cover the frame."""

    region: NDArray[np.int64]
    """The superpixel of each run."""
    row: NDArray[np.int64]
    """Its row."""
    start: NDArray[np.int64]
    """Its first column."""
    stop: NDArray[np.int64]
    """The column behind its last."""

    def sums(self, values: NDArray) -> NDArray[np.float64]:
        """Return the sum of `values`, [W], one per column, over each run's columns, float64."""
        running = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        return running[self.stop] - running[self.start]


def row_runs(labels: NDArray[np.int32], breaks: NDArray[np.bool_] | None = None) -> Runs:
    """Find the runs of a frame's superpixels.

    Parameters
    ----------
    labels
        Superpixel of each pixel, int32 [H, W].
    breaks
        Columns at which a run ends though its superpixel goes on, bool [W]: a run starts wherever it is true.
    """
    height, width = labels.shape
    first = np.ones((height, width), np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=first[:, 1:])
    if breaks is not None:
        first |= breaks
    at = np.flatnonzero(first)
    row, start = np.divmod(at, width)
    stop = np.append(start[1:], width)
    stop[stop == 0] = width
    return Runs(labels.ravel()[at].astype(np.int64), row, start, stop)
