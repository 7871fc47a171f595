"""DRFI's segmentations: one fine graph-based segmentation of the frame, and coarser levels by merging its regions.

Levels are made for each tile of a view alone, all tiles of a view at once: the graph of regions has no edge across a
seam. Merging looks at region sums, never at pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from skimage.segmentation import felzenszwalb

from training.features.saliency.pixels import CHANNELS
from training.features.saliency.statistics import RegionStatistics

ALIKE = slice(CHANNELS.index("lightness"), CHANNELS.index("pattern"))
"""By which means regions are merged: CIELAB, HSV and filter responses. On held-out scenes the merged levels were better
than by CIELAB alone."""


@dataclass(frozen=True)
class RegionGraph:
    """Which regions touch, and along how many pixel sides."""

    first: NDArray[np.int32]
    """[E], smaller than `second`; pairs are unique."""
    second: NDArray[np.int32]
    """[E]."""
    length: NDArray[np.float64]
    """Pixel sides between the two, [E]."""
    border: NDArray[np.float64]
    """Pixel sides of each region on the border of its view, [R]."""

    def merged(self, union: NDArray[np.int32], count: int) -> "RegionGraph":
        """Return the graph of `count` unions; `union` tells for each region in which it is, int32 [R]."""
        pairs = np.sort(np.stack([union[self.first], union[self.second]]), axis=0)
        apart = pairs[0] != pairs[1]
        first, second, length = _unique_pairs(pairs[:, apart], self.length[apart], count)
        return RegionGraph(first, second, length, np.bincount(union, self.border, count).astype(np.float64))

    def cut(self, tile: NDArray[np.int32]) -> "RegionGraph":
        """Return the graph without edges between tiles, whose sides now lie on a border; `tile` of each region, [R]."""
        across = tile[self.first] != tile[self.second]
        ends = np.concatenate([self.first[across], self.second[across]])
        border = self.border + np.bincount(ends, np.tile(self.length[across], 2), len(self.border))
        return RegionGraph(self.first[~across], self.second[~across], self.length[~across], border)


def fine_segmentation(frame: NDArray[np.uint8], *, scale: float, sigma: float, minimum_size: int) -> NDArray[np.int32]:
    """Return the fine segmentation of a frame, int32 [H, W], regions from 0.

    References
    ----------
    P. Felzenszwalb and D. Huttenlocher, Efficient graph-based image segmentation, IJCV 2004.
    """
    return felzenszwalb(frame, scale=scale, sigma=sigma, min_size=minimum_size).astype(np.int32)


def region_graph(labels: NDArray[np.int32], count: int) -> RegionGraph:
    """Return the graph of the regions of a label image, int32 [H, W], 0..count-1, in the view of the whole frame."""
    below = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    beside = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    pairs = np.concatenate([below, beside], axis=1)
    pairs = np.sort(pairs[:, pairs[0] != pairs[1]], axis=0)
    first, second, length = _unique_pairs(pairs, np.ones(pairs.shape[1]), count)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return RegionGraph(first, second, length, np.bincount(edges, minlength=count).astype(np.float64))


def coarser(
    statistics: RegionStatistics, graph: RegionGraph, tile: NDArray[np.int32], most: int
) -> tuple[NDArray[np.int32], int]:
    """Merge regions until no tile has more than `most`.

    The price of a merger is the squared difference of the regions' means times the root of their areas' harmonic mean:
    small regions go first, into the neighbour they resemble, and large ones that differ stay apart to the end. The
    cheapest edges of the minimum spanning tree are taken all at once.

    Parameters
    ----------
    statistics, graph
        The regions, of all tiles of a view.
    tile
        Tile of each region, int32 [R].
    most
        Regions that a tile may keep.

    Returns
    -------
    union, count
        In which of the merged regions each region is, int32 [R], and their number.
    """
    means = statistics.means[:, ALIKE]
    area = statistics.area
    difference = ((means[graph.first] - means[graph.second]) ** 2).sum(axis=1)
    weight = np.sqrt(1 / (1 / area[graph.first] + 1 / area[graph.second]))
    price = sparse.csr_array((weight * difference + 1e-9, (graph.first, graph.second)), shape=(len(area),) * 2)
    tree = csgraph.minimum_spanning_tree(price).tocoo()
    order = np.lexsort((tree.col, tree.row, tree.data, tile[tree.row]))
    first, second, owner = tree.row[order], tree.col[order], tile[tree.row[order]]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    surplus = np.bincount(tile) - most
    taken = rank < surplus[owner]
    links = sparse.csr_array((np.ones(taken.sum()), (first[taken], second[taken])), shape=price.shape)
    count, union = csgraph.connected_components(links, directed=False)
    return union.astype(np.int32), int(count)


def _unique_pairs(
    pairs: NDArray[np.int32], length: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    table = sparse.csr_array((length, (pairs[0], pairs[1])), shape=(count, count))
    table.sum_duplicates()
    unique = table.tocoo()
    return unique.row.astype(np.int32), unique.col.astype(np.int32), unique.data
