"""Persons, bicycles, motorcycles, and riders on them."""

import numpy as np
from numpy.typing import ArrayLike

from training.datasets.streets.camera import Pose
from training.datasets.streets.canvas import Colour, Pen
from training.datasets.streets.stage import Stage
from training.datasets.streets.vehicles import PAINTS, RED_LAMP, TYRE, WHITE_LAMP

SKIN: tuple[Colour, ...] = ((226, 180, 150), (196, 146, 112), (140, 98, 72), (92, 62, 46))
HAIR: tuple[Colour, ...] = ((40, 30, 26), (92, 64, 42), (160, 130, 84), (130, 126, 122))
CLOTHES: tuple[Colour, ...] = (
    (44, 48, 58), (70, 76, 96), (150, 44, 44), (52, 82, 130), (196, 192, 184), (110, 100, 84), (60, 90, 66),
    (180, 140, 60), (104, 60, 96), (30, 32, 36),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((40, 44, 58), (56, 66, 96), (90, 84, 72), (34, 34, 36), (120, 112, 96))


def paint_person(stage: Stage, pose: Pose, height: float = 1.74, *, walking: bool | None = None) -> None:
    """Paint a person who stands or walks, seen from the front, the back or the side.

    Parameters
    ----------
    stage
        The scene.
    pose
        Where; the yaw says which way the person looks.
    height
        Metres.
    walking
        Whether the legs are apart; drawn if not given.
    """
    rng, unit = stage.rng, height / 1.74
    walking = bool(rng.random() < 0.7) if walking is None else walking
    side = abs(np.sin(pose.yaw))
    ahead = float(np.sign(np.sin(pose.yaw)) or 1.0)
    pen, pixels = stage.pen("person", pose.z), stage.camera.scale(pose.z) * unit
    coat, trousers, skin, hair = stage.pick(*CLOTHES), stage.pick(*TROUSERS), stage.pick(*SKIN), stage.pick(*HAIR)
    stage.shadow(Pose(pose.x, pose.z), 0.4, 0.6)
    stride = rng.uniform(0.12, 0.3) * side if walking else 0.02
    half = 0.21 - 0.06 * side

    def limb(points: ArrayLike, width: float, colour: Colour, shade: float = 1.0) -> None:
        pen.stroke(stage.upright(pose, np.asarray(points) * unit), colour, width * pixels, shade)

    def shape(points: ArrayLike, colour: Colour, shade: float = 1.0) -> None:
        pen.fill(stage.upright(pose, np.asarray(points) * unit), colour, shade)

    hip = 0.09 * (1 - side)
    for foot, shade in ((-1, 0.82), (1, 1.0)):
        toe = foot * (stride + hip)
        limb([[foot * hip, 0.86], [foot * hip + foot * stride * 0.5, 0.48], [toe, 0.08]], 0.15, trousers, shade)
        limb([[toe, 0.05], [toe + 0.14 * ahead * side, 0.05]], 0.1, (34, 30, 28))
    swing = rng.uniform(0.05, 0.22) * side if walking else 0.03
    limb([[-half, 1.38], [-half - 0.05 - swing * 0.5, 1.1], [-half - swing, 0.86]], 0.1, coat, 0.75)
    hem = rng.choice([0.84, 0.8, 0.55], p=[0.55, 0.3, 0.15])
    flare = 1.0 if hem > 0.6 else 1.25
    shape(
        [
            [-half, 1.44],
            [half, 1.44],
            [half * 0.95, 1.1],
            [half * flare, hem],
            [-half * flare, hem],
            [-half * 0.95, 1.1],
        ],
        coat,
    )
    shape([[0, 1.44], [half, 1.44], [half * 0.95, 1.1], [half * flare, hem], [0, hem]], coat, 0.88)
    limb([[half, 1.38], [half + 0.05 + swing * 0.5, 1.1], [half + swing, 0.86]], 0.1, coat, 1.08)
    for hand in (-half - swing, half + swing):
        limb([[hand, 0.84], [hand, 0.8]], 0.08, skin)
    if rng.random() < 0.35:
        shape([[half, 1.0], [half + 0.16, 1.0], [half + 0.18, 0.66], [half - 0.02, 0.66]], stage.pick(*CLOTHES))
    limb([[0, 1.44], [0, 1.52]], 0.11, skin, 0.85)
    head = stage.upright(pose, [[0.02 * ahead * side, 1.62 * unit]])[0]
    pen.disc(head, 0.115 * pixels, hair)
    if np.cos(pose.yaw) < 0.5:
        pen.disc(head + (0.02 * ahead * side * pixels, 0.03 * pixels), 0.088 * pixels, skin)


class _Upright:
    """A plane along a two-wheeler's heading: strokes and shapes in (forward, up) metres."""

    def __init__(self, stage: Stage, pen: Pen, pose: Pose) -> None:
        self.stage, self.pen, self.pose = stage, pen, pose
        self.pixels = stage.camera.scale(pose.z)

    def points(self, flat: ArrayLike, right: float = 0.0) -> np.ndarray:
        given = np.asarray(flat, np.float64)
        world = self.pose.world(np.stack([given[:, 0], np.full(len(given), right), given[:, 1]], axis=1))
        return self.stage.camera.project(world)

    def stroke(self, flat: ArrayLike, width: float, colour: Colour, shade: float = 1.0, right: float = 0.0) -> None:
        self.pen.stroke(self.points(flat, right), colour, width * self.pixels, shade)

    def wheel(self, forward: float, radius: float, thick: float, *, spokes: bool) -> None:
        angles = np.linspace(0, 2 * np.pi, 21)
        rim = np.stack(
            [forward + np.cos(angles) * (radius - thick / 2), radius + np.sin(angles) * (radius - thick / 2)], 1
        )
        if spokes:
            self.pen.veil(self.points(rim), self.pen.tint((96, 98, 100)), 0.22)
            if self.pixels * radius > 12:
                for angle in np.arange(6) * np.pi / 6:
                    arm = np.array([np.cos(angle), np.sin(angle)]) * radius * 0.9
                    self.stroke(
                        [(forward - arm[0], radius - arm[1]), (forward + arm[0], radius + arm[1])],
                        0.006,
                        (120, 122, 124),
                    )
        else:
            self.pen.fill(self.points(rim), (58, 58, 60))
            self.pen.disc(self.points([[forward, radius]])[0], 0.35 * radius * self.pixels, (150, 150, 154))
        self.stroke(rim, thick, TYRE)


def paint_bicycle(stage: Stage, pose: Pose, colour: Colour | None = None) -> None:
    """Paint a bicycle that heads along the pose's yaw."""
    stage.shadow(pose, 1.5, 0.3)
    bike = _Upright(stage, stage.pen("bicycle", pose.z), pose)
    colour = colour or stage.pick(*PAINTS)
    for forward in (-0.52, 0.52):
        bike.wheel(forward, 0.35, 0.055, spokes=True)
    crank, seat, head = (-0.08, 0.32), (-0.22, 0.84), (0.36, 0.86)
    for line in ([(-0.52, 0.35), crank, seat, (-0.52, 0.35)], [crank, head, seat], [head, (0.52, 0.35)]):
        bike.stroke(line, 0.05, colour)
    bike.stroke([(-0.34, 0.93), (-0.1, 0.93)], 0.08, (30, 30, 32))
    bike.stroke([(0.36, 0.86), (0.32, 1.02), (0.42, 1.05)], 0.04, (60, 60, 62))
    ends = pose.world([[0.34, -0.28, 1.03], [0.34, 0.28, 1.03]])
    bike.pen.stroke(stage.camera.project(ends), (60, 60, 62), 0.045 * bike.pixels)
    if np.cos(pose.yaw) > 0.3:
        bike.pen.disc(bike.points([[-0.6, 0.62]])[0], 0.045 * bike.pixels, RED_LAMP, 1.2)


def paint_motorcycle(stage: Stage, pose: Pose, colour: Colour | None = None) -> None:
    """Paint a motorcycle that heads along the pose's yaw."""
    stage.shadow(pose, 1.9, 0.6)
    bike = _Upright(stage, stage.pen("motorcycle", pose.z), pose)
    colour = colour or stage.pick(*PAINTS)
    for forward in (-0.7, 0.7):
        bike.wheel(forward, 0.32, 0.15, spokes=False)
    for right in (-0.14, 0.14):
        bike.pen.fill(bike.points([(-0.35, 0.25), (-0.4, 0.62), (0.3, 0.62), (0.38, 0.28)], right), (70, 70, 74))
        bike.pen.fill(
            bike.points([(-0.95, 0.86), (-0.3, 0.72), (0.0, 0.7), (0.0, 0.86), (-0.9, 0.96)], right), (30, 30, 32)
        )
        bike.pen.fill(bike.points([(-0.05, 0.66), (-0.02, 0.98), (0.36, 1.0), (0.52, 0.78), (0.4, 0.6)], right), colour)
        bike.pen.fill(bike.points([(-0.95, 0.6), (-0.92, 0.82), (-0.45, 0.7), (-0.5, 0.56)], right), colour, 0.85)
    bike.stroke([(0.42, 0.95), (0.7, 0.32)], 0.09, (150, 150, 154))
    bike.stroke([(-0.1, 0.3), (-0.85, 0.4)], 0.12, (140, 140, 144))
    ends = pose.world([[0.34, -0.36, 1.08], [0.34, 0.36, 1.08]])
    bike.pen.stroke(stage.camera.project(ends), (40, 40, 42), 0.06 * bike.pixels)
    if np.cos(pose.yaw) > 0.3:
        block = pose.world([[-0.95, -0.17, 0.95], [-0.95, 0.17, 0.95], [-0.95, 0.12, 0.5], [-0.95, -0.12, 0.5]])
        bike.pen.fill(stage.camera.project(block), colour, 0.8)
        bike.pen.disc(bike.points([[-0.96, 0.84]])[0], 0.08 * bike.pixels, RED_LAMP, 1.3)
    elif np.cos(pose.yaw) < -0.3:
        block = pose.world([[0.6, -0.2, 1.05], [0.6, 0.2, 1.05], [0.6, 0.16, 0.7], [0.6, -0.16, 0.7]])
        bike.pen.fill(stage.camera.project(block), colour)
        bike.pen.disc(bike.points([[0.62, 0.88]])[0], 0.11 * bike.pixels, WHITE_LAMP, 1.4)


def paint_cyclist(stage: Stage, pose: Pose) -> None:
    """Paint a rider on a bicycle; the rider is class rider, what is under them bicycle."""
    paint_bicycle(stage, pose)
    _rider(stage, pose, seat=(-0.2, 0.98), hands=(0.3, 1.06), foot=(0.0, 0.26), lean=0.24)


def paint_motorcyclist(stage: Stage, pose: Pose) -> None:
    """Paint a rider on a motorcycle."""
    paint_motorcycle(stage, pose)
    _rider(stage, pose, seat=(-0.3, 0.94), hands=(0.32, 1.08), foot=(-0.02, 0.36), lean=0.2)


def _rider(stage: Stage, pose: Pose, *, seat: tuple[float, float], hands: tuple[float, float],
           foot: tuple[float, float], lean: float) -> None:  # fmt: skip
    person = _Upright(stage, stage.pen("rider", pose.z), pose)
    jacket, trousers, skin = stage.pick(*CLOTHES), stage.pick(*TROUSERS), stage.pick(*SKIN)
    helmet = stage.pick(*PAINTS, *HAIR)
    wide = 0.24 + 0.14 * abs(float(np.cos(pose.yaw)))
    shoulder = (seat[0] + lean, seat[1] + 0.5)
    knee = (seat[0] + 0.38, seat[1] - 0.22)
    turn = float(stage.rng.uniform(-0.12, 0.12))
    for side, shade in ((-1, 0.8), (1, 1.0)):
        leg = [seat, (knee[0], knee[1] + side * turn), (foot[0], foot[1] + side * turn)]
        person.stroke(leg, 0.14, trousers, shade, right=side * 0.12)
        person.stroke(
            [(foot[0], foot[1] + side * turn), (foot[0] + 0.12, foot[1] + side * turn)],
            0.1,
            (30, 28, 28),
            right=side * 0.12,
        )
    person.stroke([seat, ((seat[0] + shoulder[0]) / 2 - 0.03, (seat[1] + shoulder[1]) / 2), shoulder], wide, jacket)
    for side in (-1, 1):
        elbow = ((shoulder[0] + hands[0]) / 2, (shoulder[1] + hands[1]) / 2 - 0.06)
        person.stroke([(shoulder[0], shoulder[1] - 0.03), elbow, hands], 0.1, jacket, 1.08, right=side * 0.24)
    neck = (shoulder[0] + 0.04, shoulder[1] + 0.1)
    person.stroke([shoulder, neck], 0.12, skin, 0.9)
    head = person.points([(neck[0] + 0.03, neck[1] + 0.14)])[0]
    person.pen.disc(head, 0.14 * person.pixels, helmet)
    if np.cos(pose.yaw) < 0.4:
        person.pen.disc(
            head + (np.sin(pose.yaw) * 0.05 * person.pixels, 0.05 * person.pixels), 0.085 * person.pixels, skin
        )
