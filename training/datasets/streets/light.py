"""The light of a scene, and what the camera's sensor makes of it.

Illumination is one of the kinds of variety that scenes promise: sunny days with shadows, overcast, haze, dusk with
lamps lit, each with its own colour temperature.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.streets.canvas import Colour, Image


@dataclass(frozen=True, kw_only=True)
class Light:
    """Sky, sun and air."""

    name: str
    gain: Colour
    """What the light makes of white, per channel: brightness and colour temperature."""
    zenith: Colour
    """The sky's colour overhead."""
    skyline: Colour
    """The sky's colour at the horizon."""
    cloud: Colour
    """Colour of the clouds."""
    cloud_cover: float
    """Share of the sky under clouds, 0 to 1."""
    haze: float
    """Share of air in what is seen per 100 m."""
    sun: float
    """Side of the sun, -1 (left) to 1 (right)."""
    shadow: float
    """How much darker the shade is, 0 (no shadows) to 1."""
    lamps: bool = False
    """Whether lamps and windows are lit."""

    def facing(self, side: float) -> float:
        """Return how lit a surface is that faces left (-1), the camera (0) or right (1)."""
        return 1.0 - self.shadow * (0.28 - 0.42 * self.sun * side)


_SKIES = (
    Light(name="clear", gain=(1.04, 1.0, 0.93), zenith=(74, 128, 196), skyline=(184, 212, 232), cloud=(245, 246, 248),
          cloud_cover=0.25, haze=0.16, sun=0.0, shadow=0.55),
    Light(name="bright", gain=(1.12, 1.08, 1.0), zenith=(112, 160, 212), skyline=(214, 226, 234), cloud=(252, 252, 252),
          cloud_cover=0.5, haze=0.2, sun=0.0, shadow=0.45),
    Light(name="overcast", gain=(0.86, 0.89, 0.93), zenith=(186, 192, 200), skyline=(216, 218, 220),
          cloud=(164, 170, 178), cloud_cover=0.6, haze=0.3, sun=0.0, shadow=0.12),
    Light(name="hazy", gain=(0.98, 0.97, 0.93), zenith=(196, 204, 208), skyline=(226, 226, 222), cloud=(222, 224, 224),
          cloud_cover=0.3, haze=0.5, sun=0.0, shadow=0.2),
    Light(name="evening", gain=(1.02, 0.86, 0.68), zenith=(92, 118, 168), skyline=(246, 198, 142),
          cloud=(232, 168, 138), cloud_cover=0.4, haze=0.24, sun=0.0, shadow=0.5),
    Light(name="dusk", gain=(0.52, 0.52, 0.62), zenith=(52, 66, 108), skyline=(188, 142, 132), cloud=(92, 88, 116),
          cloud_cover=0.4, haze=0.2, sun=0.0, shadow=0.1, lamps=True),
)  # fmt: skip
_FREQUENCIES = (0.28, 0.2, 0.22, 0.1, 0.1, 0.1)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a scene's light: one of the skies, its brightness, warmth and sun a little different each time."""
    sky = _SKIES[rng.choice(len(_SKIES), p=_FREQUENCIES)]
    warmth, brightness = rng.normal(0, 0.03), rng.uniform(0.9, 1.08)
    red, green, blue = sky.gain
    fields = vars(sky) | {
        "gain": (red * brightness * (1 + warmth), green * brightness, blue * brightness * (1 - warmth)),
        "cloud_cover": float(np.clip(sky.cloud_cover + rng.normal(0, 0.15), 0.05, 0.9)),
        "sun": float(rng.choice([-1, 1]) * rng.uniform(0.3, 1)),
    }
    return Light(**fields)


def develop(colours: Image, light: Light, rng: np.random.Generator) -> Image:
    """Return painted colours, uint8 [H, W, 3], as a camera records them: slightly blurred, vignetted and noisy."""
    height, width = colours.shape[:2]
    sigma = 0.45 * max(height / 192, 1) ** 0.5
    exposed = cv2.GaussianBlur(colours, (0, 0), sigma).astype(np.float32)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    exposed *= (1 - 0.07 * (rows**2 + columns**2))[..., None]
    strength = 4.5 if light.lamps else 3.0
    noise = np.empty(exposed.shape, np.float32)
    grey = rng.standard_normal((height, width), np.float32)
    for channel in range(3):
        noise[..., channel] = grey
    exposed += noise * strength
    recorded: NDArray[np.uint8] = np.clip(np.rint(exposed), 0, 255).astype(np.uint8)
    return recorded
