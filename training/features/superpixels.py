"""Superpixels: the regions that every later step describes, compares and labels."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from skimage.segmentation import felzenszwalb, slic

from training.features.lab import rgb_to_lab
from training.features.runs import row_runs
from training.settings.method import SuperpixelSettings
from training.taxonomy import BANDS

TILE = 640
"""Longest side that Felzenszwalb's segmentation sees at once, pixels."""


def superpixels(frame: NDArray[np.uint8], settings: SuperpixelSettings) -> NDArray[np.int32]:
    """Cut a frame into superpixels, by SLIC on CIELAB or by Felzenszwalb's graph-based segmentation.

    Felzenszwalb's sorts all borders between pixels and joins them in that order, which grows faster than the pixels do:
    a frame with a side of more than `TILE` pixels is cut tile by tile, and no superpixel crosses a seam.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    settings
        The method and its constants.

    Returns
    -------
    int32 [H, W]
        Superpixel of each pixel, 0..K-1, each one connected. SLIC makes at most about `settings.count`.

    References
    ----------
    R. Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, TPAMI 2012.
    P. Felzenszwalb and D. Huttenlocher, Efficient graph-based image segmentation, IJCV 2004.
    """
    if settings.method == "felzenszwalb":
        return _felzenszwalb(frame, settings)
    lab = rgb_to_lab(frame)
    compactness = settings.compactness / max(float(np.ptp(lab)), 1e-6)  # scikit-image scales the pixels to [0, 1]
    labels = slic(lab, settings.count, compactness=compactness, start_label=0, convert2lab=False)
    return labels.astype(np.int32)


def _felzenszwalb(frame: NDArray[np.uint8], settings: SuperpixelSettings) -> NDArray[np.int32]:
    labels = np.empty(frame.shape[:2], np.int32)
    count = 0
    for rows in np.array_split(np.arange(frame.shape[0]), -(-frame.shape[0] // TILE)):
        for columns in np.array_split(np.arange(frame.shape[1]), -(-frame.shape[1] // TILE)):
            tile = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            found = felzenszwalb(frame[tile], scale=settings.scale, sigma=settings.sigma, min_size=settings.minimum)
            labels[tile] = found + count
            count += int(found.max()) + 1
    return labels


def pixel_membership(labels: NDArray[np.int32], count: int) -> sparse.csr_array:
    """Return the matrix [K, H*W], float32, whose product with pixel values is their mean per superpixel."""
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count)
    order = np.argsort(flat, kind="stable")
    starts = np.concatenate([[0], np.cumsum(area)])
    weights = np.repeat(1 / np.maximum(area, 1), area).astype(np.float32)
    return sparse.csr_array((weights, order, starts), shape=(count, flat.size))


def region_histograms(values: NDArray, labels: NDArray[np.int32], count: int, bins: int = 32) -> NDArray[np.float32]:
    """Return each superpixel's distribution of a map's values.

    Parameters
    ----------
    values
        A map with values in [0, 1], [H, W].
    labels
        Superpixels, int32 [H, W], 0..count-1.
    count
        Their number K.
    bins
        Equal bins over [0, 1].

    Returns
    -------
    float32 [K, bins]
        Share of the superpixel's pixels per bin; each row sums to 1 (to 0 for a number without pixels).
    """
    bin_of_pixel = np.minimum((values * bins).astype(np.int32), bins - 1)
    histogram = np.bincount((labels * bins + bin_of_pixel).ravel(), minlength=count * bins).reshape(count, bins)
    return (histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def centroids(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return each superpixel's mean (row, column), float64 [K, 2], pixels."""
    runs = row_runs(labels)
    length = runs.stop - runs.start
    area, rows, columns = (
        np.bincount(runs.region, weights, minlength=count)
        for weights in (length, length * runs.row, runs.sums(np.arange(labels.shape[1])))
    )
    return np.stack([rows, columns], axis=1) / np.maximum(area, 1)[:, None]


def bands(labels: NDArray[np.int32], count: int) -> NDArray[np.uint8]:
    """Return the row of the frame, 1 (top) to 4 (bottom), that holds each superpixel's centroid, uint8 [K]."""
    row = centroids(labels, count)[:, 0]
    return (1 + np.minimum(BANDS * (row + 0.5) // labels.shape[0], BANDS - 1)).astype(np.uint8)


def widths(labels: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the columns that each superpixel spans, float32 [K], as a share of the frame's width."""
    runs = row_runs(labels)
    first, behind = np.full(count, labels.shape[1]), np.zeros(count, np.int64)
    np.minimum.at(first, runs.region, runs.start)
    np.maximum.at(behind, runs.region, runs.stop)
    return ((behind - first) / labels.shape[1]).astype(np.float32)


def adjacency(labels: NDArray[np.int32], edges: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return which superpixels touch, and how strong the edge between them is.

    Parameters
    ----------
    labels
        Superpixels, int32 [H, W], from 0.
    edges
        Edge strength, float32 [H, W] in [0, 1].

    Returns
    -------
    pairs
        int32 [A, 2], the smaller number first, in ascending order.
    contour
        float32 [A] in [0, 1]: over the pairs of neighbouring pixels (4-neighbourhood) that the border parts, the mean
        of the stronger edge of the two.
    """
    numbers, strengths = [], []
    count = int(labels.max()) + 1
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        parted = labels[one] != labels[other]
        first, second = labels[one][parted].astype(np.int64), labels[other][parted].astype(np.int64)
        numbers.append(np.minimum(first, second) * count + np.maximum(first, second))
        strengths.append(np.maximum(edges[one][parted], edges[other][parted]))
    pairs, pair_of = np.unique(np.concatenate(numbers), return_inverse=True)
    total = np.bincount(pair_of, np.concatenate(strengths), minlength=len(pairs))
    contour = total / np.maximum(np.bincount(pair_of, minlength=len(pairs)), 1)
    return np.stack(np.divmod(pairs, count), axis=1).astype(np.int32), contour.astype(np.float32)
