"""What DRFI keeps of regions: sums over their pixels, from which the sums of any union of them follow.

Pixels are walked once, for the finest pieces; regions of every tile and level are unions of these, and their sums are
products of a small sparse matrix.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.features.saliency.pixels import HISTOGRAMS, PixelFeatures


@dataclass(frozen=True)
class RegionStatistics:
    """Sums over the pixels of each of R regions."""

    area: NDArray[np.float64]
    """Pixels, [R]."""
    sums: NDArray[np.float64]
    """Sums of `PixelFeatures.values`, [R, 25]."""
    squares: NDArray[np.float64]
    """Sums of their squares, [R, 25]."""
    histograms: tuple[NDArray[np.float32], ...]
    """Pixels per bin, [R, bins] each, by `HISTOGRAMS`."""
    rows: sparse.csr_array
    """Pixels per row of the frame, [R, H]."""
    columns: sparse.csr_array
    """Pixels per column of the frame, [R, W]."""

    def merged(self, union: NDArray[np.int32], count: int) -> "RegionStatistics":
        """Return the statistics of `count` unions; `union` tells for each region in which it is, int32 [R]."""
        regions = len(union)
        member = sparse.csr_array((np.ones(regions), (union, np.arange(regions))), shape=(count, regions))
        light = member.astype(np.float32)
        return RegionStatistics(
            area=np.asarray(member @ self.area),
            sums=np.asarray(member @ self.sums),
            squares=np.asarray(member @ self.squares),
            histograms=tuple(light @ histogram for histogram in self.histograms),
            rows=light @ self.rows,
            columns=light @ self.columns,
        )

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean of each channel, [R, 25]; 0 for a region without pixels."""
        return self.sums / np.maximum(self.area, 1)[:, None]

    @property
    def variances(self) -> NDArray[np.float64]:
        """Variance of each channel, [R, 25]."""
        return np.maximum(self.squares / np.maximum(self.area, 1)[:, None] - self.means**2, 0)

    @property
    def distributions(self) -> list[NDArray[np.float32]]:
        """The histograms, each row with sum 1 (0 for a region without pixels)."""
        area = np.maximum(self.area, 1).astype(np.float32)[:, None]
        return [histogram / area for histogram in self.histograms]


def region_statistics(pixels: PixelFeatures, labels: NDArray[np.int32], count: int) -> RegionStatistics:
    """Sum up each region's pixels.

    Parameters
    ----------
    pixels
        The frame's pixels.
    labels
        Region of each pixel, int32 [H, W], 0..count-1, or -1 for pixels that count nowhere.
    count
        Their number R.
    """
    height, width = labels.shape
    counted = np.flatnonzero(labels.ravel() >= 0)
    everywhere = counted.size == labels.size
    flat = labels.ravel() if everywhere else labels.ravel()[counted]
    values, bins = (array.reshape(len(array), -1) for array in (pixels.values, pixels.bins))
    if not everywhere:
        values, bins = values[:, counted], bins[:, counted]
    sums = np.stack([np.bincount(flat, channel, count) for channel in values], axis=1).astype(np.float64)
    squares = np.stack([np.bincount(flat, channel * channel, count) for channel in values], axis=1).astype(np.float64)
    histograms = tuple(
        np.bincount(flat * size + code, minlength=count * size).reshape(count, size).astype(np.float32)
        for code, size in zip(bins, HISTOGRAMS.values(), strict=True)
    )
    rows, columns = counted // width, counted % width
    return RegionStatistics(
        area=np.bincount(flat, minlength=count).astype(np.float64),
        sums=sums,
        squares=squares,
        histograms=histograms,
        rows=_sparse_counts(flat, rows, count, height),
        columns=_sparse_counts(flat, columns, count, width),
    )


def _sparse_counts(flat: NDArray[np.int32], place: NDArray[np.int64], count: int, size: int) -> sparse.csr_array:
    """Count pixels by (region, place)."""
    counts = np.bincount(flat.astype(np.int64) * size + place, minlength=count * size)
    return sparse.csr_array(counts.reshape(count, size).astype(np.float32))
