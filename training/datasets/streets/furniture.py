"""Poles, lamps, traffic lights and traffic signs."""

from collections.abc import Callable

import numpy as np

from training.datasets.streets.camera import Points, Pose
from training.datasets.streets.canvas import Colour, Pen
from training.datasets.streets.stage import Stage, box

STEEL: tuple[Colour, ...] = ((122, 126, 128), (96, 100, 102), (150, 152, 150), (74, 84, 78))
RED, WHITE, BLUE, YELLOW, BLACK = (196, 30, 36), (236, 236, 232), (26, 78, 170), (240, 200, 40), (28, 28, 30)
SIGNS = ("limit", "prohibition", "warning", "yield", "stop", "round blue", "square blue", "priority", "board")


def paint_pole(stage: Stage, pose: Pose, height: float, thickness: float, colour: Colour | None = None) -> None:
    """Paint a pole, metres high and thick, lit from one side."""
    pen, colour = stage.pen("pole", pose.z), colour or stage.pick(*STEEL)
    half = thickness / 2
    pen.fill(stage.upright(pose, box(-half, 0, half, height)), colour, stage.light.facing(0))
    if thickness * stage.camera.scale(pose.z) > 3:
        pen.fill(stage.upright(pose, box(-half, 0, -half * 0.2, height)), colour, stage.light.facing(-1) * 0.9)


def paint_lamp(stage: Stage, pose: Pose, height: float, arm: float) -> None:
    """Paint a street lamp whose arm reaches `arm` metres to the right (negative: left)."""
    colour = stage.pick(*STEEL)
    paint_pole(stage, pose, height, 0.16, colour)
    pen = stage.pen("pole", pose.z)
    pixels = stage.camera.scale(pose.z)
    bend = [[0, height - 0.1], [arm * 0.4, height + 0.25], [arm, height + 0.3]]
    pen.stroke(stage.upright(pose, bend), colour, 0.1 * pixels)
    head = box(arm - 0.35, height + 0.2, arm + 0.35, height + 0.38)
    glow = (255, 236, 190) if stage.light.lamps else (190, 190, 184)
    pen.fill(stage.upright(pose, head), glow, 1.6 if stage.light.lamps else 1.0)


def paint_signal(stage: Stage, pose: Pose, *, arm: float = 0.0, height: float = 2.6, away: bool = False) -> None:
    """Paint a traffic light on its pole, or at the end of an arm; one that faces away shows its dark back."""
    colour = stage.pick((96, 100, 102), (74, 84, 78), (122, 126, 128))
    paint_pole(stage, pose, height + (0.6 if arm else 1.0), 0.15, colour)
    if arm:
        reach = [[0, height + 0.5], [arm, height + 0.6]]
        stage.pen("pole", pose.z).stroke(stage.upright(pose, reach), colour, 0.12 * stage.camera.scale(pose.z))
    signal_head(stage, Pose(pose.x + arm, pose.z), height, away=away)


def signal_head(stage: Stage, pose: Pose, height: float, *, away: bool = False) -> None:
    """Paint the three lamps of a traffic light, their housing's foot at `height` metres."""
    pen = stage.pen("traffic light", pose.z)
    if stage.rng.random() < 0.35:
        pen.fill(stage.upright(pose, box(-0.32, height - 0.12, 0.32, height + 1.22)), WHITE, 0.95)
        pen.fill(stage.upright(pose, box(-0.27, height - 0.07, 0.27, height + 1.17)), BLACK)
    housing = stage.pick((34, 36, 36), (40, 54, 46), (52, 52, 50), (196, 160, 40))
    pen.fill(stage.upright(pose, box(-0.21, height, 0.21, height + 1.1)), housing)
    if away:
        return
    lit = stage.rng.integers(3)
    lamps: tuple[Colour, ...] = ((255, 60, 44), (255, 196, 50), (60, 255, 150))
    pixels = stage.camera.scale(pose.z)
    for number, bright in enumerate(lamps):
        centre = stage.upright(pose, [[0, height + 0.9 - number * 0.35]])[0]
        pen.disc(centre, 0.145 * pixels, bright, 1.35 if number == lit else 0.22)


def paint_sign(stage: Stage, pose: Pose, kind: str | None = None, height: float = 2.4, size: float = 0.8) -> None:
    """Paint a traffic sign, its middle at `height` metres, on a pole; one of `SIGNS`, drawn if not named."""
    kind = kind or SIGNS[stage.rng.integers(len(SIGNS))]
    paint_pole(stage, pose, height + size * 0.3, 0.09)
    if stage.rng.random() < 0.12:
        outline = box(-size * 0.45, height - size * 0.45, size * 0.45, height + size * 0.45)
        stage.pen("traffic sign", pose.z).fill(stage.upright(pose, outline), (150, 152, 152))
        return
    sign_face(stage, pose, kind, height, size)


def sign_face(stage: Stage, pose: Pose, kind: str, height: float, size: float) -> None:
    """Paint the face of a sign of that kind."""
    pen, half = stage.pen("traffic sign", pose.z), size / 2

    def shape(corners: int, share: float, turn: float = 0.0) -> Points:
        angles = np.arange(corners) * 2 * np.pi / corners + turn + np.pi / 2
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half * share
        return stage.upright(pose, around + (0, height))

    def bar(left: float, bottom: float, right: float, top: float) -> Points:
        corners = box(left, bottom, right, top) * half
        return stage.upright(pose, corners + (0, height))

    if kind in ("limit", "prohibition"):
        pen.fill(shape(18, 1), RED)
        pen.fill(shape(18, 0.74), WHITE)
        if kind == "limit":
            pen.fill(bar(-0.42, -0.36, -0.1, 0.36), BLACK)
            pen.fill(bar(0.08, -0.36, 0.42, 0.36), BLACK)
        else:
            pen.fill(shape(18, 1), RED)
            pen.fill(bar(-0.66, -0.2, 0.66, 0.2), WHITE)
    elif kind in ("warning", "yield"):
        turn = 0.0 if kind == "warning" else np.pi
        pen.fill(shape(3, 1.2, turn), RED)
        pen.fill(shape(3, 0.72, turn), WHITE)
        if kind == "warning":
            pen.fill(bar(-0.1, -0.25, 0.1, 0.35), BLACK)
    elif kind == "stop":
        pen.fill(shape(8, 1.05, np.pi / 8), WHITE)
        pen.fill(shape(8, 0.96, np.pi / 8), RED)
        pen.fill(bar(-0.62, -0.16, 0.62, 0.2), WHITE)
    elif kind == "round blue":
        pen.fill(shape(18, 1), WHITE)
        pen.fill(shape(18, 0.9), BLUE)
        pen.fill(bar(-0.14, -0.5, 0.14, 0.3), WHITE)
        pen.fill(shape(3, 0.42), WHITE)
    elif kind == "square blue":
        pen.fill(bar(-0.92, -0.92, 0.92, 0.92), WHITE)
        pen.fill(bar(-0.84, -0.84, 0.84, 0.84), BLUE)
        pen.fill(shape(3, 0.7), WHITE)
    elif kind == "priority":
        pen.fill(shape(4, 1.2), WHITE)
        pen.fill(shape(4, 0.86), YELLOW)
    else:
        _board(stage, pen, bar)


def _board(stage: Stage, pen: Pen, bar: Callable[[float, float, float, float], Points]) -> None:
    """A direction board: a coloured plate with lines of writing."""
    plate, ink = [(YELLOW, BLACK), (BLUE, WHITE), (WHITE, BLACK), ((30, 110, 70), WHITE)][stage.rng.integers(4)]
    pen.fill(bar(-1.7, -0.95, 1.7, 0.95), ink)
    pen.fill(bar(-1.62, -0.87, 1.62, 0.87), plate)
    for row in (0.5, 0.0, -0.5):
        end = stage.rng.uniform(0.2, 1.3)
        pen.fill(bar(-1.3, row - 0.13, end, row + 0.13), ink)
