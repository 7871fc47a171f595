"""What a painter of objects gets: canvas, camera, light and random numbers in one hand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from training.datasets.streets.camera import Camera, Points, Pose
from training.datasets.streets.canvas import Canvas, Colour, Pen, class_id
from training.datasets.streets.light import Light


@dataclass(frozen=True)
class Stage:
    """One scene being painted."""

    canvas: Canvas
    camera: Camera
    light: Light
    rng: np.random.Generator

    def pen(self, name: str | None, z: float) -> Pen:
        """Return a pen for the class `name` (None: no class) at distance z metres."""
        haze = 1 - (1 - self.light.haze) ** (max(z, 0.0) / 100)
        return Pen(
            self.canvas, None if name is None else class_id(name), self.light.gain, self.light.skyline, min(haze, 0.85)
        )

    def upright(self, pose: Pose, points: ArrayLike) -> Points:
        """Project points (right, up) [N, 2], metres, of a plane through the pose that faces the camera."""
        flat = np.asarray(points, np.float64)
        world = np.empty((len(flat), 3))
        world[:, 0], world[:, 1], world[:, 2] = pose.x + flat[:, 0], flat[:, 1], pose.z
        return self.camera.project(world)

    def ground(self, points: ArrayLike) -> Points:
        """Project points (x, z) [N, 2], metres, on the ground."""
        flat = np.asarray(points, np.float64)
        return self.camera.project(np.stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]], axis=1))

    def visible(self, corners: Points) -> bool:
        """Whether the box around projected points [N, 2] touches the frame."""
        low, high = corners.min(axis=0), corners.max(axis=0)
        return bool(high[0] > 0 and high[1] > 0 and low[0] < self.canvas.width and low[1] < self.canvas.height)

    def shadow(self, pose: Pose, length: float, width: float) -> None:
        """Darken the ground under an object of that footprint, metres, and beside it where the sun shines."""
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * (length / 2, width / 2, 0)
        shape = pose.world(corners)[:, [0, 2]]
        shape[:, 1] = np.maximum(shape[:, 1], 1.0)
        pen = self.pen(None, pose.z)
        pen.veil(self.ground(shape), (18, 18, 24), 0.5)
        self.cast(shape - (self.light.sun * 1.1, 0))

    def cast(self, shape: Points) -> None:
        """Darken a piece of ground, (x, z) [N, 2] metres, if the sun shines."""
        if self.light.shadow > 0.3:
            self.pen(None, 0).veil(self.ground(shape), (22, 26, 40), 0.36)

    def pick(self, *choices: Colour) -> Colour:
        """Return one of some colours, a little varied."""
        colour = np.asarray(choices[self.rng.integers(len(choices))]) * self.rng.uniform(0.9, 1.1)
        red, green, blue = np.clip(colour + self.rng.normal(0, 3, 3), 0, 255).tolist()
        return red, green, blue


def box(left: float, bottom: float, right: float, top: float) -> Points:
    """Return the corners [4, 2] of a rectangle: top left, top right, bottom right, bottom left."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
