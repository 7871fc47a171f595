"""Vegetation: trees of several kinds, bushes and hedges, with crowns of clustered leaves."""

import numpy as np
from numpy.typing import NDArray

from training.datasets.streets.camera import Pose
from training.datasets.streets.canvas import Colour, Image
from training.datasets.streets.stage import Stage, box
from training.datasets.streets.textures import Noise, finish, patch

LEAVES: tuple[Colour, ...] = ((84, 112, 52), (70, 98, 46), (100, 124, 58), (62, 88, 54), (112, 120, 56))
AUTUMN: tuple[Colour, ...] = ((158, 112, 46), (142, 84, 40), (168, 138, 60))
BARK: tuple[Colour, ...] = ((84, 72, 60), (104, 94, 82), (70, 60, 52))
_ANGLES = np.linspace(0, 2 * np.pi, 10, endpoint=False)
_ROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
KINDS = ("round", "poplar", "conifer", "spreading")


def foliage(stage: Stage, rows: int, columns: int, pixels: float, colour: Colour) -> Noise:
    """Return clustered leaves, float32 [rows, columns, 3], a metre being `pixels` wide."""
    clusters = patch(stage.rng, rows, columns, cell=max(pixels * 0.16, 1.0), smoothness=2)
    leaves = patch(stage.rng, rows, columns, cell=max(pixels * 0.07, 1.0), smoothness=0)
    light = np.clip(0.95 + 0.22 * clusters + 0.2 * leaves, 0.3, 1.7)[..., None]
    yellow = np.asarray((1.06, 1.02, 0.86), np.float32) ** np.clip(clusters, -1.5, 1.5)[..., None]
    return np.asarray(colour, np.float32) * light * yellow


def crown(
    stage: Stage, rows: int, columns: int, pixels: float, kind: str, colour: Colour
) -> tuple[Image, NDArray[np.bool_]]:
    """Return a crown's colours uint8 [rows, columns, 3] and its mask; `kind` is one of `KINDS` or `bush`."""
    down, across = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    if kind == "conifer":
        inside = (down + 1) / 2 - np.abs(across) * 1.06 - 0.04
    elif kind == "spreading":
        inside = 1 - across**2 - np.where(down < 0, down**2, (down / 0.75) ** 4)
    elif kind == "bush":
        inside = 1 - across**2 - np.where(down < 0, down**2, 0)
    else:
        inside = 1 - across**2 - down**2
    lumps = patch(stage.rng, rows, columns, cell=max(rows / 9, 1.0), smoothness=2)
    ragged = patch(stage.rng, rows, columns, cell=max(pixels * 0.12, 1.0), smoothness=1)
    mask = inside + 0.14 * lumps + 0.1 * ragged > 0.16
    texture = foliage(stage, rows, columns, pixels, colour)
    sun = stage.light.sun * stage.light.shadow
    texture *= (1 - 0.24 * down + 0.35 * sun * across + 0.14 * lumps)[..., None]
    return finish(texture), mask


def paint_tree(stage: Stage, pose: Pose, height: float, kind: str | None = None, colour: Colour | None = None) -> None:
    """Paint a tree; its trunk is vegetation too."""
    rng = stage.rng
    kind = kind or KINDS[rng.choice(4, p=[0.45, 0.15, 0.13, 0.27])]
    colour = colour or (stage.pick(*AUTUMN) if rng.random() < 0.1 else stage.pick(*LEAVES))
    spread = height * {"round": 0.62, "poplar": 0.3, "conifer": 0.45, "spreading": 0.9}[kind] * rng.uniform(0.85, 1.15)
    clear = height * {"round": 0.28, "poplar": 0.14, "conifer": 0.08, "spreading": 0.34}[kind]
    pen = stage.pen("vegetation", pose.z)
    bark, thick = stage.pick(*BARK), height * 0.025 + 0.05
    stage.cast(np.array([[pose.x, pose.z]]) + _ROUND * spread * 0.42 - (stage.light.sun * height * 0.3, 0))
    trunk = stage.upright(pose, [[-thick * 0.7, height * 0.6], [thick * 0.7, height * 0.6], [thick, 0], [-thick, 0]])
    pen.fill(trunk, bark, stage.light.facing(0))
    middle = stage.upright(pose, [[-thick * 0.7, height * 0.6], [0, height * 0.6], [0.1 * thick, 0], [-thick, 0]])
    pen.fill(middle, bark, stage.light.facing(-1) * 0.85)
    _paste_crown(stage, pose, box(-spread / 2, clear, spread / 2, height), kind, colour)


def paint_bush(stage: Stage, pose: Pose, width: float, height: float, colour: Colour | None = None) -> None:
    """Paint a bush."""
    colour = colour or stage.pick(*LEAVES)
    _paste_crown(stage, pose, box(-width / 2, 0, width / 2, height), "bush", colour)


def _paste_crown(stage: Stage, pose: Pose, area: NDArray[np.float64], kind: str, colour: Colour) -> None:
    corners = stage.upright(pose, area)
    left, top = np.floor(corners[0]).astype(int)
    columns, rows = np.maximum(np.ceil(corners[2] - corners[0]).astype(int), 2)
    if not stage.visible(corners):
        return
    colours, mask = crown(stage, rows, columns, stage.camera.scale(pose.z), kind, colour)
    stage.pen("vegetation", pose.z).paste(left, top, colours, mask)


def paint_hedge(stage: Stage, x: float, near: float, far: float, height: float) -> None:
    """Paint a clipped hedge along the street."""
    start = max(near, 1.6)
    corners = stage.camera.project([[x, height, start], [x, height, far], [x, 0, far], [x, 0, start]])
    if not stage.visible(corners):
        return
    pixels = float(np.clip(stage.camera.scale(max(start, abs(x))), 4, 60))
    rows, columns = max(int(height * pixels), 6), max(int((far - start) * pixels), 6)
    texture = foliage(stage, rows, columns, pixels, stage.pick(*LEAVES))
    texture *= np.linspace(1.2, 0.75, rows, dtype=np.float32)[:, None, None]
    stage.pen("vegetation", (start + far) / 2).warp(finish(texture), corners, stage.light.facing(-np.sign(x)))
