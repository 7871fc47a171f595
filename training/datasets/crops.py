"""Object crops: small pictures of one thing each, with its name and nothing else, for the embedded classifier.

They play the role that ImageNet has in the paper: a classifier trained on image labels alone, whose class activation
maps then describe regions. The things are those of `streets` and their painters too, with other seeds, but the classes
are finer than, and different from, the 19 of the scenes (views of vehicles, shapes of signs, surfaces, and a few things
that no street has), and no crop says where in it the thing is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from serving.errors import InputError
from training.datasets.streets.camera import Camera, Pose
from training.datasets.streets.canvas import Canvas, Image
from training.datasets.streets.furniture import paint_lamp, paint_pole, paint_signal, sign_face
from training.datasets.streets.ground import GRASS, KERB, PAVING, ROAD, Ground, paint_ground, paint_sky
from training.datasets.streets.light import develop, draw_light
from training.datasets.streets.people import (
    paint_bicycle,
    paint_cyclist,
    paint_motorcycle,
    paint_motorcyclist,
    paint_person,
)
from training.datasets.streets.plants import BARK, LEAVES, foliage, paint_bush, paint_tree
from training.datasets.streets.stage import Stage
from training.datasets.streets.structures import BRICKS, CONCRETES, PLASTERS, facade, fence_texture, paint_block
from training.datasets.streets.textures import SURFACES, finish, patch
from training.datasets.streets.vehicles import paint_bus, paint_car, paint_tram, paint_truck

Paint = Callable[[Stage, Pose], None]

_REAR, _FRONT, _SIDE = 0.0, np.pi, np.pi / 2


@dataclass(frozen=True)
class Thing:
    """A thing that stands on the ground, and how large it is when one frames it."""

    paint: Paint
    width: float
    """Metres."""
    height: float
    """Metres."""
    base: float = 0.0
    """Height of its lower edge, metres."""


@dataclass(frozen=True)
class Surface:
    """A texture that fills the crop."""

    paint: Callable[[Stage], None]


def _turned(painter: Callable[..., None], yaw: float, **options: str) -> Paint:
    """Return a painter of a thing seen from about that side; left and right views are mirrored later."""

    def paint(stage: Stage, pose: Pose) -> None:
        painter(stage, Pose(pose.x, pose.z, yaw + float(stage.rng.normal(0, 0.22))), **options)

    return paint


def _persons(stage: Stage, pose: Pose, *, count: int, walking: bool) -> None:
    for number in range(count):
        yaw = float(stage.rng.choice([_REAR, _FRONT, _SIDE, -_SIDE]))
        paint_person(stage, Pose(pose.x + (number - (count - 1) / 2) * 0.6, pose.z, yaw), walking=walking)


def _pole(stage: Stage, pose: Pose) -> None:
    paint_pole(stage, pose, 6.0, float(stage.rng.uniform(0.1, 0.24)))


def _lamp(stage: Stage, pose: Pose) -> None:
    paint_lamp(stage, pose, 5.5, float(stage.rng.uniform(0.8, 1.8)))


def _signal(stage: Stage, pose: Pose) -> None:
    paint_signal(stage, pose, height=2.6, away=bool(stage.rng.random() < 0.15))


def _sign(stage: Stage, pose: Pose, *, kinds: tuple[str, ...]) -> None:
    paint_pole(stage, pose, 2.6, 0.09)
    sign_face(stage, pose, kinds[stage.rng.integers(len(kinds))], 2.4, 0.8)


def _tree(stage: Stage, pose: Pose, *, kinds: tuple[str, ...]) -> None:
    paint_tree(stage, pose, 7.0, kinds[stage.rng.integers(len(kinds))])


def _trunk(stage: Stage, pose: Pose) -> None:
    half = float(stage.rng.uniform(0.12, 0.3))
    corners = stage.upright(pose, [[-half, 5], [half, 5], [half * 1.2, 0], [-half * 1.2, 0]])
    bark = SURFACES["stone"](stage.rng, 96, 24, 40, stage.pick(*BARK))
    stage.pen("vegetation", pose.z).warp(finish(bark), corners)


def _everywhere(stage: Stage, texture: Image, alpha: Image | None = None) -> None:
    """Lay a texture over the whole crop, a little turned in perspective."""
    height, width = stage.canvas.height, stage.canvas.width
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    outward = (corners - (width / 2, height / 2)) * stage.rng.uniform(0.05, 0.8, (4, 1))
    stage.pen("wall", 5.0).warp(texture, corners + outward, float(stage.rng.uniform(0.75, 1.1)), alpha)


def _facade(stage: Stage, *, style: str) -> None:
    length, height = stage.rng.uniform(7, 16, 2)
    pixels = stage.canvas.height / min(length, height)
    _everywhere(stage, facade(stage, float(length), float(height), float(pixels), style))


def _wall(stage: Stage, *, style: str) -> None:
    colours = {"brick": BRICKS, "plaster": PLASTERS}.get(style, CONCRETES)
    size, span = stage.canvas.height, stage.rng.uniform(1.5, 4)
    _everywhere(stage, finish(SURFACES[style](stage.rng, size, size, size / span, stage.pick(*colours))))


def _fence(stage: Stage, *, kind: str) -> None:
    paint_backdrop(stage, 12.0)
    size = 2 * stage.canvas.height
    texture, alpha = fence_texture(stage, size, size, size / float(stage.rng.uniform(1.6, 3.5)), kind)
    _everywhere(stage, texture, alpha)


def _leaves(stage: Stage) -> None:
    size = stage.canvas.height
    _everywhere(stage, finish(foliage(stage, size, size, size / float(stage.rng.uniform(1, 5)), stage.pick(*LEAVES))))


def _sky(stage: Stage) -> None:
    paint_sky(stage)


def _ground(stage: Stage, *, strip: int, marks: str = "") -> None:
    camera = stage.camera
    z = camera.focal * camera.height / (stage.canvas.height / 2 - camera.horizon)
    x = (stage.canvas.width * float(stage.rng.uniform(0.25, 0.75)) - camera.centre) * z / camera.focal
    lines = ((x, bool(z > 8)), (x + 3.2, False)) if marks == "lines" else ()
    crossing = z - float(stage.rng.uniform(0.8, 2.4)) if marks == "zebra" else None
    edges, strips = ((x, x + 0.2), (ROAD, KERB, PAVING)) if marks == "kerb" else ((), (strip,))
    paint_ground(stage, Ground(edges=edges, strips=strips, lines=lines, junction=None, crossing=crossing,
                               road=(x - 9.0, x + 9.0)))  # fmt: skip


def _checks(stage: Stage) -> None:
    size, cell = stage.canvas.height, int(stage.rng.integers(6, 20))
    rows, columns = np.mgrid[:size, :size] // cell
    pair = np.array([stage.pick((240, 240, 240), (230, 60, 60)), stage.pick((20, 20, 20), (40, 60, 160))])
    _everywhere(stage, pair[(rows + columns) % 2].astype(np.uint8))


def _rings(stage: Stage) -> None:
    size = stage.canvas.height
    rows, columns = np.mgrid[:size, :size] - stage.rng.uniform(0.2, 0.8, (2, 1, 1)) * size
    turn = (np.hypot(rows, columns) / stage.rng.uniform(5, 14)).astype(int) % 2
    pair = np.array([stage.pick((250, 220, 60), (240, 240, 240)), stage.pick((200, 40, 60), (30, 140, 120))])
    _everywhere(stage, pair[turn].astype(np.uint8))


def _blobs(stage: Stage) -> None:
    size = stage.canvas.height
    layers = [patch(stage.rng, size, size, cell=size / 8, smoothness=1) for _ in range(3)]
    _everywhere(stage, np.clip(128 + 70 * np.stack(layers, axis=-1), 0, 255).astype(np.uint8))


CROPS: dict[str, Thing | Surface] = {
    "car, rear": Thing(_turned(paint_car, _REAR), 1.9, 1.5),
    "car, front": Thing(_turned(paint_car, _FRONT), 1.9, 1.5),
    "car, side": Thing(_turned(paint_car, _SIDE), 4.3, 1.5),
    "van": Thing(_turned(paint_car, _FRONT, kind="van"), 2.2, 2.0),
    "truck, rear": Thing(_turned(paint_truck, _REAR), 2.6, 3.5),
    "truck, front": Thing(_turned(paint_truck, _FRONT), 2.6, 3.2),
    "truck, side": Thing(_turned(paint_truck, _SIDE), 7.6, 3.4),
    "bus, front": Thing(_turned(paint_bus, _FRONT), 2.8, 3.0),
    "bus, side": Thing(_turned(paint_bus, _SIDE), 9.0, 3.0),
    "tram, front": Thing(_turned(paint_tram, _FRONT), 3.4, 3.4),
    "tram, side": Thing(_turned(paint_tram, _SIDE), 10.0, 3.4),
    "motorcycle": Thing(_turned(paint_motorcycle, 0.9), 1.7, 1.1),
    "bicycle, side": Thing(_turned(paint_bicycle, _SIDE), 1.8, 1.1),
    "bicycle, end": Thing(_turned(paint_bicycle, 0.2), 0.8, 1.1),
    "cyclist": Thing(_turned(paint_cyclist, 0.4), 1.1, 1.8),
    "motorcyclist": Thing(_turned(paint_motorcyclist, 0.3), 1.2, 1.7),
    "person standing": Thing(partial(_persons, count=1, walking=False), 0.7, 1.8),
    "person walking": Thing(partial(_persons, count=1, walking=True), 0.9, 1.8),
    "persons": Thing(partial(_persons, count=3, walking=True), 2.1, 1.8),
    "pole": Thing(_pole, 0.5, 3.0, 1.0),
    "street lamp": Thing(_lamp, 2.0, 2.6, 3.6),
    "traffic light": Thing(_signal, 0.7, 1.4, 2.4),
    "round sign": Thing(partial(_sign, kinds=("limit", "prohibition")), 1.0, 1.0, 1.9),
    "triangular sign": Thing(partial(_sign, kinds=("warning", "yield")), 1.0, 1.0, 1.9),
    "stop sign": Thing(partial(_sign, kinds=("stop",)), 1.0, 1.0, 1.9),
    "blue sign": Thing(partial(_sign, kinds=("round blue", "square blue")), 1.0, 1.0, 1.9),
    "priority sign": Thing(partial(_sign, kinds=("priority",)), 1.0, 1.0, 1.9),
    "direction board": Thing(partial(_sign, kinds=("board",)), 1.5, 1.0, 1.9),
    "broadleaf tree": Thing(partial(_tree, kinds=("round", "spreading")), 5.0, 7.0),
    "slender tree": Thing(partial(_tree, kinds=("poplar", "conifer")), 3.0, 7.0),
    "bush": Thing(partial(paint_bush, width=2.4, height=1.4), 2.4, 1.4),
    "trunk": Thing(_trunk, 0.7, 2.0, 0.6),
    "foliage": Surface(_leaves),
    "grass": Surface(partial(_ground, strip=GRASS)),
    "asphalt": Surface(partial(_ground, strip=ROAD)),
    "lane marking": Surface(partial(_ground, strip=ROAD, marks="lines")),
    "zebra crossing": Surface(partial(_ground, strip=ROAD, marks="zebra")),
    "paving": Surface(partial(_ground, strip=PAVING)),
    "kerb": Surface(partial(_ground, strip=ROAD, marks="kerb")),
    "brick facade": Surface(partial(_facade, style="brick")),
    "plaster facade": Surface(partial(_facade, style="plaster")),
    "glass facade": Surface(partial(_facade, style="glass")),
    "brick wall": Surface(partial(_wall, style="brick")),
    "concrete wall": Surface(partial(_wall, style="concrete")),
    "stone wall": Surface(partial(_wall, style="stone")),
    "bar fence": Surface(partial(_fence, kind="bars")),
    "mesh fence": Surface(partial(_fence, kind="mesh")),
    "rail fence": Surface(partial(_fence, kind="rails")),
    "board fence": Surface(partial(_fence, kind="boards")),
    "sky": Surface(_sky),
    "checks": Surface(_checks),
    "rings": Surface(_rings),
    "blobs": Surface(_blobs),
}
CROP_CLASSES = tuple(CROPS)
"""Names of the crops' classes, by the classifier's output."""


def object_crop(rng: np.random.Generator, name: str, size: int) -> NDArray[np.uint8]:
    """Draw a crop of one class.

    The thing is anywhere between a third of the crop and larger than it, off its middle, under any light, before
    ground, sky, buildings or trees, and sometimes as coarse as a small part of a frame that was enlarged.

    Parameters
    ----------
    rng
        Random numbers; they alone decide the crop.
    name
        One of `CROP_CLASSES`.
    size
        Height and width, pixels.

    Returns
    -------
    crop
        uint8 [size, size, 3], RGB.

    Raises
    ------
    InputError
        If there is no such class.
    """
    if name not in CROPS:
        raise InputError(f"no crop class '{name}'; there are: {', '.join(CROP_CLASSES)}")
    drawn = max(int(size / rng.uniform(1.0, 2.4)), 24)
    stage = (_surface_stage if isinstance(CROPS[name], Surface) else _thing_stage)(rng, name, drawn)
    crop = develop(stage.canvas.colours, stage.light, rng)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.asarray(cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _thing_stage(rng: np.random.Generator, name: str, size: int) -> Stage:
    thing = CROPS[name]
    assert isinstance(thing, Thing)
    z = float(rng.uniform(12, 36) if max(thing.width, thing.height) > 5 else rng.uniform(7, 30))
    x, eye = z * float(rng.uniform(-0.4, 0.4)), float(rng.uniform(1.25, 1.9))
    focal = size * float(rng.uniform(0.35, 1.25)) * z / max(thing.width, thing.height)
    shift = rng.uniform(-0.2, 0.2, 2) * size
    camera = Camera(
        focal=focal,
        centre=size / 2 + shift[0] - x * focal / z,
        horizon=size / 2 + shift[1] - (eye - thing.base - thing.height / 2) * focal / z,
        height=eye,
    )
    stage = Stage(Canvas(size, size), camera, draw_light(rng), rng)
    paint_backdrop(stage, z)
    thing.paint(stage, Pose(x, z))
    return stage


def _surface_stage(rng: np.random.Generator, name: str, size: int) -> Stage:
    surface = CROPS[name]
    assert isinstance(surface, Surface)
    above = float(rng.uniform(1.0, 2.5)) if name == "sky" else -float(rng.uniform(0.05, 1.2))
    camera = Camera(
        focal=size * float(rng.uniform(1.0, 4.0)),
        centre=size * float(rng.uniform(0, 1)),
        horizon=size * above,
        height=1.5,
    )
    stage = Stage(Canvas(size, size), camera, draw_light(rng), rng)
    surface.paint(stage)
    return stage


def paint_backdrop(stage: Stage, z: float) -> None:
    """Paint what may lie behind a thing at distance z: sky, ground, and often a building or trees."""
    rng = stage.rng
    paint_sky(stage)
    strips = tuple(int(strip) for strip in rng.choice([ROAD, PAVING, GRASS], 2, p=[0.5, 0.3, 0.2]))
    edge = float(rng.uniform(-0.4, 0.4)) * z
    paint_ground(stage, Ground(edges=(edge,), strips=strips, lines=((edge - 2, True),), junction=None, crossing=None,
                               road=(-4.0, 4.0)))  # fmt: skip
    reach = stage.canvas.width / stage.camera.scale(z) * 2
    middle = (stage.canvas.width / 2 - stage.camera.centre) / stage.camera.scale(z) * 1.6
    kind = rng.random()
    if kind < 0.4:
        paint_block(stage, middle - reach, middle + reach, z * 1.6, float(rng.uniform(5, 14)))
    elif kind < 0.65:
        for shift in rng.uniform(-reach, reach, 5):
            paint_tree(stage, Pose(middle + float(shift), z * 1.6), float(rng.uniform(4, 10)))
