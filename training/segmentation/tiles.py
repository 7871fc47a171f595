"""A large frame as overlapping tiles, so that the memory of a prediction does not grow with the frame."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from serving.errors import InputError

_LEAST_PART = 32
"""Of a part's side, pixels: smaller parts would see little but overlap."""


class Tile(NamedTuple):
    """One tile: the part of the frame that it answers for, and what it sees beyond it."""

    part: tuple[slice, slice]
    """Rows and columns of the frame. The parts of all tiles cover the frame, each pixel once."""
    seen: tuple[slice, slice]
    """The part and the overlap around it, within the frame."""
    inner: tuple[slice, slice]
    """The part's place in what is seen."""


def tiles(height: int, width: int, most_pixels: int, overlap: int, stride: int) -> Iterator[Tile]:
    """Cut a frame into tiles of about equal size.

    Parameters
    ----------
    height, width
        The frame's size, pixels.
    most_pixels
        That a tile sees. A frame of no more is one tile.
    overlap
        How far a tile sees beyond its part on each side, pixels, rounded up to the stride; less at the frame's edge.
    stride
        Parts and what is seen begin at multiples of it, so that the network's cells lie where they lie in the whole
        frame.

    Raises
    ------
    InputError
        If the overlap leaves a part of less than 32 pixels a side.
    """
    overlap = _up(overlap, stride)
    part = height, width
    if height * width > most_pixels:
        side = (math.isqrt(most_pixels) - 2 * overlap) // stride * stride
        if side < _LEAST_PART:
            raise InputError(
                f"prediction.tile_pixels: {most_pixels} pixels of the frame at once are too few for an overlap of "
                f"{overlap} on each side; give more, {_up(2 * overlap + _LEAST_PART, stride) ** 2} for scales up to 1, "
                "or a smaller prediction.tile_overlap"
            )
        part = _even(height, side, stride), _even(width, side, stride)
    for top in range(0, height, part[0]):
        for left in range(0, width, part[1]):
            rows = _span(top, part[0], height, overlap)
            columns = _span(left, part[1], width, overlap)
            yield Tile(*zip(rows, columns, strict=True))


def _up(length: int, stride: int) -> int:
    """Round up to a multiple of the stride."""
    return -(-length // stride) * stride


def _even(length: int, most: int, stride: int) -> int:
    """Return the length of the fewest equal parts of at most `most`, both multiples of the stride."""
    parts = -(-length // most)
    return _up(-(-length // parts), stride)


def _span(start: int, part: int, length: int, overlap: int) -> tuple[slice, slice, slice]:
    """Return a part, what is seen around it, and its place therein, along one side."""
    stop = min(start + part, length)
    first, last = max(0, start - overlap), min(length, stop + overlap)
    return slice(start, stop), slice(first, last), slice(start - first, stop - first)
