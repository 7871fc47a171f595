"""The 93 numbers by which DRFI judges a region: contrast, backgroundness and property (Jiang et al., CVPR 2013).

Contrast is the difference from the regions around, backgroundness that from a strip along the border of the view, and
property is what the region is in itself.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.features.saliency.pixels import CHANNELS, COLOURS, FILTERS, HISTOGRAMS
from training.features.saliency.segmentation import RegionGraph
from training.features.saliency.statistics import RegionStatistics
from training.features.saliency.tiles import View

_SPACES = tuple(HISTOGRAMS)[:3]
DIFFERENCES = (
    *(name for space in range(3) for name in (*COLOURS[3 * space : 3 * space + 3], f"{_SPACES[space]} histogram")),
    *(f"response {name}" for name in FILTERS),
    "strongest filter histogram",
    "pattern histogram",
)
"""In what two sets of pixels differ, 29: the absolute difference of their means, or the chi-square distance of their
histograms."""
PROPERTIES = (
    *("mean x", "mean y", "10th percentile x", "10th percentile y", "90th percentile x", "90th percentile y"),
    *("perimeter", "aspect ratio"),
    *(f"variance {name}" for name in CHANNELS),
    *("area", "area of neighbours"),
)
"""What a region is in itself, 35. Places are shares of its tile's sides, perimeter and areas of the tile's own; the
aspect ratio is width over height of the bounding box."""
DESCRIPTORS = (
    *(f"contrast {name}" for name in DIFFERENCES),
    *(f"backgroundness {name}" for name in DIFFERENCES),
    *(f"property {name}" for name in PROPERTIES),
)
"""Names of the 93 features, in order."""

_CHUNK = 512
"""Pairs whose histograms are compared at a time, so that they stay in the processor's cache."""


def describe(
    regions: RegionStatistics, graph: RegionGraph, view: View, tile: NDArray[np.int32], background: RegionStatistics
) -> NDArray[np.float32]:
    """Return the features of R regions.

    Parameters
    ----------
    regions, graph
        The regions, of all tiles of a view.
    view
        The view, of T tiles.
    tile
        Tile of each region, int32 [R].
    background
        The pseudo-background of each tile, T of them: a strip along its border.

    Returns
    -------
    float32 [R, 93]
        By `DESCRIPTORS`.
    """
    contrast, neighbour_area = _contrast(regions, graph)
    backgroundness = differences(regions, np.arange(len(regions.area)), background, tile)
    properties = _properties(regions, graph, view, tile, neighbour_area)
    return np.concatenate([contrast, backgroundness, properties], axis=1).astype(np.float32)


def differences(
    first: RegionStatistics, chosen: NDArray[np.integer], second: RegionStatistics, others: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the differences between regions `chosen` of `first` and `others` of `second`, float64 [P, 29].

    By `DIFFERENCES`. The chi-square distance of two distributions is the sum of 2 (h - g)^2 / (h + g), in [0, 4].
    """
    means = np.abs(first.means[chosen] - second.means[others])
    distances = [
        _chi_square(one, chosen, other, others)
        for one, other in zip(first.distributions, second.distributions, strict=True)
    ]
    parts = []
    for space in range(3):
        parts += [means[:, 3 * space : 3 * space + 3], distances[space][:, None]]
    parts += [means[:, len(COLOURS) : -1], distances[3][:, None], distances[4][:, None]]
    return np.concatenate(parts, axis=1)


def _chi_square(
    first: NDArray[np.float32], chosen: NDArray[np.integer], second: NDArray[np.float32], others: NDArray[np.integer]
) -> NDArray[np.float64]:
    result = np.empty(len(chosen))
    for start in range(0, len(chosen), _CHUNK):
        part = slice(start, start + _CHUNK)
        one, other = first[chosen[part]], second[others[part]]
        total = one + other
        one -= other
        one *= one
        np.maximum(total, np.float32(1e-12), out=total)
        one /= total
        result[part] = 2 * one.sum(axis=1)
    return result


def _contrast(regions: RegionStatistics, graph: RegionGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the contrast to the neighbours, each weighed by its share of their area, [R, 29], and that area [R]."""
    count, edges = len(regions.area), len(graph.first)
    pair = np.arange(edges)
    weight = sparse.csr_array(
        (
            np.concatenate([regions.area[graph.second], regions.area[graph.first]]),
            (np.concatenate([graph.first, graph.second]), np.tile(pair, 2)),
        ),
        shape=(count, edges),
    )
    area = weight @ np.ones(edges)
    difference = differences(regions, graph.first, regions, graph.second)
    return (weight @ difference) / np.maximum(area, 1)[:, None], area


def _properties(
    regions: RegionStatistics,
    graph: RegionGraph,
    view: View,
    tile: NDArray[np.int32],
    neighbour_area: NDArray[np.float64],
) -> NDArray[np.float64]:
    origin, size = view.top_left[tile], view.size[tile]
    extents = [_extents(counts, regions.area) for counts in (regions.rows, regions.columns)]
    # [5, R, 2]: mean, 10th and 90th percentile, first and last pixel, each (row, column)
    mean, tenth, ninetieth, low, high = np.stack(extents, axis=2)
    mean, tenth, ninetieth = ((place + 0.5 - origin) / size for place in (mean, tenth, ninetieth))
    sides = np.bincount(graph.first, graph.length, len(tile)) + np.bincount(graph.second, graph.length, len(tile))
    box = high - low + 1
    return np.column_stack(
        [
            *(place[:, [1, 0]] for place in (mean, tenth, ninetieth)),
            (sides + graph.border) / (2 * size.sum(axis=1)),
            box[:, 1] / box[:, 0],
            regions.variances,
            regions.area / size.prod(axis=1),
            neighbour_area / size.prod(axis=1),
        ]
    )


def _extents(counts: sparse.csr_array, area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean, 10th and 90th percentile, first and last place of each region's pixels, [5, R]."""
    counts.sort_indices()
    places, ends = counts.indices, counts.indptr
    total = np.concatenate([[0.0], np.cumsum(counts.data, dtype=np.float64)])
    begun = total[ends[:-1]]
    tenth, ninetieth = (places[np.searchsorted(total[1:], begun + np.ceil(share * area) - 0.5)] for share in (0.1, 0.9))
    mean = (counts @ np.arange(counts.shape[1], dtype=np.float64)) / area
    return np.stack([mean, tenth, ninetieth, places[ends[:-1]], places[ends[1:] - 1]])
