"""Buildings, walls and fences: flat textures on planes along and across the street."""

import numpy as np
from numpy.typing import NDArray

from training.datasets.streets.canvas import Colour, Image
from training.datasets.streets.stage import Stage
from training.datasets.streets.textures import SURFACES, Noise, bricks, concrete, finish, patch, plain, plaster, stones

PLASTERS: tuple[Colour, ...] = (
    (206, 192, 164), (190, 178, 158), (176, 160, 140), (214, 206, 190), (168, 150, 128), (186, 168, 132),
    (150, 146, 140), (196, 170, 150), (176, 182, 178), (140, 132, 122),
)  # fmt: skip
BRICKS: tuple[Colour, ...] = ((142, 84, 66), (128, 72, 58), (156, 104, 80), (118, 84, 72))
GLASS: tuple[Colour, ...] = ((92, 112, 128), (78, 94, 106), (108, 124, 134))
CONCRETES: tuple[Colour, ...] = ((142, 140, 134), (122, 122, 120), (158, 154, 146))


def facade(stage: Stage, length: float, height: float, ppm: float, style: str) -> Image:
    """Draw a facade flat: surface, rows of windows, a shop front or doors below, a cornice; uint8 [h, w, 3].

    Parameters
    ----------
    stage
        Random numbers, and whether windows are lit.
    length, height
        Metres.
    ppm
        Pixels per metre.
    style
        `brick`, `plaster`, `concrete`, `stone` or `glass`.
    """
    rng = stage.rng
    rows, columns = max(int(height * ppm), 8), max(int(length * ppm), 8)
    if style == "glass":
        return _curtain_wall(stage, rows, columns, ppm)
    colour = stage.pick(*(BRICKS if style == "brick" else CONCRETES if style == "concrete" else PLASTERS))
    texture = SURFACES[style](rng, rows, columns, ppm, colour)
    frame = np.asarray(stage.pick((222, 220, 214), (92, 78, 66), (120, 118, 112)), np.float32)
    storey, bay = rng.uniform(2.8, 3.4), rng.uniform(1.8, 3.0)
    wide, tall = bay * rng.uniform(0.38, 0.58), storey * rng.uniform(0.45, 0.6)
    ground_floor = rng.uniform(3.0, 4.0)
    for level in range(max(int((height - ground_floor - 0.6) / storey), 0)):
        bottom = ground_floor + level * storey + 0.8
        for number in range(max(int(length / bay), 1)):
            left = (number + 0.5) * length / max(int(length / bay), 1) - wide / 2
            _window(stage, texture, ppm, (left, bottom, wide, tall), frame)
    _ground_floor(stage, texture, ppm, length, ground_floor, frame)
    cornice = texture[: max(int(0.4 * ppm), 1)]
    cornice *= np.float32(0.72)
    if rng.random() < 0.5:
        line = rows - int((ground_floor + 0.35) * ppm)
        texture[max(line, 0) : max(line + max(int(0.18 * ppm), 1), 0)] *= 1.18
    return finish(texture)


def _cut(texture: Noise, ppm: float, area: tuple[float, float, float, float]) -> Noise:
    """Return the view of a rectangle (left, bottom, width, height), metres from the texture's lower left corner."""
    left, bottom, width, height = area
    rows = texture.shape[0]
    top, foot = rows - (bottom + height) * ppm, rows - bottom * ppm
    return texture[max(int(top), 0) : max(int(foot), 0), max(int(left * ppm), 0) : max(int((left + width) * ppm), 0)]


def _window(stage: Stage, texture: Noise, ppm: float, area: tuple[float, float, float, float], frame: Noise) -> None:
    left, bottom, wide, tall = area
    rng = stage.rng
    if ppm > 6:
        margin = 0.12
        _cut(texture, ppm, (left - margin, bottom - 0.2, wide + 2 * margin, 0.2))[:] *= 1.16
        _cut(texture, ppm, (left - margin, bottom, wide + 2 * margin, tall + margin))[:] = frame
    pane = _cut(texture, ppm, area)
    if not pane.size:
        return
    lit = stage.light.lamps and rng.random() < 0.35
    glass = np.asarray((250, 214, 140) if lit else GLASS[rng.integers(3)], np.float32) * rng.uniform(0.5, 0.95)
    pane[:] = glass / (0.55 if lit else 1.0)
    pane[pane.shape[0] // 2 :] *= np.float32(0.8)
    if rng.random() < 0.35:
        pane[: int(pane.shape[0] * rng.uniform(0.2, 0.7))] = np.asarray((196, 188, 170), np.float32)
    if pane.shape[1] >= 6:
        pane[:, pane.shape[1] // 2] = frame


def _ground_floor(stage: Stage, texture: Noise, ppm: float, length: float, height: float, frame: Noise) -> None:
    rng = stage.rng
    if rng.random() < 0.5:
        awning = np.asarray(stage.pick((158, 48, 44), (44, 92, 74), (52, 66, 110), (196, 160, 80), (90, 84, 80)))
        pane = _cut(texture, ppm, (0.4, 0.5, length - 0.8, height - 1.3))
        if pane.size:
            glow = stage.light.lamps or rng.random() < 0.3
            base = np.asarray((196, 168, 124) if glow else (70, 76, 80), np.float32)
            pane[:] = base * (1 + 0.1 * patch(rng, *pane.shape[:2], cell=max(ppm * 0.35, 1)))[..., None]
            pane[:, :: max(int(1.9 * ppm), 2)] = frame
        _cut(texture, ppm, (0.2, height - 0.8, length - 0.4, 0.7))[:] = awning
        return
    for left in np.arange(0.9, length - 1.4, rng.uniform(2.2, 3.6)):
        if rng.random() < 0.3:
            door = _cut(texture, ppm, (left, 0.0, 1.1, 2.3))
            door[:] = np.asarray(stage.pick((92, 62, 44), (58, 68, 64), (120, 96, 70)))
        else:
            _window(stage, texture, ppm, (left, 1.0, 1.0, 1.5), frame)


def _curtain_wall(stage: Stage, rows: int, columns: int, ppm: float) -> Image:
    rng = stage.rng
    texture = plain(rows, columns, stage.pick(*GLASS))
    texture *= np.linspace(1.3, 0.8, rows, dtype=np.float32)[:, None, None]
    texture *= (1 + 0.12 * patch(rng, rows, columns, cell=max(2.5 * ppm, 1), smoothness=2))[..., None]
    texture[:: max(int(1.7 * ppm), 2)] *= 0.62
    texture[:, :: max(int(1.2 * ppm), 2)] *= 0.7
    spandrel = max(int(3.4 * ppm), 3)
    for start in range(0, rows, spandrel):
        texture[start : start + max(int(0.7 * ppm), 1)] *= 0.75
    return finish(texture)


def paint_building(stage: Stage, x: float, near: float, far: float, height: float, depth: float = 10.0) -> None:
    """Paint a building along the street: its shadow, its end wall, then its facade.

    Parameters
    ----------
    stage
        The scene.
    x
        Position of the facade, metres; negative is left of the camera.
    near, far
        Where the facade begins and ends, metres ahead.
    height, depth
        Metres.
    """
    rng, camera, side = stage.rng, stage.camera, float(np.sign(x))
    start, outer = max(near, 1.6), x + side * depth
    style = str(rng.choice(["brick", "plaster", "concrete", "stone", "glass"], p=[0.24, 0.42, 0.14, 0.08, 0.12]))
    if stage.light.sun * side > 0.2:
        reach = x - side * height * 0.45
        stage.cast(np.array([[x, start], [x, far], [reach, far], [reach, start]]))
    end = camera.project([[x, height, start], [outer, height, start], [outer, 0, start], [x, 0, start]])
    front = camera.project([[x, height, start], [x, height, far], [x, 0, far], [x, 0, start]])
    if near > 3 and stage.visible(end):
        stage.pen("building", near).warp(
            _end_wall(stage, depth, height, style, near), end, stage.light.facing(0) * 0.85
        )
    if not stage.visible(front):
        return
    middle = stage.pen("building", (near + far) / 2)
    if rng.random() < 0.45 and style != "glass":
        ridge, back = height + rng.uniform(1.5, 3.0), x + side * 3
        tiles = stage.pick((126, 74, 58), (92, 86, 84), (110, 88, 74))
        top = camera.project([[x, height, start], [x, height, far], [back, ridge, far], [back, ridge, start]])
        middle.fill(top, tiles, stage.light.facing(-side) * 1.05)
        if near > 3:
            gable = camera.project([[x, height, near], [back, ridge, near], [outer, height, near]])
            middle.fill(gable, tiles, stage.light.facing(0) * 0.8)
    texture = facade(stage, far - near, height, _resolution(stage, x, start), style)
    hidden = int((start - near) / (far - near) * texture.shape[1])
    middle.warp(np.ascontiguousarray(texture[:, hidden:]), front, stage.light.facing(-side))


def _end_wall(stage: Stage, depth: float, height: float, style: str, z: float) -> Image:
    if z < 45 and stage.rng.random() < 0.5:
        return facade(stage, depth, height, float(np.clip(stage.camera.scale(z), 3, 60)), style)
    return finish(plaster(stage.rng, 64, 64, 6, stage.pick(*PLASTERS)))


def _resolution(stage: Stage, x: float, near: float) -> float:
    """Return the pixels per metre for a texture along the street, from where it is first seen."""
    seen_from = max(near, abs(x) * stage.camera.focal / (0.5 * stage.canvas.width))
    return float(np.clip(0.75 * stage.camera.scale(seen_from), 3, 60))


def paint_block(stage: Stage, left: float, right: float, z: float, height: float) -> None:
    """Paint a building that faces the camera, from x = left to right at distance z: the end of a street."""
    corners = stage.camera.project([[left, height, z], [right, height, z], [right, 0, z], [left, 0, z]])
    if not stage.visible(corners):
        return
    style = str(stage.rng.choice(["brick", "plaster", "concrete", "glass"], p=[0.25, 0.4, 0.2, 0.15]))
    texture = facade(stage, right - left, height, float(np.clip(stage.camera.scale(z), 3, 40)), style)
    stage.pen("building", z).warp(texture, corners, stage.light.facing(0))


def paint_wall(stage: Stage, x: float, near: float, far: float, height: float) -> None:
    """Paint a free-standing wall along the street."""
    rng, start = stage.rng, max(near, 1.6)
    corners = stage.camera.project([[x, height, start], [x, height, far], [x, 0, far], [x, 0, start]])
    if not stage.visible(corners):
        return
    ppm = _resolution(stage, x, start)
    rows, columns = max(int(height * ppm), 6), max(int((far - start) * ppm), 6)
    surface = [bricks, stones, concrete][rng.integers(3)]
    colour = stage.pick(*(BRICKS if surface is bricks else CONCRETES))
    texture = surface(rng, rows, columns, ppm, colour)
    texture[: max(int(0.14 * ppm), 1)] = np.asarray(stage.pick((176, 172, 164), (130, 128, 124)))
    texture[-max(int(0.2 * ppm), 1) :] *= 0.7
    if rng.random() < 0.3 and columns > 40:
        _graffiti(stage, texture)
    stage.pen("wall", (start + far) / 2).warp(finish(texture), corners, stage.light.facing(-np.sign(x)))


def _graffiti(stage: Stage, texture: Noise) -> None:
    rows, columns = texture.shape[:2]
    lumps = patch(stage.rng, rows, columns, cell=max(rows / 5, 1), smoothness=1)
    middle = np.abs(np.linspace(-1, 1, rows))[:, None] < 0.55
    texture[(lumps > 0.9) & middle] = np.asarray(stage.pick((60, 110, 170), (190, 70, 90), (90, 160, 90)))


def paint_fence(stage: Stage, x: float, near: float, far: float, height: float) -> None:
    """Paint a fence along the street: bars, mesh or rails to see through, or boards."""
    start = max(near, 1.6)
    corners = stage.camera.project([[x, height, start], [x, height, far], [x, 0, far], [x, 0, start]])
    if not stage.visible(corners):
        return
    ppm = max(_resolution(stage, x, start), 6.0)
    texture, alpha = fence_texture(stage, max(int(height * ppm), 6), max(int((far - start) * ppm), 6), ppm)
    stage.pen("fence", (start + far) / 2).warp(texture, corners, stage.light.facing(-np.sign(x)), alpha)


def fence_texture(stage: Stage, rows: int, columns: int, ppm: float, kind: str | None = None) -> tuple[Image, Image]:
    """Draw a fence flat: colours uint8 [h, w, 3] and opacity uint8 [h, w]; one of four kinds, or the one named."""
    rng = stage.rng
    kind = kind or str(rng.choice(["bars", "mesh", "rails", "boards"], p=[0.35, 0.2, 0.2, 0.25]))
    colour = {
        "bars": stage.pick((58, 64, 60), (40, 44, 48), (70, 92, 78)),
        "mesh": stage.pick((120, 128, 124), (96, 116, 104)),
        "rails": stage.pick((206, 206, 200), (170, 172, 172), (176, 150, 118)),
        "boards": stage.pick((146, 112, 78), (122, 96, 72), (164, 138, 104)),
    }[kind]
    alpha: NDArray[np.uint8] = np.zeros((rows, columns), np.uint8)
    texture = plain(rows, columns, colour)
    line = max(int(0.05 * ppm), 1)
    if kind == "boards":
        alpha[:] = 255
        plank = max(int(0.2 * ppm), 3)
        texture *= (1 + 0.1 * patch(rng, 1, columns, cell=plank, smoothness=0))[..., None]
        texture *= (1 + 0.05 * patch(rng, rows, columns, cell=1.5))[..., None]
        texture[:, ::plank] *= 0.5
        return finish(texture), alpha
    steps = {"bars": 0.2, "mesh": 0.14, "rails": 2.2}
    step = max(int(steps[kind] * ppm), 2 * line + 1)
    for offset in range(line):
        alpha[:, offset::step] = 255
        if kind == "mesh":
            alpha[offset::step] = 200
    post = max(int(2.4 * ppm), 4)
    for offset in range(max(int(0.09 * ppm), 1)):
        alpha[:, offset::post] = 255
    rail = max(int((0.16 if kind == "rails" else 0.06) * ppm), 1)
    for share in (0.02, 0.42, 0.8) if kind == "rails" else (0.04, 0.88):
        top = int(share * rows)
        alpha[top : top + rail] = 255
        texture[top : top + rail] *= 1.1
    return finish(texture), np.maximum(alpha, 40 if kind == "mesh" else 0).astype(np.uint8)
