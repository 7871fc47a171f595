"""The frame being painted: colours and labels, always written through the same mask.

A `Pen` paints one class at one distance: it tints what it paints by the scene's light and by the haze in front of it,
and writes the class wherever it writes a colour. Nothing is anti-aliased, so that the labels are exact; what makes the
edges soft (`light.develop`) comes later and touches the colours alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.taxonomy import CITYSCAPES, IGNORED

Colour = tuple[float, float, float]
Image = NDArray[np.uint8]

_SHIFT = 4
_FAR = 1 << 18


class Canvas:
    """Colours uint8 [H, W, 3] and labels uint8 [H, W] of a frame; nothing is labelled at first."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.colours: Image = np.zeros((height, width, 3), np.uint8)
        self.labels: Image = np.full((height, width), IGNORED, np.uint8)


@dataclass(frozen=True)
class Pen:
    """Paints one class on a canvas."""

    canvas: Canvas
    class_id: int | None
    """Class that it writes; None leaves the labels alone (shadows, glows)."""
    gain: Colour = (1.0, 1.0, 1.0)
    """What the light makes of white, per channel."""
    haze_colour: Colour = (0.0, 0.0, 0.0)
    """Colour of the air, 0 to 255."""
    haze: float = 0.0
    """Share of the air in what is seen, 0 to 1."""

    def tint(self, colours: ArrayLike, shade: float = 1.0) -> NDArray[np.float64]:
        """Return colours [..., 3], 0 to 255, as they look under the scene's light, from here, `shade` times as lit."""
        lit = np.asarray(colours, np.float64) * (np.asarray(self.gain) * shade * (1 - self.haze))
        return np.clip(lit + np.asarray(self.haze_colour) * self.haze, 0, 255)

    def fill(self, points: ArrayLike, colour: Colour, shade: float = 1.0) -> None:
        """Fill a polygon, (column, row) [N, 2] in pixels, with one colour."""
        outline = [_fixed(points)]
        cv2.fillPoly(self.canvas.colours, outline, self._tint_one(colour, shade), shift=_SHIFT)
        if self.class_id is not None:
            cv2.fillPoly(self.canvas.labels, outline, self.class_id, shift=_SHIFT)

    def stroke(self, points: ArrayLike, colour: Colour, width: float, shade: float = 1.0) -> None:
        """Draw an open line [N, 2] of a width in pixels, at least one, with round ends."""
        line, thickness = [_fixed(points)], max(1, round(width))
        tinted = self._tint_one(colour, shade)
        cv2.polylines(self.canvas.colours, line, False, tinted, thickness, shift=_SHIFT)
        if self.class_id is not None:
            cv2.polylines(self.canvas.labels, line, False, self.class_id, thickness, shift=_SHIFT)

    def disc(self, centre: ArrayLike, radius: float, colour: Colour, shade: float = 1.0) -> None:
        """Fill a circle; centre (column, row) and radius in pixels."""
        self.fill(np.asarray(centre) + radius * _CIRCLE, colour, shade)

    def veil(self, points: ArrayLike, colour: ArrayLike, strength: float) -> None:
        """Lay a translucent colour (taken as it is, untinted) over a polygon; the class is written in full."""
        box = self._box(points)
        if box is None:
            return
        mask = self._mask(points, box)
        region = self.canvas.colours[box]
        mixed = region * (1 - strength) + np.asarray(colour, np.float64) * strength
        self._write(box, mixed, mask)

    def paste(self, column: int, row: int, colours: ArrayLike, mask: NDArray[np.bool_], shade: float = 1.0) -> None:
        """Paste a sprite, colours [h, w, 3] where mask [h, w] is set, its corner at (column, row)."""
        height, width = mask.shape
        top, bottom = max(row, 0), min(row + height, self.canvas.height)
        left, right = max(column, 0), min(column + width, self.canvas.width)
        if top >= bottom or left >= right:
            return
        own = slice(top - row, bottom - row), slice(left - column, right - column)
        box = slice(top, bottom), slice(left, right)
        self._write(box, self.tint(np.asarray(colours)[own], shade), mask[own])

    def warp(self, texture: Image, corners: ArrayLike, shade: float = 1.0, alpha: Image | None = None) -> None:
        """Stretch a flat texture onto a quadrilateral.

        Parameters
        ----------
        texture
            uint8 [h, w, 3].
        corners
            Where its top left, top right, bottom right and bottom left corners go, (column, row) [4, 2].
        shade
            How lit the surface is.
        alpha
            uint8 [h, w], 255 opaque; the class is written over the whole quadrilateral even where one sees through.
        """
        box = self._box(corners)
        if box is None:
            return
        top, left = box[0].start, box[1].start
        height, width = texture.shape[:2]
        source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        target = np.asarray(corners, np.float32) - np.array([left, top], np.float32)
        transform = cv2.getPerspectiveTransform(source, target)
        size = (box[1].stop - left, box[0].stop - top)
        seen = cv2.warpPerspective(texture, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        tinted = self.tint(seen, shade)
        if alpha is not None:
            edge = cv2.BORDER_REPLICATE
            opaque = (
                cv2.warpPerspective(alpha, transform, size, flags=cv2.INTER_LINEAR, borderMode=edge)[..., None] / 255
            )
            tinted = tinted * opaque + self.canvas.colours[box] * (1 - opaque)
        self._write(box, tinted, self._mask(corners, box))

    def _tint_one(self, colour: Colour, shade: float) -> list[float]:
        """`tint` of a single colour, without the cost of arrays."""
        return [
            min(max(value * gain * shade * (1 - self.haze) + air * self.haze, 0.0), 255.0)
            for value, gain, air in zip(colour, self.gain, self.haze_colour, strict=True)
        ]

    def _write(self, box: tuple[slice, slice], colours: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
        np.copyto(self.canvas.colours[box], colours.astype(np.uint8), where=mask[..., None])
        if self.class_id is not None:
            self.canvas.labels[box][mask] = self.class_id

    def _box(self, points: ArrayLike) -> tuple[slice, slice] | None:
        """Return the part of the canvas that a polygon may touch, None where it lies outside."""
        corners = np.asarray(points)
        low, high = np.floor(corners.min(axis=0)) - 1, np.ceil(corners.max(axis=0)) + 2
        left, right = max(int(low[0]), 0), min(int(high[0]), self.canvas.width)
        top, bottom = max(int(low[1]), 0), min(int(high[1]), self.canvas.height)
        return None if left >= right or top >= bottom else (slice(top, bottom), slice(left, right))

    @staticmethod
    def _mask(points: ArrayLike, box: tuple[slice, slice]) -> NDArray[np.bool_]:
        rows, columns = box
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        cv2.fillPoly(mask, [_fixed(np.asarray(points) - (columns.start, rows.start))], 1, shift=_SHIFT)
        return mask.astype(bool)


def class_id(name: str) -> int:
    """Return the id of a Cityscapes class."""
    return _IDS[name]


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
    """Return points in OpenCV's fixed-point pixels, those far outside pulled in to where its integers reach."""
    return np.clip(np.rint(np.asarray(points) * (1 << _SHIFT)), -_FAR, _FAR).astype(np.int32)


_IDS = {name: position for position, name in enumerate(CITYSCAPES.names)}
_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
