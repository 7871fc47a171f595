"""Sky and ground: what lies behind and under everything, painted pixel by pixel.

Every pixel below the horizon sees one point of the ground; the street's strips (road, kerb, grass, sidewalk, and what
lies beyond) say what is there, and noise fixed to the ground gives each its texture in perspective.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.streets.canvas import Colour, class_id
from training.datasets.streets.stage import Stage
from training.datasets.streets.textures import TILE, clouds, tile

Field = NDArray[np.float32]

ROAD, KERB, PAVING, GRASS, TRACKS = range(5)
_CLASSES = {ROAD: "road", KERB: "sidewalk", PAVING: "sidewalk", GRASS: "terrain", TRACKS: "terrain"}
_FAR = 400.0


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The ground plan of a street: strips along it, from left to right."""

    edges: tuple[float, ...]
    """Where one strip ends and the next begins, metres, ascending."""
    strips: tuple[int, ...]
    """What each strip is; one more than edges."""
    lines: tuple[tuple[float, bool], ...]
    """Road markings along the street: position, and whether dashed."""
    junction: tuple[float, float] | None
    """Distances between which a street crosses."""
    crossing: float | None
    """Distance of a zebra crossing."""
    road: tuple[float, float]
    """Left and right edge of the road."""
    rails: tuple[float, ...] = ()
    """Positions of tram rails."""


def paint_sky(stage: Stage) -> None:
    """Paint the sky above the horizon, and a little below it, where haze hides the end of the ground."""
    canvas, light, rng = stage.canvas, stage.light, stage.rng
    rows = min(int(stage.camera.horizon) + 2, canvas.height)
    if rows <= 0:
        return
    height = np.linspace(1, 0, rows, dtype=np.float32)[:, None, None]
    sky = np.asarray(light.skyline, np.float32) * (1 - height**0.8) + np.asarray(light.zenith, np.float32) * height**0.8
    sky = np.broadcast_to(sky, (rows, canvas.width, 3)).copy()
    puffs = clouds(rng, rows, canvas.width, cell=canvas.height / 14)
    threshold = 1.1 - 2.2 * light.cloud_cover
    cover = np.clip((puffs - threshold) * 0.8, 0, 1)[..., None] * np.clip(0.35 + height, 0, 0.9)
    relief = (1 - 0.06 * np.clip(puffs, -2, 2))[..., None]
    sky = sky * (1 - cover) + np.asarray(light.cloud, np.float32) * relief * cover
    if light.name == "evening":
        columns = np.linspace(-1, 1, canvas.width, dtype=np.float32)[None, :, None]
        glow = np.exp(-(((columns - light.sun) / 0.6) ** 2) - (height / 0.5) ** 2)
        sky += glow * np.asarray((60, 34, 4), np.float32)
    canvas.colours[:rows] = np.clip(sky, 0, 255).astype(np.uint8)
    canvas.labels[:rows] = class_id("sky")


def paint_ground(stage: Stage, ground: Ground) -> None:
    """Paint the ground below the horizon."""
    canvas, camera, light = stage.canvas, stage.camera, stage.light
    top = max(int(camera.horizon) + 1, 0)
    rows = np.arange(top, canvas.height, dtype=np.float32)[:, None] + 0.5
    if not rows.size:
        return
    z = np.minimum(camera.focal * camera.height / np.maximum(rows - camera.horizon, 0.25), _FAR).astype(np.float32)
    columns = np.arange(canvas.width, dtype=np.float32)[None] + 0.5
    x = ((columns - camera.centre) * z / camera.focal - camera.curvature * z * z).astype(np.float32)
    footprint = z / camera.focal
    kinds = np.asarray(ground.strips, np.uint8)[np.searchsorted(np.asarray(ground.edges, np.float32), x)]
    if ground.junction:
        near, far = ground.junction
        kinds[(z[:, 0] > near) & (z[:, 0] < far)] = ROAD
    classes = np.array([class_id(_CLASSES[kind]) for kind in range(len(_CLASSES))], np.uint8)
    canvas.labels[top:] = classes[kinds]
    colours = _surface(stage, kinds, x, z, footprint)
    marks = _markings(ground, x, z, footprint) * np.float32(0.72)
    wear = 0.75 + 0.25 * np.clip(_noise(x, z, 0.25, 1) + 1, 0, 1)
    marks = (marks * wear * (kinds == ROAD))[..., None]
    colours += marks * (np.asarray((226, 224, 216), np.float32) - colours)
    for rail in ground.rails:
        steel = np.clip((0.05 + footprint / 2 - np.abs(x - rail)) / footprint, 0, 1)[..., None]
        colours += steel * (np.asarray((132, 126, 120), np.float32) - colours)
    colours *= np.asarray(light.gain, np.float32)
    haze = np.minimum(1 - (1 - light.haze) ** (z / 100), 0.85).astype(np.float32)[..., None]
    colours += haze * (np.asarray(light.skyline, np.float32) - colours)
    canvas.colours[top:] = np.clip(colours, 0, 255).astype(np.uint8)


def _surface(stage: Stage, kinds: NDArray[np.uint8], x: Field, z: Field, footprint: Field) -> Field:
    """Return the colours of the bare ground, float32 [h, W, 3]."""
    asphalt = stage.pick((104, 104, 106), (90, 90, 94), (118, 115, 112), (82, 82, 88))
    paving = stage.pick((158, 152, 144), (142, 138, 134), (168, 154, 140), (150, 132, 120))
    grass = stage.pick((104, 124, 62), (118, 128, 70), (88, 112, 56), (134, 130, 82))
    tracks = stage.pick((112, 104, 96), (98, 110, 72))
    kerb: Colour = (paving[0] * 1.12, paving[1] * 1.12, paving[2] * 1.12)
    colours = np.array([asphalt, kerb, paving, grass, tracks], np.float32)[kinds]
    fade = np.clip(0.1 / footprint, 0, 1)
    coarse, fine = _noise(x, z, 1.3, 2), _noise(x, z, 0.055, 1)
    grain = np.array([0.055, 0.04, 0.035, 0.15, 0.17], np.float32)[kinds]
    patches = np.array([0.05, 0.03, 0.05, 0.13, 0.06], np.float32)[kinds]
    colours *= (1 + grain * fade * fine + patches * coarse)[..., None]
    slab = np.clip(0.1 / footprint, 0, 1) * ((x % 0.8 < 0.07) | (z % 0.8 < 0.09))
    colours *= (1 - 0.3 * slab * (kinds == PAVING))[..., None]
    repair = (_noise(x, z * 0.4, 2.6, 4) > 1.5) & (kinds == ROAD)
    colours *= (1 - 0.14 * repair)[..., None]
    tyre = np.exp(-((((x + stage.light.sun) % 1.7) - 0.85) ** 2) / 0.08) * (kinds == ROAD)
    colours *= (1 - 0.07 * tyre)[..., None]
    return colours


def _markings(ground: Ground, x: Field, z: Field, footprint: Field) -> Field:
    """Return how much of each pixel is paint, float32 [h, W], 0 to 1."""
    paint = np.zeros(x.shape, np.float32)
    for position, dashed in ground.lines:
        line = np.clip((0.08 + footprint / 2 - np.abs(x - position)) / footprint, 0, 1)
        paint = np.maximum(paint, line * (z % 8 < 3.6) if dashed else line)
    if ground.junction:
        paint[(z[:, 0] > ground.junction[0] - 1) & (z[:, 0] < ground.junction[1] + 1)] = 0
    if ground.crossing is not None:
        zebra = (z > ground.crossing) & (z < ground.crossing + 3.2) & ((x - ground.road[0]) % 1.0 < 0.52)
        stop = (z > ground.crossing - 1.6) & (z < ground.crossing - 1.2) & (x > sum(ground.road) / 2)
        band = (z > ground.crossing - 1.6) & (z < ground.crossing + 3.2)
        inside = (x > ground.road[0] + 0.3) & (x < ground.road[1] - 0.3)
        paint = np.where(band, 0, paint)
        paint = np.where((zebra | stop) & inside, 1, paint).astype(np.float32)
    return paint


def _noise(x: Field, z: Field, cell: float, smoothness: int) -> Field:
    """Return noise fixed to the ground, its grains `cell` metres wide, float32 of x's shape."""
    across = (x * np.float32(1 / cell)) % TILE
    along = np.broadcast_to((z * np.float32(1 / cell)) % TILE, x.shape)
    grains = cv2.remap(tile(smoothness), across, np.ascontiguousarray(along, np.float32), cv2.INTER_NEAREST)
    return np.asarray(grains, np.float32)
