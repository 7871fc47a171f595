"""Noise and flat textures: brick, plaster and glass facades, fences, walls.

Each kind has its own local statistics, since telling surfaces apart by texture is one of the method's claims. Textures
are drawn flat, in their own plane, and `canvas.Pen.warp` puts them into perspective.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.streets.canvas import Colour, Image

Noise = NDArray[np.float32]
Rng = np.random.Generator

TILE = 256
_TILE_SEED = 20250


@lru_cache
def tile(smoothness: int) -> Noise:
    """Return a periodic noise tile, float32 [TILE, TILE], mean 0, deviation 1, blurred over `smoothness` pixels."""
    noise = np.random.default_rng([_TILE_SEED, smoothness]).standard_normal((TILE, TILE), np.float32)
    if smoothness:
        wrapped = np.tile(noise, (3, 3))
        noise = np.asarray(cv2.GaussianBlur(wrapped, (0, 0), smoothness), np.float32)[TILE : 2 * TILE, TILE : 2 * TILE]
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def patch(rng: Rng, height: int, width: int, *, cell: float, smoothness: int = 1) -> Noise:
    """Return noise, float32 [height, width], mean about 0, deviation about 1, whose grains are `cell` pixels wide."""
    rows = min(TILE, int(np.ceil(height / cell)) + 2)
    columns = min(TILE, int(np.ceil(width / cell)) + 2)
    top, left = rng.integers(0, TILE, 2)
    source = np.take(np.take(tile(smoothness), range(top, top + rows), 0, mode="wrap"),
                     range(left, left + columns), 1, mode="wrap")  # fmt: skip
    return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def clouds(rng: Rng, height: int, width: int, *, cell: float) -> Noise:
    """Return noise of four octaves, the widest `cell` pixels, float32 [height, width], deviation about 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        total += patch(rng, height, width, cell=max(cell / 2**octave, 1), smoothness=2) * 0.6**octave
    return total / np.float32(1.3)


def plain(height: int, width: int, colour: Colour) -> Noise:
    """Return a texture of one colour, float32 [height, width, 3]."""
    return np.broadcast_to(np.asarray(colour, np.float32), (height, width, 3)).copy()


def finish(texture: Noise) -> Image:
    """Return a texture as uint8."""
    return np.clip(texture, 0, 255).astype(np.uint8)


def bricks(rng: Rng, height: int, width: int, ppm: float, colour: Colour) -> Noise:
    """Return a brick wall, `ppm` pixels a metre, float32 [height, width, 3].

    Bricks are drawn larger than life, 0.5 x 0.22 m, so that rows of them can be seen in a small frame.
    """
    course, length = max(0.22 * ppm, 2.0), max(0.5 * ppm, 4.0)
    shades = rng.normal(1, 0.12, (int(height / course) + 1, int(width / length) + 2)).astype(np.float32)
    texture = plain(height, width, colour)
    texture *= cv2.resize(shades, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    rows, columns = np.arange(height) / course, np.arange(width) / length
    upright = np.where((rows.astype(int) % 2 == 0)[:, None], columns % 1 < 0.1, (columns + 0.5) % 1 < 0.1)
    joint = (upright | (rows % 1 < 0.16)[:, None])[..., None].astype(np.float32)
    texture += joint * (np.float32(105) - np.float32(0.6) * texture)
    return texture


def plaster(rng: Rng, height: int, width: int, ppm: float, colour: Colour) -> Noise:
    """Return a plastered wall with faint stains, float32 [height, width, 3]."""
    stains = patch(rng, height, width, cell=max(ppm * 0.8, 1), smoothness=2) * 0.035
    grain = patch(rng, height, width, cell=1, smoothness=0) * 0.02
    return plain(height, width, colour) * (1 + stains + grain)[..., None]


def concrete(rng: Rng, height: int, width: int, ppm: float, colour: Colour) -> Noise:
    """Return concrete slabs with seams and run-off stains, float32 [height, width, 3]."""
    texture = plaster(rng, height, width, ppm, colour)
    texture *= (1 + 0.07 * patch(rng, 1, width, cell=max(ppm * 0.3, 1), smoothness=1))[..., None]
    step = max(int(2.5 * ppm), 2)
    texture[:, ::step] *= 0.7
    texture[: max(int(0.15 * ppm), 1)] *= 1.15
    return texture


def stones(rng: Rng, height: int, width: int, ppm: float, colour: Colour) -> Noise:
    """Return rubble masonry, float32 [height, width, 3]."""
    texture = plain(height, width, colour)
    lumps = patch(rng, height, width, cell=max(0.08 * ppm, 1.5), smoothness=1)
    texture *= (1 + 0.16 * lumps)[..., None]
    texture[np.abs(lumps) < 0.12] *= 0.62
    return texture


SURFACES = {"brick": bricks, "plaster": plaster, "concrete": concrete, "stone": stones}
"""The wall surfaces by name."""
