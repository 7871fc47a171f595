"""Images and masks of salient objects, for fitting DRFI: a person's own, from two folders, or procedural scenes.

A procedural scene is a function of its seed and number: one to three things of `crops`, from small to filling, anywhere
in the frame, before a street's backdrop or a plain surface, in any light. Its mask is what the painters of the things
touched, exactly.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from serving.errors import InputError
from serving.frames import decode_image
from training.datasets.crops import CROPS, Surface, Thing, paint_backdrop
from training.datasets.files import existing_folder, read_label_values
from training.datasets.folder import images_by_stem
from training.datasets.streets.camera import Camera, Pose
from training.datasets.streets.canvas import Canvas
from training.datasets.streets.light import develop, draw_light
from training.datasets.streets.stage import Stage

Scene = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""A frame, uint8 [H, W, 3], RGB, and where its salient objects are, bool [H, W]."""

SURFACES = [
    item
    for name, item in CROPS.items()
    if isinstance(item, Surface) and name.split()[-1] in ("foliage", "facade", "wall", "fence", "checks", "blobs")
]
"""Those that fill a frame of any shape, whatever the camera: what may lie behind a thing besides a street."""
THINGS = [item for item in CROPS.values() if isinstance(item, Thing)]

_SALIENT = 128
_UNTOUCHED = 254
"""Marks pixels of the background; neither a class id nor 255."""


class SalientFolder(Sequence[Scene]):
    """Images in one folder, and in another an 8-bit mask PNG of the same stem for each: salient from 128 on.

    All masks are read, and checked against their images' sizes, when the folder is opened.

    Raises
    ------
    InputError
        If a folder or an image's mask is missing, a file cannot be read, or a mask is of another size, or marks nothing
        or everything.
    """

    def __init__(self, images: Path, masks: Path) -> None:
        existing_folder(images, "it must hold images")
        existing_folder(masks, "it must hold a mask <stem>.png for each image")
        self._images = list(images_by_stem(images).values())
        self._masks = [masks / f"{path.stem}.png" for path in self._images]
        for path in self._masks:
            if not path.is_file():
                raise InputError(f"{path}: no such file; {masks} must hold a mask for every image")
        for image, path in tqdm(list(zip(self._images, self._masks, strict=True)), "masks", unit="mask", disable=None):
            mask, size = _read_mask(path), _size(image)
            if mask.shape != size:
                raise InputError(
                    f"{path}: is {mask.shape[0]} x {mask.shape[1]}, its image {image} is {size[0]} x {size[1]}; "
                    "they must be of equal size"
                )

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

    def __getitem__(self, number: int) -> Scene:  # type: ignore[override]
        """Return an image and its mask."""
        return _read_image(self._images[number]), _read_mask(self._masks[number])


class SalientScenes(Sequence[Scene]):
    """Procedural scenes by number.

    Parameters
    ----------
    count
        How many there are.
    seed
        Other seeds give other scenes.
    size
        Height and width, pixels.
    """

    def __init__(self, count: int, *, seed: int, size: tuple[int, int] = (240, 320)) -> None:
        self._count, self._seed, self._size = count, seed, size

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __getitem__(self, number: int) -> Scene:  # type: ignore[override]
        """Return a scene."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        return salient_scene(np.random.default_rng([self._seed, number]), *self._size)


def salient_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw a scene whose salient objects cover between 1 and 60 % of the frame."""
    while True:
        stage = _paint(rng, height, width)
        mask = stage.canvas.labels != _UNTOUCHED
        if 0.01 <= mask.mean() <= 0.6:
            break
    frame = develop(stage.canvas.colours, stage.light, rng)
    if rng.random() < 0.5:
        frame, mask = frame[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(frame), np.ascontiguousarray(mask)


def _paint(rng: np.random.Generator, height: int, width: int) -> Stage:
    things = [THINGS[number] for number in rng.integers(len(THINGS), size=rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))]
    thing, z, eye = things[0], float(rng.uniform(8, 30)), float(rng.uniform(1.25, 1.9))
    focal = min(height, width) * float(rng.uniform(0.2, 0.8)) * z / max(thing.width, thing.height)
    row, column = rng.uniform(0.25, 0.75, 2) * (height, width)
    horizon = row - (eye - thing.base - thing.height / 2) * focal / z
    camera = Camera(focal=focal, centre=column, horizon=horizon, height=eye)
    stage = Stage(Canvas(height, width), camera, draw_light(rng), rng)
    paint_backdrop(stage, z)
    if rng.random() < 0.3:
        SURFACES[rng.integers(len(SURFACES))].paint(stage)
    stage.canvas.labels[:] = _UNTOUCHED
    thing.paint(stage, Pose(0.0, z))
    for other in things[1:]:
        x = float(rng.uniform(-0.5, 0.5)) * width * z / focal
        other.paint(stage, Pose(x, z * float(rng.uniform(0.8, 1.2))))
    return stage


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        return decode_image(path.read_bytes())
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def _read_mask(path: Path) -> NDArray[np.bool_]:
    mask = read_label_values(path) >= _SALIENT
    if mask.all() or not mask.any():
        raise InputError(
            f"{path}: {'every' if mask.all() else 'no'} pixel is {_SALIENT} or more; a mask marks salient pixels by "
            f"{_SALIENT} to 255 and others by less, and needs both"
        )
    return mask


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image: {error}") from error
