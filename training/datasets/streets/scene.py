"""The layout of a scene: what kind of street it is, and what stands where along it.

Things are drawn from far to near: sky, ground, what lines the street, then everything that stands on it. The rare
classes take turns (`FEATURES`), so that each is seen in several of a few dozen frames.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from training.datasets.streets.camera import Camera, Pose
from training.datasets.streets.canvas import Canvas
from training.datasets.streets.furniture import paint_lamp, paint_pole, paint_sign, paint_signal
from training.datasets.streets.ground import GRASS, KERB, PAVING, ROAD, TRACKS, Ground, paint_ground, paint_sky
from training.datasets.streets.light import draw_light
from training.datasets.streets.people import (
    paint_bicycle,
    paint_cyclist,
    paint_motorcycle,
    paint_motorcyclist,
    paint_person,
)
from training.datasets.streets.plants import paint_bush, paint_hedge, paint_tree
from training.datasets.streets.stage import Stage
from training.datasets.streets.structures import paint_block, paint_building, paint_fence, paint_wall
from training.datasets.streets.vehicles import paint_bus, paint_car, paint_tram, paint_truck

FEATURES = ("truck", "bus", "tram", "motorcycle", "cyclist", "wall", "fence", "signs")
"""What frame i certainly shows: entry i modulo their number."""

END = 110.0
"""Where the street ends, metres ahead."""

Paint = Callable[[], None]
Painter = Callable[..., None]

TRAFFIC: dict[str, Painter] = {
    "car": paint_car,
    "truck": paint_truck,
    "bus": paint_bus,
    "motorcyclist": paint_motorcyclist,
}
"""What drives in the lanes."""


class Street:
    """One scene's plan, drawn at random; `paint` puts it on the stage's canvas."""

    def __init__(self, stage: Stage, feature: str) -> None:
        self.stage, self.feature = stage, feature
        rng = stage.rng
        self.lanes = int(rng.choice([2, 3, 4], p=[0.6, 0.2, 0.2]))
        self.lane = float(rng.uniform(3.0, 3.6))
        own = rng.uniform(-0.25, 0.25)
        forward = max(self.lanes // 2, 1)
        self.right = own + self.lane / 2 + (forward - 1) * self.lane
        self.left = self.right - self.lanes * self.lane
        self.parking = {side: bool(rng.random() < 0.6) for side in (-1, 1)}
        self.tram = feature == "tram" or rng.random() < 0.1
        self.walk = {side: float(rng.uniform(1.8, 4.2)) for side in (-1, 1)}
        self.verge = {side: float(rng.uniform(0.8, 2.2)) if rng.random() < 0.3 else 0.0 for side in (-1, 1)}
        self.urban = float(rng.uniform(0.35, 0.95))
        start = float(rng.uniform(16, 50))
        self.junction = (start, start + 9) if rng.random() < 0.4 else None
        self.crossing = None
        if rng.random() < 0.4:
            self.crossing = start - 5 if self.junction else float(rng.uniform(11, 26))
        self.items: list[tuple[float, Paint]] = []

    def edge(self, side: int) -> float:
        """Position of the kerb on a side (-1 left, 1 right), metres."""
        room = 2.2 * self.parking[side]
        return self.right + room if side > 0 else self.left - room - (3.2 if self.tram else 0)

    def front(self, side: int) -> float:
        """Position of what lines the street on a side."""
        return self.edge(side) + side * (0.2 + self.verge[side] + self.walk[side])

    def paint(self) -> None:
        """Paint everything."""
        stage = self.stage
        paint_sky(stage)
        paint_ground(stage, self._ground())
        self._skyline()
        for side in (-1, 1):
            self._line(side)
        for side in (-1, 1):
            self._pavement(side)
            self._parked(side)
        self._traffic()
        self._junction_furniture()
        for _, paint in sorted(self.items, key=lambda item: -item[0]):
            paint()

    def _add(self, painter: Painter, x: float, z: float, yaw: float = 0.0, **options: object) -> None:
        """Put an object on the street; what lies far beside the frame is left out."""
        camera = self.stage.camera
        column = float(camera.project([x, 0, z])[0])
        margin = 10 * camera.scale(z)
        if not -margin < column < self.stage.canvas.width + margin:
            return
        self.items.append((z, partial(painter, self.stage, Pose(float(x), float(z), float(yaw)), **options)))

    def _ground(self) -> Ground:
        left, right = self.edge(-1), self.edge(1)
        beyond = GRASS
        edges = [self.front(-1), left - 0.2 - self.verge[-1], left - 0.2, left]
        strips = [beyond, PAVING, GRASS, KERB]
        rails: tuple[float, ...] = ()
        if self.tram:
            edges.append(self.left - 2.2 * self.parking[-1])
            strips.append(TRACKS)
            middle = left + 1.6
            rails = (middle - 0.72, middle + 0.72)
        edges += [right, right + 0.2, right + 0.2 + self.verge[1], self.front(1)]
        strips += [ROAD, KERB, GRASS, PAVING, beyond]
        lines = [(self.right - number * self.lane, True) for number in range(1, self.lanes)]
        lines += [(edge, False) for edge in (self.left, self.right)]
        return Ground(edges=tuple(edges), strips=tuple(strips), lines=tuple(lines), junction=self.junction,
                      crossing=self.crossing, road=(self.left, self.right), rails=rails)  # fmt: skip

    def _skyline(self) -> None:
        stage, rng = self.stage, self.stage.rng
        x, end = (-0.6 * END, 0.6 * END)
        while x < end:
            width = float(rng.uniform(12, 28))
            z = float(END + rng.uniform(5, 25))
            if rng.random() < self.urban * 0.75:
                paint_block(stage, x, x + width, z, float(rng.uniform(7, 22)))
            else:
                for shift in (0.2, 0.7):
                    paint_tree(stage, Pose(x + shift * width, z), float(rng.uniform(8, 16)), "spreading")
            x += width * 0.8

    def _line(self, side: int) -> None:
        """What lines the street on one side, from far to near."""
        stage, rng = self.stage, self.stage.rng
        x = self.front(side)
        spans, z = [], float(rng.uniform(-6, 2))
        while z < END:
            length = float(rng.uniform(9, 24))
            spans.append((z, min(z + length, END)))
            z += length + (float(rng.uniform(2, 6)) if rng.random() < 0.2 else 0)
        built = self.urban * 0.85
        shares = [built, *np.array([0.36, 0.24, 0.22, 0.18]) * (1 - built)]
        kinds = rng.choice(["building", "park", "fence", "wall", "hedge"], len(spans), p=shares)
        if self.feature in ("wall", "fence") and (side > 0) == (rng.random() < 0.7):
            kinds[1] = self.feature
        for (near, far), kind in reversed(list(zip(spans, kinds, strict=True))):
            if far < 4 or (self.junction and near < self.junction[1] and far > self.junction[0]):
                continue
            setback = float(rng.uniform(0, 1.2))
            if kind == "building":
                paint_building(stage, x + side * setback, near, far, float(rng.uniform(7, 19)))
                continue
            self._garden(side, x, near, far)
            height = float(rng.uniform(1.0, 2.2))
            if kind == "fence":
                paint_fence(stage, x, near, far, height)
            elif kind == "wall":
                paint_wall(stage, x, near, far, height)
            elif kind == "hedge":
                paint_hedge(stage, x, near, far, height)

    def _garden(self, side: int, x: float, near: float, far: float) -> None:
        """Trees, bushes and sometimes a house beyond a fence, a wall or a hedge."""
        stage, rng = self.stage, self.stage.rng
        if rng.random() < 0.4:
            paint_building(stage, x + side * float(rng.uniform(8, 14)), near + 1, far - 1, float(rng.uniform(5, 9)))
        places = [
            (float(rng.uniform(max(near, 4), far)), float(rng.uniform(1.5, 9)))
            for _ in range(int((far - near) / (3.2 + near / 12)))
        ]
        for z, away in sorted(places, reverse=True):
            pose = Pose(x + side * away, z)
            if rng.random() < 0.65:
                paint_tree(stage, pose, float(rng.uniform(4, 11)))
            else:
                paint_bush(stage, pose, float(rng.uniform(1.5, 3.5)), float(rng.uniform(0.8, 2)))

    def _pavement(self, side: int) -> None:
        rng = self.stage.rng
        kerb, front = self.edge(side) + side * 0.6, self.front(side)
        spacing = float(rng.uniform(9, 16))
        trees = rng.random() < 0.45
        for z in np.arange(rng.uniform(7, 16), END, spacing):
            if self._crossed(z):
                continue
            if trees:
                self._add(paint_tree, kerb, z, height=float(rng.uniform(4.5, 8)), kind=None)
            elif rng.random() < 0.6:
                self._add(
                    paint_lamp, kerb, z, height=float(rng.uniform(4.5, 7)), arm=-side * float(rng.uniform(0.8, 1.8))
                )
        for z in rng.uniform(9, 50, rng.integers(2, 5) + 2 * (self.feature == "signs")):
            self._add(
                paint_sign,
                kerb + side * 0.1,
                z,
                height=float(rng.uniform(2.2, 3.0)),
                size=float(rng.uniform(0.65, 1.0)),
            )
        for z in rng.uniform(8, 40, rng.integers(0, 3)):
            self._add(
                paint_pole, kerb, z, height=float(rng.choice([0.9, 0.9, 5.5])), thickness=float(rng.uniform(0.1, 0.22))
            )
        low, high = sorted((self.edge(side) + side * 0.8, front - side * 0.4))
        for _ in range(rng.integers(1, 6)):
            z = float(rng.uniform(7, 45))
            yaw = float(rng.choice([0, np.pi, np.pi / 2, -np.pi / 2], p=[0.3, 0.3, 0.2, 0.2]))
            x = float(rng.uniform(low, high))
            for shift in (0.0, 0.65)[: rng.integers(1, 3)]:
                self._add(paint_person, x + shift, z + shift / 3, yaw, height=float(rng.normal(1.72, 0.08)))
        for _ in range(rng.integers(0, 3)):
            yaw = float(rng.choice([0.2, np.pi / 2, np.pi - 0.3, np.pi / 2 + 0.4]))
            self._add(paint_bicycle, front - side * 0.7, rng.uniform(8, 26), yaw)
        if rng.random() < 0.2 or self.feature == "motorcycle":
            self._add(
                paint_motorcycle, kerb + side * 0.3, rng.uniform(8, 20), float(rng.choice([0.2, 1.2, np.pi - 0.3]))
            )
        if self.verge[side] and rng.random() < 0.5:
            for z in rng.uniform(6, 40, 4):
                self._add(paint_bush, self.edge(side) + side * (0.3 + self.verge[side] / 2), z, width=1.4, height=0.7)

    def _parked(self, side: int) -> None:
        rng = self.stage.rng
        if not self.parking[side]:
            return
        x = (self.right + 1.15) if side > 0 else (self.left - 1.15)
        z = float(rng.uniform(6, 12))
        while z < 75:
            if rng.random() < 0.7 and not self._crossed(z, 4) and not (self.crossing and abs(z - self.crossing) < 5):
                painter: Painter = paint_truck if rng.random() < 0.04 else paint_car
                self._add(painter, x + rng.normal(0, 0.1), z, (0 if side > 0 else np.pi) + rng.normal(0, 0.03))
            z += float(rng.uniform(5.4, 7))

    def _traffic(self) -> None:
        rng = self.stage.rng
        forward = max(self.lanes // 2, 1)
        for lane in range(self.lanes):
            x = self.right - (lane + 0.5) * self.lane
            coming = lane >= forward
            z = float(rng.uniform(9, 26)) if not coming else float(rng.uniform(11, 30))
            while z < 95:
                if rng.random() < 0.62:
                    kind = str(rng.choice(list(TRAFFIC), p=[0.86, 0.06, 0.04, 0.04]))
                    long = 5.0 if kind in ("truck", "bus") else 0.0
                    self._add(
                        TRAFFIC[kind], x + rng.normal(0, 0.2), z + long, (np.pi if coming else 0) + rng.normal(0, 0.02)
                    )
                    z += 2 * long
                z += float(rng.uniform(9, 28))
        self._special(self.right - (self.lanes - 0.5) * self.lane)
        if rng.random() < 0.3 or self.feature == "cyclist":
            self._add(paint_cyclist, self.right - 0.5, rng.uniform(8, 18), rng.normal(0, 0.15))
        if rng.random() < 0.2 or self.feature == "cyclist":
            self._add(paint_cyclist, self.left + 0.6, rng.uniform(10, 22), np.pi + rng.normal(0, 0.2))
        if self.crossing:
            for _ in range(rng.integers(1, 5)):
                x = rng.uniform(self.edge(-1), self.edge(1))
                yaw = float(rng.choice([-1, 1])) * np.pi / 2
                self._add(paint_person, x, self.crossing + rng.uniform(0.5, 2.8), yaw, walking=True)

    def _special(self, far_lane: float) -> None:
        """The feature whose turn it is, where it can be seen."""
        rng = self.stage.rng
        if self.tram:
            self._add(paint_tram, self.edge(-1) + 1.6, rng.uniform(19, 34), np.pi)
        if self.feature == "truck":
            self._add(paint_truck, far_lane, rng.uniform(14, 24), np.pi)
        elif self.feature == "bus":
            self._add(paint_bus, far_lane, rng.uniform(17, 26), np.pi)
        elif self.feature == "motorcycle":
            self._add(paint_motorcyclist, self.right - 0.8, rng.uniform(8, 14), rng.normal(0, 0.12))
        if self.junction and rng.random() < 0.6:
            crossing: tuple[Painter, ...] = (paint_car, paint_car, paint_bus, paint_cyclist, paint_truck)
            painter = crossing[rng.integers(5)]
            yaw = float(rng.choice([-1, 1])) * np.pi / 2
            self._add(painter, rng.uniform(-9, 9), self.junction[0] + rng.uniform(2, 7), yaw)

    def _junction_furniture(self) -> None:
        rng = self.stage.rng
        where = self.junction[0] - 1 if self.junction else self.crossing
        if where is None or rng.random() < 0.1:
            return
        for side in (-1, 1):
            x = self.edge(side) + side * 0.5
            arm = -side * float(rng.uniform(2, 4)) if rng.random() < 0.4 else 0.0
            self._add(
                paint_signal, x, where, arm=arm, height=float(rng.uniform(4.3, 5) if arm else rng.uniform(2.2, 2.8))
            )
            self._add(paint_signal, x, where + 11, height=2.6, away=bool(rng.random() < 0.3))

    def _crossed(self, z: float, margin: float = 1.0) -> bool:
        return bool(self.junction and self.junction[0] - margin < z < self.junction[1] + margin)


def draw_stage(height: int, width: int, rng: np.random.Generator) -> Stage:
    """Return an empty stage of that size: camera and light drawn at random."""
    size = float(np.sqrt(height * width))
    camera = Camera(
        focal=size * 1.2 * float(rng.uniform(0.9, 1.12)),
        centre=width * float(rng.uniform(0.42, 0.58)),
        horizon=height * float(rng.uniform(0.4, 0.5)),
        height=float(rng.uniform(1.25, 1.9)),
        curvature=float(rng.normal(0, 0.0007)),
    )
    return Stage(Canvas(height, width), camera, draw_light(rng), rng)
