"""Saliency as a feature: three maps of a frame, global and through two croppings, as distributions per superpixel."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.features.saliency.drfi import drfi_maps
from training.features.saliency.forest import load_forest
from training.features.saliency.geodesic import geodesic_map
from training.features.saliency.tiles import CROPPINGS
from training.features.superpixels import region_histograms
from training.settings.method import SaliencySettings

BINS = 32
SMOOTHING = 0.25
"""Deviation of the Gaussian over each map, in sides of a superpixel. A map is constant within a region; without it two
neighbours of nearly equal saliency could share no bin. Of 0, 1/4, 1/2 and 1 the best on CamVid's training frames."""

SaliencyMaps = Callable[[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]], list[NDArray[np.float32]]]
"""Takes a frame, uint8 [H, W, 3], RGB, its CIELAB pixels, float32 [H, W, 3], and its superpixels, int32 [H, W]; returns
the map of each view, float32 [H, W] in [0, 1]."""


def open_saliency(settings: SaliencySettings) -> SaliencyMaps:
    """Return the method that the settings name, ready for any number of frames.

    Raises
    ------
    InputError
        If the forest's file is missing or is not one.
    """
    if settings.method == "none":
        return lambda _frame, _lab, _labels: []
    if settings.method == "geodesic":
        return lambda _frame, lab, labels: [geodesic_map(lab, labels, *tiles) for tiles in CROPPINGS]
    forest = load_forest(settings.forest)
    return lambda frame, _lab, _labels: drfi_maps(frame, forest)


def saliency(
    frame: NDArray[np.uint8], lab: NDArray[np.float32], labels: NDArray[np.int32], count: int, maps: SaliencyMaps
) -> NDArray[np.float32]:
    """Return the saliency features of each superpixel.

    Parameters
    ----------
    frame, lab
        RGB, uint8 [H, W, 3], and CIELAB, float32 [H, W, 3].
    labels, count
        Superpixels, int32 [H, W], and their number K.
    maps
        The method.

    Returns
    -------
    float32 [K, V, 32]
        Distribution of the saliency over the superpixel's pixels in each of the method's V views, three or none; each
        sums to 1.
    """
    sigma = SMOOTHING * np.sqrt(labels.size / count)
    views = [ndimage.gaussian_filter(view, sigma) for view in maps(frame, lab, labels)]
    if not views:
        return np.zeros((count, 0, BINS), np.float32)
    return np.stack([region_histograms(np.clip(view, 0, 1), labels, count, BINS) for view in views], axis=1)
