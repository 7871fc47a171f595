"""MOSF, multi overlapping slices fusion (paper, section 4.1, figure 3), and its two alternatives.

A frame is resized once and cut into overlapping slices, each of which the network sees alone; a pixel takes the class
maps of the slice whose centre is nearest. `single` and `dense` are the same with one slice, the whole frame, at a
slice's size or at the size that the slices have together. Slices lie on a grid, so the nearest one is nearest by row
and by column, and a superpixel's mean over interpolated maps is a small matrix times the maps' cells.

Class maps are linear before pooling, so `mosf` and `dense` are equal wherever a slice shows the network as much as the
whole frame does. That is everywhere if half a slice (its side less 1) is a whole number of the network's strides, so
that cells coincide, and the network sees no farther around a cell than a quarter of a slice less half a stride (a
quarter, where that is a whole number of strides too), so that no cell in use is cut off by a slice's inner border.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from training.features.runs import row_runs
from training.settings.method import CamSettings


@dataclass(frozen=True)
class Slicing:
    """How a frame is shown to the network.

    Rows of slices overlap by half, and so do columns: of `grid` (3, 5), slices of half the height and a third of the
    width have their top left corners at quarters of the height and sixths of the width. Lengths are measured between
    the centres of the outermost pixels, which resizing keeps in the corners (`align_corners`).
    """

    grid: tuple[int, int]
    """Slices down and across."""
    size: tuple[int, int]
    """Height and width of a slice, pixels of the resized frame: 32 k + 1."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the resized frame."""
        down, across = self.grid
        return (self.size[0] - 1) * (down + 1) // 2 + 1, (self.size[1] - 1) * (across + 1) // 2 + 1

    def cut(self, frame: Tensor) -> list[Tensor]:
        """Return the slices, row by row, of a frame [..., H, W] that has `frame_size`."""
        height, width = self.size
        tops = [(height - 1) // 2 * number for number in range(self.grid[0])]
        lefts = [(width - 1) // 2 * number for number in range(self.grid[1])]
        return [frame[..., top : top + height, left : left + width] for top in tops for left in lefts]


def slicing(height: int, width: int, settings: CamSettings) -> Slicing:
    """Return how the encoder of the settings shows a frame of height x width pixels to the network."""
    down, across = settings.slices
    shape = max(width - 1, 1) / max(height - 1, 1)
    slices = Slicing(settings.slices, _sides(settings.slice_height, shape * (down + 1) / (across + 1)))
    if settings.encoder == "single":
        return Slicing((1, 1), _sides(settings.slice_height, shape))
    if settings.encoder == "dense":
        rows, columns = slices.frame_size
        return Slicing((1, 1), (_nearest_side(rows), _nearest_side(columns)))
    return slices


def region_weights(
    labels: NDArray[np.int32], count: int, grid: tuple[int, int], cells: tuple[int, int]
) -> sparse.csr_array:
    """Return the matrix whose product with the slices' coarse maps is their mean per superpixel.

    Each pixel takes its nearest slice and interpolates bilinearly between that slice's cells, whose outermost centres
    lie on the slice's corners (`align_corners`: with inputs of side 32 k + 1 cell j is centred on pixel 32 j).

    Parameters
    ----------
    labels, count
        Superpixels, int32 [H, W], and their number K.
    grid
        Slices down and across.
    cells
        Cells of a slice's map, down and across.

    Returns
    -------
    float32 [K, slices * cells]
        Columns in the order of maps [down, across, cells down, cells across]; each row sums to 1.
    """
    height, width = labels.shape
    slice_down, cell_down, below = nearest_cells(height, grid[0], cells[0])
    slice_across, cell_across, beyond = nearest_cells(width, grid[1], cells[1])
    first_down = (slice_down * grid[1] * cells[0] + cell_down) * cells[1]
    first_across = slice_across * cells[0] * cells[1] + cell_across
    runs = row_runs(labels, np.diff(first_across, prepend=-1) != 0)
    right = runs.sums(beyond)
    left = runs.stop - runs.start - right
    down_of_run, across_of_run, bottom = first_down[runs.row], first_across[runs.start], below[runs.row]
    next_down, next_across = (cells[1] if cells[0] > 1 else 0), (1 if cells[1] > 1 else 0)
    columns = down_of_run + across_of_run
    entries = [
        (columns, (1 - bottom) * left),
        (columns + next_across, (1 - bottom) * right),
        (columns + next_down, bottom * left),
        (columns + next_down + next_across, bottom * right),
    ]
    area = np.maximum(np.bincount(runs.region, runs.stop - runs.start, minlength=count), 1)
    weights = np.concatenate([weight for _, weight in entries]) / np.tile(area[runs.region], 4)
    places = (np.tile(runs.region, 4), np.concatenate([column for column, _ in entries]))
    shape = (count, grid[0] * grid[1] * cells[0] * cells[1])
    return sparse.csr_array((weights, places), shape=shape).astype(np.float32)


def nearest_cells(
    pixels: int, slices: int, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return where each pixel stands in its nearest slice, along one side of the frame.

    Parameters
    ----------
    pixels
        Length of the frame's side.
    slices, cells
        Slices along it, and cells along a slice's map.

    Returns
    -------
    nearest, cell, fraction
        int64, int64 and float64, [pixels]: the slice whose centre is nearest, the lower one of two; the cell before
        the pixel, never the last one where there are two; how far the pixel is on the way to the next, in [0, 1].
    """
    half_slices = np.arange(pixels) * (slices + 1) / max(pixels - 1, 1)
    nearest = np.clip(np.ceil(half_slices - 1.5), 0, slices - 1).astype(np.int64)
    position = np.clip((half_slices - nearest) / 2, 0, 1) * (cells - 1)
    cell = np.minimum(position.astype(np.int64), max(cells - 2, 0))
    return nearest, cell, position - cell


def _sides(height: int, shape: float) -> tuple[int, int]:
    """Return `height` and the width, 32 k + 1, nearest to `shape` times as wide between the corners."""
    return height, _nearest_side((height - 1) * shape + 1)


def _nearest_side(length: float) -> int:
    return 32 * max(1, round((length - 1) / 32)) + 1
