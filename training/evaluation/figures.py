"""The picture by which a person judges a round: frame | pseudo label | prediction | truth, and the colours' legend."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from serving.files import whole_file
from training.taxonomy import IGNORED, Taxonomy

_OPACITY = 0.65
"""Of a class's colour over the frame."""
_IGNORED_BRIGHTNESS = 0.25
"""What is left of the frame's grey where a mask says nothing: dark, so that no class's colour looks alike."""
_GAP = 8
_BACKGROUND, _INK = (255, 255, 255), (40, 40, 40)


def overlay(frame: NDArray[np.uint8], class_ids: NDArray[np.uint8], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Blend the classes' colours over a frame.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    class_ids
        uint8 [H, W]; pixels at 255 show the frame dark and without colour.
    taxonomy
        Whose colours.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [H, W, 3].
    """
    grey = frame.mean(axis=2, keepdims=True)
    labelled = _OPACITY * taxonomy.palette[class_ids] + (1 - _OPACITY) * grey
    blended = np.where((class_ids == IGNORED)[..., None], _IGNORED_BRIGHTNESS * grey, labelled)
    return blended.round().astype(np.uint8)


def panel(
    frame: NDArray[np.uint8], masks: Mapping[str, NDArray[np.uint8]], taxonomy: Taxonomy, title: str = "frame"
) -> NDArray[np.uint8]:
    """Draw a frame and masks of it side by side, captions above, the legend of all classes below.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    masks
        Caption to class ids, uint8 [H, W], in drawing order, such as `pseudo label`, `prediction`, `truth`.
    taxonomy
        Names and colours.
    title
        Caption of the frame itself.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [height, width, 3], RGB.
    """
    pictures = {title: frame} | {caption: overlay(frame, mask, taxonomy) for caption, mask in masks.items()}
    height, width = frame.shape[:2]
    font = _font(max(12, height // 20))
    line = _line_height(font)
    total = len(pictures) * (width + _GAP) + _GAP
    legend = _legend(taxonomy, font, total - 2 * _GAP)
    canvas = Image.new("RGB", (total, _GAP + line + height + _GAP + legend.height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, (caption, picture) in enumerate(pictures.items()):
        left = _GAP + index * (width + _GAP)
        draw.text((left, _GAP // 2), caption, fill=_INK, font=font)
        canvas.paste(Image.fromarray(picture), (left, _GAP // 2 + line))
    canvas.paste(legend, (_GAP, _GAP // 2 + line + height + _GAP))
    return np.asarray(canvas)


def marked(
    frame: NDArray[np.uint8], places: Mapping[str, tuple[int, int]], taxonomy: Taxonomy, zoom: int
) -> NDArray[np.uint8]:
    """Draw a frame with a ring of the class's colour around each annotated pixel, and the class's name beside it.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    places
        Class name to the column and the row of its pixel.
    taxonomy
        Whose colours.
    zoom
        How much larger the drawing is, so that names are legible in a small frame.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [zoom H, zoom W, 3], RGB.
    """
    height, width = frame.shape[:2]
    canvas = Image.fromarray(frame).resize((zoom * width, zoom * height), Image.Resampling.BICUBIC)
    draw, font, radius = ImageDraw.Draw(canvas), _font(16), 8
    for name, (column, row) in places.items():
        x, y = zoom * column + zoom // 2, zoom * row + zoom // 2
        colour = taxonomy.classes[taxonomy.names.index(name)].colour
        draw.circle((x, y), radius, outline=(255, 255, 255), width=4)
        draw.circle((x, y), radius - 1, outline=colour, width=2)
        fits = x + 2 * radius + font.getlength(name) < canvas.width
        beside = (x + 2 * radius, "lm") if fits else (x - 2 * radius, "rm")
        draw.text((beside[0], y), name, fill="white", stroke_width=2, stroke_fill="black", font=font, anchor=beside[1])
    return np.asarray(canvas)


def save_png(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a picture, uint8 [H, W, 3], as a PNG that appears under its name only when it is whole."""
    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", optimize=True)


def _legend(taxonomy: Taxonomy, font: ImageFont.FreeTypeFont, width: int) -> Image.Image:
    # Swatches and names in as many rows as the width takes; `unlabelled` is drawn as `overlay` draws 255.
    entries = [(info.name, info.colour) for info in taxonomy.classes] + [("unlabelled", (40, 40, 40))]
    line = _line_height(font)
    swatch = line * 2 // 3
    steps = [swatch + _GAP // 2 + round(font.getlength(name)) + 2 * _GAP for name, _ in entries]
    places = _flow(steps, width)
    picture = Image.new("RGB", (width, (places[-1][0] + 1) * line), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for (row, left), (name, colour) in zip(places, entries, strict=True):
        middle = row * line + line // 2
        top = middle - swatch // 2
        draw.rectangle((left, top, left + swatch - 1, top + swatch - 1), fill=colour)
        draw.text((left + swatch + _GAP // 2, middle), name, fill=_INK, font=font, anchor="lm")
    return picture


def _flow(steps: Sequence[int], width: int) -> list[tuple[int, int]]:
    # Row and left edge of boxes of these widths, set like words.
    places, row, left = [], 0, 0
    for step in steps:
        if left and left + step > width:
            row, left = row + 1, 0
        places.append((row, left))
        left += step
    return places


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which draws the captions")
    return font


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    ascent, descent = font.getmetrics()
    return ascent + descent + 4
