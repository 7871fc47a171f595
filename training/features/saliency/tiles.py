"""The three views of a frame: the whole, and two croppings whose seams do not coincide (paper, section 4.1)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CROPPINGS = ((1, 1), (2, 2), (3, 3))
"""Tiles (down, across) of the three views."""
BORDER = 15 / 400
"""Width of the strip along a tile's border that DRFI takes for background, a share of the longer side."""


@dataclass(frozen=True)
class View:
    """A frame of H x W pixels, cut into T tiles of nearly equal size."""

    top_left: NDArray[np.int64]
    """Row and column of each tile's first pixel, [T, 2]."""
    size: NDArray[np.int64]
    """Height and width of each tile, [T, 2]."""
    tile: NDArray[np.int32]
    """Tile of each pixel, [H, W], from the top left, row by row."""
    strip: NDArray[np.int32]
    """The same within `BORDER` of the tile's border, -1 elsewhere, [H, W]."""

    def slices(self) -> list[tuple[slice, slice]]:
        """Return the rows and columns of each tile."""
        return [
            (slice(top, top + height), slice(left, left + width))
            for (top, left), (height, width) in zip(self.top_left.tolist(), self.size.tolist(), strict=True)
        ]


@lru_cache(maxsize=16)
def cropped(height: int, width: int, down: int, across: int) -> View:
    """Return the view of down x across tiles of a frame; the first ones have the pixels that are left over."""
    top, rows = _along(height, down)
    left, columns = _along(width, across)
    tile = (np.repeat(np.arange(down), rows)[:, None] * across + np.repeat(np.arange(across), columns)).astype(np.int32)
    border = max(1, round(BORDER * max(rows[0], columns[0])))
    inside = _inner(rows, border)[:, None] & _inner(columns, border)
    return View(_grid(top, left), _grid(rows, columns), tile, np.where(inside, -1, tile))


def _along(size: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the tiles begin along a side, and how long they are."""
    length = size // count + (np.arange(count) < size % count)
    return np.cumsum(length) - length, length


def _inner(lengths: NDArray[np.int64], border: int) -> NDArray[np.bool_]:
    """Return which places along a side are at least `border` away from both ends of their tile."""
    places = [np.arange(length) for length in lengths]
    return np.concatenate([(place >= border) & (place < len(place) - border) for place in places])


def _grid(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([np.repeat(first, len(second)), np.tile(second, len(first))], axis=1)
