"""The camera of a scene: a pinhole above the road, looking along it, and where points of the world fall on the frame.

The world is in metres: x to the right, y up from the ground, z forward from the camera. A gentle curve of the road is
part of the projection: everything at distance z is shifted sideways by `curvature * z**2`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera that looks along z."""

    focal: float
    """Focal length, pixels."""
    centre: float
    """Column of the vanishing point, pixels."""
    horizon: float
    """Row of the horizon, pixels."""
    height: float
    """Height above the ground, metres."""
    curvature: float = 0.0
    """Sideways shift of the world, metres per square metre of distance."""

    def project(self, points: ArrayLike) -> Points:
        """Project world points [..., 3] in front of the camera (z > 0) to (column, row) pixels [..., 2]."""
        world = np.asarray(points, np.float64)
        x, y, z = world[..., 0], world[..., 1], world[..., 2]
        scale = self.focal / z
        seen = np.empty((*world.shape[:-1], 2))
        seen[..., 0] = self.centre + (x + self.curvature * z * z) * scale
        seen[..., 1] = self.horizon + (self.height - y) * scale
        return seen

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal / z


@dataclass(frozen=True)
class Pose:
    """Where an object stands on the ground, and which way it heads."""

    x: float
    """Metres to the right."""
    z: float
    """Metres ahead."""
    yaw: float = 0.0
    """Heading, radians: 0 is away from the camera, pi/2 to the right."""

    def world(self, local: ArrayLike) -> Points:
        """Turn points (forward, right, up) [..., 3] of the object's own axes into world points [..., 3]."""
        points = np.asarray(local, np.float64)
        forward, right, up = points[..., 0], points[..., 1], points[..., 2]
        sine, cosine = math.sin(self.yaw), math.cos(self.yaw)
        world = np.empty_like(points)
        world[..., 0] = self.x + forward * sine + right * cosine
        world[..., 1] = up
        world[..., 2] = self.z + forward * cosine - right * sine
        return world
