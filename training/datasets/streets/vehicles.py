"""Cars, vans, trucks, buses and trams: profiles extruded to bodies, seen from anywhere.

A body's profile is its outline from the side, from the rear bumper over the roof to the front. Every edge of it spans a
strip across the body (rear window, roof, bonnet, ...), so that one description gives rear, front and side views.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.datasets.streets.camera import Pose
from training.datasets.streets.canvas import Colour
from training.datasets.streets.stage import Stage

PAINTS: tuple[Colour, ...] = (
    (30, 32, 36), (58, 62, 66), (128, 132, 136), (186, 190, 194), (228, 230, 230), (150, 26, 30), (34, 58, 120),
    (24, 74, 86), (96, 20, 34), (64, 82, 62), (196, 170, 120), (214, 150, 40),
)  # fmt: skip
GLASS: Colour = (46, 56, 64)
TYRE: Colour = (26, 26, 28)
RED_LAMP, WHITE_LAMP = (190, 26, 26), (240, 238, 222)

_RIMS: tuple[tuple[float, Colour], ...] = (
    (1.12, (20, 20, 22)), (0.98, TYRE), (0.58, (150, 152, 156)), (0.2, (70, 72, 74)),
)  # fmt: skip
_ANGLES = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One box of a vehicle. Shares run from the rear (0) to the front (1); heights are metres."""

    name: str
    """The class it counts to."""
    length: float
    width: float
    profile: tuple[tuple[float, float], ...]
    """(share of the length, height) from the rear's lower edge over the top to the front's lower edge."""
    glass: tuple[int, ...] = ()
    """Edges of the profile that are windows."""
    side_windows: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Windows on each side, as polygons of (share, height)."""
    wheels: tuple[float, ...] = ()
    """Positions of the wheels, shares."""
    radius: float = 0.33
    """Of a wheel."""
    belt: float = 9.0
    """Height above which the body narrows."""
    narrow: float = 1.0
    """Width of the roof, as a share of the body's."""
    offset: float = 0.0
    """How far the box's middle stands ahead of the vehicle's, metres."""
    lamps: float | None = None
    """Height of the lamps; None for a box without any."""
    stripe: tuple[float, float] | None = None
    """Heights between which a stripe of a second colour runs along the sides."""


def _boxy(top: float, bottom: float, slope: float = 0.0) -> tuple[tuple[float, float], ...]:
    return (
        (0.0, bottom),
        (0.0, top - 0.1),
        (0.01, top),
        (1 - slope - 0.01, top),
        (1 - slope, top - 0.1),
        (1.0, bottom),
    )


def _windows(
    first: float, last: float, count: int, low: float, high: float
) -> tuple[tuple[tuple[float, float], ...], ...]:
    step = (last - first) / count
    lefts = [first + step * number for number in range(count)]
    return tuple(((left, low), (left, high), (left + step * 0.86, high), (left + step * 0.86, low)) for left in lefts)


HATCHBACK = Body(
    name="car", length=4.1, width=1.78, lamps=0.72, belt=0.95, narrow=0.78, wheels=(0.19, 0.81),
    profile=((0.0, 0.3), (0.0, 0.6), (0.015, 0.95), (0.11, 1.42), (0.3, 1.5), (0.52, 1.47), (0.72, 1.0), (0.96, 0.82),
             (1.0, 0.6), (1.0, 0.28)),
    glass=(2, 5),
    side_windows=(((0.12, 0.98), (0.17, 1.36), (0.38, 1.42), (0.4, 0.98)), ((0.42, 0.98), (0.42, 1.42), (0.53, 1.4),
                  (0.68, 0.98))),
)  # fmt: skip
SEDAN = Body(
    name="car", length=4.6, width=1.82, lamps=0.74, belt=0.98, narrow=0.76, wheels=(0.2, 0.81),
    profile=((0.0, 0.32), (0.0, 0.6), (0.01, 0.96), (0.14, 1.02), (0.28, 1.4), (0.42, 1.46), (0.56, 1.43), (0.73, 1.0),
             (0.96, 0.82), (1.0, 0.6), (1.0, 0.28)),
    glass=(3, 6),
    side_windows=(((0.22, 1.02), (0.31, 1.36), (0.44, 1.4), (0.45, 1.0)), ((0.47, 1.0), (0.46, 1.4), (0.56, 1.37),
                  (0.69, 1.0))),
)  # fmt: skip
ESTATE = Body(
    name="car", length=4.5, width=1.88, lamps=0.85, belt=1.08, narrow=0.84, wheels=(0.2, 0.8), radius=0.37,
    profile=((0.0, 0.36), (0.0, 0.7), (0.01, 1.08), (0.05, 1.6), (0.2, 1.7), (0.55, 1.67), (0.72, 1.14), (0.96, 0.98),
             (1.0, 0.7), (1.0, 0.34)),
    glass=(2, 5),
    side_windows=(((0.07, 1.12), (0.09, 1.54), (0.26, 1.6), (0.26, 1.12)), ((0.28, 1.12), (0.28, 1.6), (0.42, 1.6),
                  (0.43, 1.12)), ((0.45, 1.12), (0.44, 1.6), (0.55, 1.56), (0.67, 1.12))),
)  # fmt: skip
VAN = Body(
    name="car", length=5.2, width=1.98, lamps=0.9, belt=1.2, narrow=0.9, wheels=(0.18, 0.82), radius=0.36,
    profile=((0.0, 0.36), (0.0, 1.1), (0.005, 1.25), (0.02, 1.9), (0.05, 2.02), (0.68, 2.0), (0.84, 1.22),
             (0.97, 1.0), (1.0, 0.8), (1.0, 0.34)),
    glass=(2, 5),
    side_windows=(((0.62, 1.26), (0.62, 1.84), (0.69, 1.84), (0.79, 1.26)),),
)  # fmt: skip
CARS = {"hatchback": HATCHBACK, "sedan": SEDAN, "estate": ESTATE, "van": VAN}

_CARGO = Body(name="truck", length=5.6, width=2.45, profile=_boxy(3.5, 1.0), offset=-1.1)
_CHASSIS = Body(name="truck", length=7.6, width=2.2, profile=_boxy(1.05, 0.45), wheels=(0.14, 0.3, 0.84), radius=0.48,
                lamps=0.8)  # fmt: skip
_CAB = Body(
    name="truck", length=1.9, width=2.35, offset=2.85, lamps=0.85,
    profile=((0.0, 0.6), (0.0, 2.75), (0.05, 2.85), (0.82, 2.8), (0.95, 1.7), (1.0, 1.55), (1.0, 0.5)),
    glass=(3,), side_windows=(((0.3, 1.65), (0.3, 2.5), (0.8, 2.5), (0.88, 1.65)),),
)  # fmt: skip
BUS = Body(
    name="bus", length=11.5, width=2.5, lamps=0.85, wheels=(0.24, 0.78), radius=0.48, stripe=(0.75, 1.0),
    profile=((0.0, 0.4), (0.0, 1.3), (0.0, 2.5), (0.01, 3.05), (0.985, 3.05), (0.99, 2.75), (1.0, 1.2), (1.0, 0.36)),
    glass=(1, 5), side_windows=_windows(0.03, 0.98, 7, 1.3, 2.55),
)  # fmt: skip
TRAM = Body(
    name="train", length=18.0, width=2.4, lamps=0.95, stripe=(0.55, 1.0),
    profile=((0.0, 0.25), (0.0, 1.35), (0.015, 2.7), (0.03, 3.25), (0.97, 3.25), (0.985, 2.7), (1.0, 1.35),
             (1.0, 0.25)),
    glass=(1, 5), side_windows=_windows(0.03, 0.98, 11, 1.35, 2.6),
)  # fmt: skip


def paint_car(stage: Stage, pose: Pose, kind: str | None = None, colour: Colour | None = None) -> None:
    """Paint a car; one of `CARS`, drawn if not named."""
    body = CARS[kind] if kind else list(CARS.values())[stage.rng.choice(4, p=[0.34, 0.3, 0.24, 0.12])]
    stage.shadow(pose, body.length, body.width)
    paint_body(stage, pose, body, colour or stage.pick(*PAINTS))


def paint_truck(stage: Stage, pose: Pose, colour: Colour | None = None) -> None:
    """Paint a truck: chassis, cab and cargo box, the farther box first."""
    cab = colour or stage.pick((190, 40, 36), (40, 80, 150), (230, 230, 226), (220, 150, 40), (60, 110, 80))
    cargo = stage.pick((222, 220, 212), (190, 194, 196), (86, 118, 150), (170, 150, 110), (120, 140, 110))
    stage.shadow(pose, 7.6, 2.4)
    paint_body(stage, pose, _CHASSIS, (52, 52, 54))
    boxes = [(_CARGO, cargo), (_CAB, cab)]
    boxes.sort(key=lambda pair: -float(np.hypot(*_middle(pose, pair[0].offset))))
    for body, paint in boxes:
        paint_body(stage, pose, body, paint)


def paint_bus(stage: Stage, pose: Pose, colour: Colour | None = None) -> None:
    """Paint a bus."""
    stage.shadow(pose, BUS.length, BUS.width)
    paint_body(stage, pose, BUS, colour or stage.pick((232, 226, 214), (196, 40, 40), (236, 190, 50), (70, 120, 170)))


def paint_tram(stage: Stage, pose: Pose, colour: Colour | None = None) -> None:
    """Paint a tram (class train) with its pantograph."""
    stage.shadow(pose, TRAM.length, TRAM.width)
    paint_body(stage, pose, TRAM, colour or stage.pick((232, 210, 120), (190, 44, 40), (64, 130, 92), (222, 222, 218)))
    pen = stage.pen("train", pose.z)
    arm = stage.camera.project(pose.world([[-2, 0, 3.2], [-1, 0, 3.8], [-2, 0, 4.3]]))
    pen.stroke(arm, (60, 60, 62), 0.07 * stage.camera.scale(pose.z))


def paint_body(stage: Stage, pose: Pose, body: Body, colour: Colour) -> None:
    """Paint one box of a vehicle: the strips that face the camera, far ones first, then the side that does."""
    view = _View(stage, pose, body)
    for share in body.wheels if view.near else ():
        for right in (-0.86, 0.86):
            view.fill(view.circle(share, right, 1.0), TYRE)
    for number in view.visible_strips():
        (share, up), (next_share, next_up) = body.profile[number], body.profile[number + 1]
        steep = abs(next_up - up) / (abs(next_up - up) + abs(next_share - share) * body.length + 1e-9)
        view.fill(_strip(share, up, next_share, next_up, 1.0), colour, stage.light.facing(0) * (1.18 - 0.34 * steep))
        if number in body.glass:
            shine, share_in, up_in = stage.rng.uniform(0.8, 1.5), (share + next_share) / 2, (up + next_up) / 2
            view.fill(_strip(share, up + 0.04, next_share, next_up - 0.03, 0.86), GLASS, shine)
            view.fill(_strip(share_in, up_in, next_share, next_up - 0.03, 0.8), GLASS, shine * 1.5)
    _paint_end(view)
    for right in (-1.0, 1.0):
        _paint_side(view, right, colour)


class _View:
    """A body as the camera sees it; takes points (share of the length, right in half widths, up in metres) [N, 3]."""

    def __init__(self, stage: Stage, pose: Pose, body: Body) -> None:
        self.stage, self.pose, self.body = stage, pose, body
        self.pen = stage.pen(body.name, pose.z)
        self.eye = np.array([0.0, stage.camera.height, 0.0])
        self.near = stage.camera.scale(pose.z) > 5
        """Whether it is large enough to show details."""

    def world(self, points: ArrayLike) -> NDArray[np.float64]:
        given, body = np.asarray(points, np.float64), self.body
        width = np.where(given[:, 2] > body.belt + 0.05, body.narrow, 1.0) * body.width / 2
        local = given * np.array([body.length, 1.0, 1.0])
        local[:, 0] += body.offset - body.length / 2
        local[:, 1] *= width
        return self.pose.world(local)

    def fill(self, points: ArrayLike, colour: Colour, shade: float = 1.0) -> None:
        world = self.world(points)
        np.maximum(world[:, 2], 0.5, out=world[:, 2])
        self.pen.fill(self.stage.camera.project(world), colour, shade)

    def circle(self, share: float, right: float, radius: float) -> NDArray[np.float64]:
        """Return a circle around a wheel's hub; the radius counts in the wheel's own."""
        size = self.body.radius
        circle = np.full((len(_AROUND), 3), right)
        circle[:, 0] = share + size * radius * _AROUND[:, 0] / self.body.length
        circle[:, 2] = size * (1 + radius * _AROUND[:, 1])
        return circle

    def visible_strips(self) -> list[int]:
        """Return the edges of the profile whose strips face the camera, far ones first."""
        profile = np.array(self.body.profile)
        points = self.world(np.stack([profile[:, 0], np.zeros(len(profile)), profile[:, 1]], axis=1))
        across = np.array([np.cos(self.pose.yaw), 0.0, -np.sin(self.pose.yaw)])
        away = (points[:-1] + points[1:]) / 2 - self.eye
        facing = (np.cross(np.diff(points, axis=0), across) * away).sum(axis=1) < 0
        order = np.argsort(-np.linalg.norm(away, axis=1))
        return [int(number) for number in order if facing[number]]


def _strip(
    share: float, up: float, next_share: float, next_up: float, right: float
) -> list[tuple[float, float, float]]:
    return [(share, -right, up), (next_share, -right, next_up), (next_share, right, next_up), (share, right, up)]


def _paint_side(view: _View, right: float, colour: Colour) -> None:
    body, stage, yaw = view.body, view.stage, view.pose.yaw
    outward = np.array([right * np.cos(yaw), 0.0, -right * np.sin(yaw)])
    if outward @ (view.world([(0.5, right, 0.5)])[0] - view.eye) >= 0:
        return
    lit = stage.light.facing(float(outward[0])) * 0.92

    def fill(outline: Iterable[tuple[float, float]], paint: Colour, shade: float) -> None:
        view.fill([(share, right, up) for share, up in outline], paint, shade)

    fill(body.profile, colour, lit)
    sill = max(body.profile[0][1] + 0.35, 0.62)
    fill([point for point in body.profile if point[1] <= sill], colour, lit * 0.62)
    if body.stripe:
        low, high = body.stripe
        fill([(0.0, low), (0.0, high), (1.0, high), (1.0, low)], stage.pick(*PAINTS), lit)
    for window in body.side_windows:
        fill(window, GLASS, stage.rng.uniform(0.8, 1.6))
    for share in body.wheels:
        for radius, paint in _RIMS if view.near else _RIMS[1:2]:
            view.fill(view.circle(share, right, radius), paint)


def _middle(pose: Pose, offset: float) -> tuple[float, float]:
    """Where the middle of a box stands that is `offset` metres ahead of the vehicle's."""
    return pose.x + offset * float(np.sin(pose.yaw)), pose.z + offset * float(np.cos(pose.yaw))


def _paint_end(view: _View) -> None:
    """Paint bumper, lamps and plate of the end that faces the camera."""
    body, pose = view.body, view.pose
    heading = (np.sin(pose.yaw) * pose.x + np.cos(pose.yaw) * pose.z) / np.hypot(pose.x, pose.z)
    if body.lamps is None or abs(heading) < 0.25:
        return
    rear, low, floor = heading > 0, body.lamps, body.profile[0][1]
    shade = 1.7 if view.stage.light.lamps else 1.15

    def plate(left: float, bottom: float, right: float, top: float, colour: Colour, lit: float = 1.0) -> None:
        inset = 0.0 if bottom else 0.1
        share = inset if rear else 1.0 - inset
        view.fill([(share, left, top), (share, right, top), (share, right, bottom), (share, left, bottom)], colour, lit)

    plate(-1, floor, 1, floor + 0.2, (44, 45, 48))
    for side in (-1, 1):
        if body.wheels:
            plate(side * 0.96, 0.0, side * 0.7, floor, TYRE)
        plate(side * 0.94, low - 0.1, side * 0.62, low + 0.1, RED_LAMP if rear else WHITE_LAMP, shade)
    if rear:
        plate(-0.28, low - 0.2, 0.28, low - 0.07, (226, 224, 210))
    else:
        plate(-0.5, low - 0.14, 0.5, low + 0.02, (34, 35, 38))
        plate(-0.26, low - 0.32, 0.26, low - 0.2, (226, 224, 210))
